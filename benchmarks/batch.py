"""Batches of nano clips on this machine: throughput against a loop over the API, kills, and bad rows.

`throughput` renders the same rows with one worker looping over the API and with the batch, in turns. `kills` sends
SIGKILL to a worker, its ComfyUI or the driver at random moments, starts the driver again where it was killed, and
compares every file with that of an uninterrupted run. `bad` mixes rows with every kind of fault into a table. Needs
COMFYUI_PATH and Ray.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import os
import random
import re
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import psutil
from PIL import Image

from ..batch.graph import FOLDER, bind, find_graph, prompt
from ..batch.graph import file_targets as targets_of_files
from ..scripts._client import ComfyClient, videos
from ..scripts._environment import ROOT
from .command import command_parser, report, scratch_folder
from .served import start_server, write_speech
from .speech import repeated_speech

ASSETS = ROOT / "workflows" / "assets"
PORTRAITS = ("asymtalker_portrait.png", "asymtalker_portrait_2.png")
ACTOR = "ray::LazyRenderer"
TARGETS = ("worker", "ComfyUI", "driver")
WEIGHTS = (2, 2, 1)
"""A killed driver restarts everything; the other kills should also happen during rendering."""


def parse_arguments(arguments: list[str] | None) -> argparse.Namespace:
    """Return the command line's options."""
    parser = command_parser(" batch", __doc__)
    parser.add_argument("what", choices=("throughput", "kills", "bad"))
    parser.add_argument("--rows", type=int, default=60, help="rows of the table (default: %(default)s)")
    parser.add_argument("--seconds", type=float, nargs=2, default=(0.5, 1.0), help="lengths of the clips, from and to")
    parser.add_argument("--kills", type=int, default=20, help="number of kills (default: %(default)s)")
    parser.add_argument(
        "--pause", type=float, default=20.0, help="longest time between two kills in seconds (default: %(default)s)"
    )
    parser.add_argument(
        "--undisturbed", type=Path, help="output folder of an uninterrupted run of the same table (default: run it)"
    )
    parser.add_argument("--rounds", type=int, default=3, help="rounds of `throughput` (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the kills (default: %(default)s)")
    parser.add_argument("--workdir", type=Path, help="folder for all files (default: a temporary one)")
    parser.add_argument("--json", type=Path, help="JSON file for the figures")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    """Run the command; the exit status is 0 only if nothing was wrong."""
    options = parse_arguments(arguments)
    with scratch_folder("batch-", options.workdir) as folder:
        table = write_table(folder / "table", options.rows, tuple(options.seconds))
        if options.what == "throughput":
            figures = throughput(table, folder, options.rounds)
        elif options.what == "kills":
            figures = kills(table, folder, options.kills, options.seed, options.pause, options.undisturbed)
        else:
            figures = bad_rows(table, folder)
    return report(figures, options.json)


def write_table(folder: Path, rows: int, seconds: tuple[float, float]) -> Path:
    """A table of clips of various lengths, the same each time, with its files beside it."""
    folder.mkdir(parents=True)
    rng = random.Random(0)
    for name in PORTRAITS:
        shutil.copyfile(ASSETS / name, folder / name)
    speech = repeated_speech(2 * seconds[1] + rows)
    table = folder / "clips.csv"
    with table.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(("portrait", "audio", "output", "AsymTalkerSampler.seed"))
        for row in range(rows):
            name = f"speech_{row:03d}.wav"
            start, length = 16000 * row, round(16000 * rng.uniform(*seconds))
            write_speech(folder / name, speech[start : start + length])
            writer.writerow((rng.choice(PORTRAITS), name, f"clip_{row:03d}", row))
    return table


@contextmanager
def running_batch(table: Path, out: Path, *options: str) -> Iterator[subprocess.Popen[bytes]]:
    """The command, in a process of its own."""
    command = [sys.executable, "-m", "asymtalker.batch", str(table), "--out", str(out), "--no-dashboard", *options]
    with out.with_suffix(".log").open("ab") as log:
        process = subprocess.Popen(command, stderr=log, stdout=log, cwd=table.parent)
        try:
            yield process
        finally:
            process.terminate()
            process.wait()


def run_batch(table: Path, out: Path, *options: str) -> int:
    """Run the command to its end; its exit status."""
    with running_batch(table, out, *options) as process:
        return process.wait()


def throughput(table: Path, folder: Path, rounds: int) -> dict[str, Any]:
    """Clips a minute of a loop with one server, and of the batch with one and two workers, measured alternately."""
    found: dict[str, list[dict[str, float]]] = {"loop": [], "one worker": [], "two workers": []}
    for number in range(rounds):
        found["loop"].append(_loop(table, folder / f"loop_{number}"))
        for name, workers in (("one worker", 1), ("two workers", 2)):
            found[name].append(_timed_batch(table, folder / f"batch_{workers}_{number}", workers))
        print({name: values[-1] for name, values in found.items()}, file=sys.stderr, flush=True)
    rates = {name: [values["clips_per_minute"] for values in runs] for name, runs in found.items()}
    idle = [run["idle_share"] for name in ("one worker", "two workers") for run in found[name]]
    ratios = {
        name: median(a / b for a, b in zip(rates[name], rates["loop"], strict=True))
        for name in ("one worker", "two workers")
    }
    return {
        "rows": _count(table),
        "clips_per_minute": {name: round(median(values), 2) for name, values in rates.items()},
        "ratio_to_loop": {name: round(value, 3) for name, value in ratios.items()},
        "idle_share": round(median(idle), 4),
        "rounds": found,
        "passed": ratios["two workers"] >= 0.95 and median(idle) <= 0.03,
    }


def _count(table: Path) -> int:
    return len(_rows(table))


def _rows(table: Path) -> list[dict[str, str]]:
    with table.open(encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def _loop(table: Path, folder: Path) -> dict[str, float]:
    """A simple script: one server, one row after the other; timed from the end of the first row."""
    folder.mkdir()
    graph, rows = find_graph("nano"), _rows(table)
    template = bind(graph, [name for name in rows[0] if name != "output"])
    with start_server(folder) as server:
        client = ComfyClient(server.url)
        object_info = client.object_info()
        ends = []
        for row in rows:
            filled = template.fill(row)
            names = {
                target: client.upload(table.parent / str(filled[target.node]["inputs"][target.name]))
                for target in targets_of_files(graph)
            }
            (file,) = videos(client.run(prompt(filled, names, row["output"], object_info)))
            client.download(file, folder / f"{row['output']}.mp4")
            ends.append(time.monotonic())
    return {"clips_per_minute": 60 * (len(rows) - 1) / (ends[-1] - ends[0])}


def _timed_batch(table: Path, out: Path, workers: int) -> dict[str, float]:
    """The batch's rate from the first row's end on, when the model is loaded, and the servers' idle time."""
    status = run_batch(table, out, "--workers", str(workers))
    if status != 0:
        raise RuntimeError(f"the batch ended with status {status}:\n{out.with_suffix('.log').read_text()}")
    with sqlite3.connect(out / ".batch" / "ledger.sqlite") as ledger:
        ends = sorted(end for (end,) in ledger.execute("SELECT ended FROM attempts WHERE outcome = 'done'"))
        results = [json.loads(text) for (text,) in ledger.execute("SELECT result FROM clips")]
    # The first rows of all workers include loading the model.
    ends = ends[workers - 1 :]
    gaps = [result["gap_s"] for result in results if result["gap_s"] is not None]
    runs = [result["run_s"] for result in results]
    rate = 60 * (len(ends) - 1) / (ends[-1] - ends[0])
    return {"clips_per_minute": rate, "idle_share": sum(gaps) / (sum(gaps) + sum(runs)), "median_gap_s": median(gaps)}


def kills(table: Path, folder: Path, count: int, seed: int, pause_s: float, reference: Path | None) -> dict[str, Any]:
    """Render the table repeatedly, and kill workers, servers and drivers until ``count`` are killed."""
    rng = random.Random(seed)
    expected_out = reference or folder / "undisturbed"
    if reference is None and run_batch(table, expected_out, "--workers", "2") != 0:
        raise RuntimeError(expected_out.with_suffix(".log").read_text())
    expected = _hashes(expected_out)
    killed: list[str] = []
    batches: list[dict[str, Any]] = []
    while len(killed) < count:
        out = folder / f"killed_{len(batches)}"
        already = len(killed)
        with watched(out) as saved:
            status = None
            while status is None:
                with running_batch(table, out, "--workers", "2") as process:
                    status = _disturb(process, killed, count, lambda: rng.uniform(0.0, pause_s), rng)
        if status != 0:
            print(f"the last run ended with {status}:\n{out.with_suffix('.log').read_text()}", file=sys.stderr)
        batches.append({"kills": killed[already:], "status": status, **_compared(out, expected, saved)})
        print(batches[-1], file=sys.stderr, flush=True)
    wrong = [batch for batch in batches if batch["identical"] != batch["rows"] or batch["saved_more_than_once"]]
    return {
        "rows": len(expected),
        "kills": dict(Counter(killed)),
        "batches": batches,
        "passed": not wrong and all(batch["status"] == 0 for batch in batches),
    }


def _compared(out: Path, expected: dict[str, str], saved: dict[str, set[int]]) -> dict[str, Any]:
    """A comparison of a batch's files with the uninterrupted run's, and figures from its ledger."""
    found = _hashes(out)
    with sqlite3.connect(out / ".batch" / "ledger.sqlite") as ledger:
        outcomes = Counter(outcome for (outcome,) in ledger.execute("SELECT outcome FROM attempts"))
        finished = Counter(clip for (clip,) in ledger.execute("SELECT clip FROM attempts WHERE outcome = 'done'"))
        results = [json.loads(text) for (text,) in ledger.execute("SELECT result FROM clips")]
    return {
        "rows": len(expected),
        "identical": sum(found.get(name) == digest for name, digest in expected.items()),
        "saved_more_than_once": sum(len(files) > 1 for files in saved.values()),
        "finished_more_than_once": sum(number > 1 for number in finished.values()),
        "resumed_after_their_last_chunk": sum(result.get("chunks_resumed", 0) > 0 for result in results),
        "attempts": dict(outcomes),
    }


def _disturb(
    process: subprocess.Popen[bytes], killed: list[str], count: int, pause: Callable[[], float], rng: random.Random
) -> int | None:
    """Kill until the driver is killed (None) or the batch ends (its status)."""
    while len(killed) < count:
        try:
            return process.wait(pause())
        except subprocess.TimeoutExpired:
            pass
        target = rng.choices(TARGETS, WEIGHTS)[0]
        victims = [process.pid] if target == "driver" else _victims(process.pid, target)
        if not victims:
            continue
        os.kill(rng.choice(victims), signal.SIGKILL)
        killed.append(target)
        print(f"kill {len(killed)}: {target}", file=sys.stderr, flush=True)
        if target == "driver":
            process.wait()
            return None
    return process.wait()


def _victims(driver: int, target: str) -> list[int]:
    """Process ids of the driver's workers, or of their servers."""
    found = []
    for process in psutil.Process(driver).children(recursive=True):
        try:
            line = " ".join(process.cmdline())
        except psutil.Error:
            continue
        # Ray has a main.py too.
        is_server = "--disable-auto-launch" in line and "_guard.py" not in line
        if (target == "worker" and line.startswith(ACTOR)) or (target == "ComfyUI" and is_server):
            found.append(process.pid)
    return found


@contextmanager
def watched(out: Path) -> Iterator[dict[str, set[int]]]:
    """Watch the files that the servers save while the block runs: {clip: inodes of its finished videos}."""
    saved: dict[str, set[int]] = {}
    over = threading.Event()
    folder = out / ".batch" / "servers" / socket.gethostname() / "output" / FOLDER

    def look() -> None:
        while not over.wait(0.003):
            for file in folder.glob("*/*.mp4"):
                try:
                    saved.setdefault(file.parent.name, set()).add(file.stat().st_ino)
                except OSError:
                    continue

    watcher = threading.Thread(target=look)
    watcher.start()
    try:
        yield saved
    finally:
        over.set()
        watcher.join()


def _hashes(out: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in out.glob("*.mp4")}


def bad_rows(table: Path, folder: Path) -> dict[str, Any]:
    """Two rows with each kind of fault: each is to be reported by row and column, and the others done.

    The graph crops the face, so that a portrait without one is a fault.
    """
    rows = _rows(table)
    for name in PORTRAITS:
        shutil.copyfile(ASSETS / "asymtalker_painting.png", table.parent / name)
    (table.parent / "noise.wav").write_bytes(random.Random(0).randbytes(5000))
    (table.parent / "damaged.png").write_bytes((ASSETS / "asymtalker_painting.png").read_bytes()[:2000])
    Image.linear_gradient("L").save(table.parent / "no_face.png")
    changes = [
        {"audio": "missing.wav"},
        {"audio": "noise.wav"},
        {"portrait": "damaged.png"},
        {"portrait": "no_face.png"},
        {"AsymTalkerSampler.seed": "seven"},
    ] * 2
    # A name that two rows share is a fault of both.
    changes += [{"output": "the same"}] * 2
    expected: dict[int, str] = {}
    for number, change in enumerate(changes):
        row = 3 + 4 * number
        rows[row] |= change
        (expected[row + 2],) = change
    with table.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    out = folder / "out"
    status = run_batch(table, out, "--workers", "2", "--workflow", "asymtalker_larger_picture")
    with (out / "report.csv").open(encoding="utf-8") as stream:
        report = list(csv.DictReader(stream))
    # The face is looked for when the clip is rendered; the other faults are found before that.
    refused = {int(row["row"]): row["column"] for row in report if row["state"] in ("refused", "failed")}
    done = sum(row["state"] == "done" for row in report)
    return {
        "rows": len(rows),
        "bad_rows": len(expected),
        "reported_by_row_and_column": sum(refused.get(row) == column for row, column in expected.items()),
        "done": done,
        "reasons": sorted({re.sub(r"/\S*/", "", row["reason"]) for row in report if row["reason"]}),
        "passed": refused == expected and done == len(rows) - len(expected) and status == 1,
    }


if __name__ == "__main__":
    sys.exit(main())
