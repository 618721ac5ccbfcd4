"""The command on real Ray with real ComfyUIs: bad rows, kills, a server behind a token, a dry run."""

from __future__ import annotations

import csv
import json
import math
import os
import re
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from asymtalker.batch.__main__ import main
from asymtalker.host.server import VERSION
from asymtalker.scripts._environment import ROOT
from asymtalker.scripts._server import ComfyServer
from asymtalker.tests.batch.gate import TOKEN, Gate, OldServer
from asymtalker.tests.server.media import probe, speech_like, write_wav

pytest.importorskip("ray")
pytestmark = [pytest.mark.server, pytest.mark.skipif(sys.platform == "win32", reason="sends SIGKILL")]

LENGTHS_S = (0.5, 0.6, 0.7, 0.8, 6.0)
LIMIT_S = 900
PORTRAIT = ROOT / "workflows" / "assets" / "asymtalker_portrait.png"


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table of clips, the last one of several chunks."""
    folder = tmp_path_factory.mktemp("table")
    for number, seconds in enumerate(LENGTHS_S):
        write_wav(folder / f"{number}.wav", speech_like(seconds, 16000, 1), 16000)
    rows = [(PORTRAIT, f"{number}.wav", f"clip {number}", number) for number in range(len(LENGTHS_S))]
    return write_rows(folder / "clips.csv", rows)


def write_rows(path: Path, rows: list[tuple[Any, ...]]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows([("portrait", "audio", "output", "AsymTalkerSampler.seed"), *rows])
    return path


def read_report(out: Path) -> dict[int, dict[str, str]]:
    with (out / "report.csv").open(encoding="utf-8", newline="") as stream:
        return {int(row["row"]): row for row in csv.DictReader(stream)}


def videos(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in out.glob("*.mp4")}


@contextmanager
def batch(table: Path, out: Path, workers: int = 1) -> Iterator[subprocess.Popen[str]]:
    """The command; each worker starts a ComfyUI."""
    command = [sys.executable, "-m", "asymtalker.batch", str(table), "--out", str(out), "--workers", str(workers)]
    # One thread for each worker, whatever this machine has.
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [*command, "--no-dashboard"], stderr=subprocess.PIPE, text=True, env=environment, cwd=table.parent
    )
    try:
        yield process
    finally:
        process.terminate()
        process.communicate()


def servers_of(out: Path) -> list[int]:
    """Process ids of ComfyUIs that write into the output folder."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        line = process.info["cmdline"] or []
        if any(part.endswith("main.py") for part in line[:2]) and any(str(out) in part for part in line):
            found.append(process.pid)
    return found


def workers_of(driver: subprocess.Popen[str]) -> list[int]:
    """Process ids of a driver's workers."""
    below = {child.pid for child in psutil.Process(driver.pid).children(recursive=True)}
    lines = {process.pid: process.info["cmdline"] or [""] for process in psutil.process_iter(["cmdline"])}
    return [pid for pid in below if lines.get(pid, [""])[0].startswith("ray::LazyRenderer")]


def wait_for(condition: Callable[[], Any], process: subprocess.Popen[str]) -> Any:
    """Wait until a condition holds, while the command runs."""
    while not (found := condition()):
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.02)
    return found


@pytest.fixture(scope="module")
def undisturbed(comfyui: Path, table: Path) -> Path:
    """The table's output, with two bad rows among the others."""
    out = table.parent / "undisturbed"
    bad = [(PORTRAIT, "none.wav", "bad 1", 1), (PORTRAIT, "1.wav", "bad 2", "seven")]
    rows = [tuple(row) for row in csv.reader(table.open(encoding="utf-8"))][1:]
    with batch(write_rows(table.parent / "bad.csv", [*rows, *bad]), out) as process:
        _, errors = process.communicate(timeout=LIMIT_S)
    assert process.returncode == 1, errors
    return out


def test_good_rows_are_rendered_and_bad_ones_reported(undisturbed: Path) -> None:
    report = read_report(undisturbed)
    assert [row["state"] for row in report.values()] == ["done"] * 5 + ["refused"] * 2
    assert report[7]["column"] == "audio" and report[8]["column"] == "AsymTalkerSampler.seed"
    for number, seconds in enumerate(LENGTHS_S):
        found = probe(undisturbed / f"clip {number}.mp4")
        assert len(found.frames) == math.ceil(seconds * 25) and found.metadata["comment"]
    # The longest is first; its report's figures are there.
    assert float(report[6]["worst seam"]) > 0 and report[6]["attempts"] == "1"
    assert (undisturbed / "report.html").read_text(encoding="utf-8").count("data:image/jpeg") == 5
    assert servers_of(undisturbed) == []


def test_killed_server_worker_and_driver(undisturbed: Path, table: Path) -> None:
    """Two workers begin, one ends what they left."""
    out = table.parent / "killed"
    with batch(table, out, workers=2) as process:
        logs = ".batch/servers/*/worker_*/comfyui.log"

        def within_the_long_clip() -> list[Path]:
            return [log for log in out.glob(logs) if "chunk 2 of 6" in log.read_text("utf-8", "replace")]

        (log,) = wait_for(within_the_long_clip, process)
        os.kill(int(log.with_name("comfyui.pid").read_text()), signal.SIGKILL)
        wait_for(lambda: videos(out), process)
        os.kill(workers_of(process)[0], signal.SIGKILL)
        wait_for(lambda: len(videos(out)) >= 2, process)
        process.kill()
        process.wait()
    before = {path: path.stat().st_ino for path in out.glob("*.mp4")}
    with batch(table, out) as process:
        _, errors = process.communicate(timeout=LIMIT_S)
    assert process.returncode == 0, errors
    assert videos(out) == videos(undisturbed)
    # What was done stays, and the killed clip went on after the chunks that it had.
    assert {path: path.stat().st_ino for path in before} == before
    with sqlite3.connect(out / ".batch" / "ledger.sqlite") as ledger:
        results = [json.loads(text) for (text,) in ledger.execute("SELECT result FROM clips")]
        attempts = ledger.execute("SELECT clip, worker, outcome, reason FROM attempts ORDER BY id").fetchall()
    # A clip that was saved just before its worker was killed has no report, and a clip that was delivered just before
    # the driver was killed has no attempt that ended as done.
    resumed = [result.get("chunks_resumed") for result in results]
    assert None in resumed or max(resumed) >= 1, attempts
    done = [clip for clip, _, outcome, _ in attempts if outcome == "done"]
    assert len(done) == len(set(done)), attempts
    assert {row["state"] for row in read_report(out).values()} == {"done"}
    assert servers_of(out) == []


@pytest.fixture
def gate(server: ComfyServer) -> Iterator[Gate]:
    """A gate before the shared server."""
    with Gate(server.url) as opened:
        yield opened


def test_a_server_that_wants_a_token(
    gate: Gate, table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("GATE_TOKEN", TOKEN)
    rows = [(PORTRAIT, f"{table.parent / str(number)}.wav", f"clip {number}", 5) for number in range(3)]
    rows.append((PORTRAIT, f"{table.parent / '0'}.wav", "too large", 2**70))
    few, out = write_rows(tmp_path / "few.csv", rows), tmp_path / "out"
    command = [str(few), "--out", str(out), "--servers", gate.url, "--no-dashboard"]
    token = ["--header", "Authorization: $GATE_TOKEN"]
    assert main(command) == 2
    assert "refuses the request (401); check --header" in capsys.readouterr().err
    assert main([*command, *token, "--dry-run"]) == 1
    printed = capsys.readouterr()
    assert re.search(r"clips: +3 to render, 0 done, 1 rows refused\n", printed.out) and "time: " in printed.out
    assert "row 5, column AsymTalkerSampler.seed: " in printed.err and videos(out) == {}
    refused = gate.refused
    assert main([*command, *token]) == 1
    assert [row["state"] for row in read_report(out).values()] == ["done"] * 3 + ["refused"]
    # Others find the server's queue with at most the one run of this batch in it.
    assert len(videos(out)) == 3 and gate.refused == refused and set(gate.queued) == {0}
    for file in [path for path in out.rglob("*") if path.is_file()]:
        assert TOKEN.encode() not in file.read_bytes()


def test_a_server_with_another_version_is_refused_by_name(
    table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with OldServer("") as old:
        assert main([str(table), "--out", str(tmp_path / "out"), "--servers", old.url]) == 2
    assert f"{old.url} has ComfyUI-AsymTalker 0.0.9, this is {VERSION}" in capsys.readouterr().err
    assert videos(tmp_path / "out") == {}


def test_a_folder_that_takes_no_files(
    table: Path, make_tmpfs: Callable[[str], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    folder = make_tmpfs("512k")
    assert main([str(table), "--out", str(folder)]) == 2
    assert f"--out {folder}: files cannot be written to it (No space left on device)" in capsys.readouterr().err
    subprocess.run(["mount", "-o", "remount,ro", str(folder)], check=True)
    assert main([str(table), "--out", str(folder / "new")]) == 2
    assert "Read-only file system" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("colour\nred\n", "column colour: unknown"),
        ("audio\n", "the table has no rows"),
    ],
)
def test_a_table_that_cannot_be_used(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], rows: str, message: str
) -> None:
    (tmp_path / "clips.csv").write_text(rows, encoding="utf-8")
    assert main([str(tmp_path / "clips.csv"), "--out", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert message in error and error.startswith("Error: ") and len(error.splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_the_readmes_command_runs_from_any_folder(comfyui: Path, tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "scripts" / "batch.py"), "none.csv", "--out", "videos"]
    environment = {**os.environ, "COMFYUI_PATH": str(comfyui)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr == f"Error: {tmp_path / 'none.csv'}: no such file or directory\n"
    assert not (tmp_path / "videos").exists()
