"""The batch's driver with the events of a thousand workers and a hundred thousand rows, on real Ray.

Everything but the renderer is the real thing: table, plan, orders, actor calls, progress notes, parts and records on
the disk, renaming, ledger, report. A few Ray actors each stand for many workers: an order takes them a random time, and
some fail or are lost. The figures are the driver's memory and its rate, which its own work limits.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import resource
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..batch.cluster import Cluster, import_ray
from ..batch.driver import Driver
from ..batch.graph import ASSETS, bind, find_graph
from ..batch.ledger import Ledger
from ..batch.plan import Failure, Plan, make_plan
from ..batch.progress import Board, ProgressTable
from ..batch.report import entries, write_reports
from ..batch.shelf import Part, Record, Shelf, part_path
from ..batch.storage import Depot, SentStorage
from ..batch.table import read_table
from ..batch.worker import Order, Outcome, Status
from .command import command_parser, report, scratch_folder

HOSTS = 4
VIDEO_BYTES = 1000
THUMBNAIL_BYTES = 3000
FAILING = 0.002
SENT_BYTES = 256 << 20
NOTES_PER_SECOND = 100.0
"""Progress messages of all workers together, as in a batch."""


def parse_arguments(arguments: list[str] | None) -> argparse.Namespace:
    """Return the command line's options."""
    parser = command_parser(".batch_scale", __doc__)
    parser.add_argument("--rows", type=int, default=100_000, help="rows of the table (default: %(default)s)")
    parser.add_argument("--workers", type=int, default=1000, help="workers that are simulated (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=1.0, help="mean time of an order (default: %(default)s)")
    parser.add_argument("--workdir", type=Path, help="folder for all files (default: a temporary one)")
    parser.add_argument("--json", type=Path, help="JSON file for the figures")
    return parser.parse_args(arguments)


class Host:
    """Simulates many workers; an actor for Ray whose methods run concurrently."""

    def __init__(self, parts: Path, board: Any, workers: int, seconds: float) -> None:
        self._parts, self._board, self._seconds = parts, board, seconds
        self._note_interval_s = workers / NOTES_PER_SECOND
        self._noted_s: dict[str, float] = {}
        self._rng = random.Random(0)

    async def ready(self, name: str) -> tuple[str, int]:
        """A worker's server is ready."""
        return f"host of {name}", 0

    async def render(self, name: str, order: Order) -> Outcome:
        """An order, with the files and the record that a worker leaves."""
        await asyncio.sleep(self._rng.uniform(0.5, 1.5) * self._seconds)
        now = time.monotonic()
        if now - self._noted_s.get(name, 0.0) > self._note_interval_s:
            self._noted_s[name] = now
            self._board.note.remote(name, order.clip, 1, 1)
        if self._rng.random() < FAILING:
            return Outcome(order.clip, Status.RETRY, "CUDA out of memory")
        part_path(self._parts, order.clip, 0, ".mp4").write_bytes(bytes(VIDEO_BYTES))
        figures = {"seconds": 1.0, "drift": 0.01, "seam": 1.0, "worker": name, "run_s": 1.0, "gap_s": 0.0}
        part = Part(".mp4", VIDEO_BYTES, "0" * 32)
        Record(order.clip, (part,), figures, bytes(THUMBNAIL_BYTES)).save(self._parts)
        return Outcome(order.clip, Status.DONE)


class StubPool:
    """The driver's workers, each a name at one of a few actors."""

    def __init__(self, cluster: Cluster, parts: Path, workers: int, seconds: float) -> None:
        ray = import_ray()
        self._cluster = cluster
        self._board = ray.remote(Board).options(num_cpus=0).remote()
        host = ray.remote(Host).options(num_cpus=0, max_concurrency=2 * workers)
        self._hosts = [host.remote(parts, self._board, workers, seconds) for _ in range(HOSTS)]
        self.names = [f"worker {number}" for number in range(1, workers + 1)]
        self.events = 0

    def ready(self, worker: int) -> Any:
        return self._hosts[worker % HOSTS].ready.remote(self.names[worker])

    def render(self, worker: int, order: Order) -> Any:
        return self._hosts[worker % HOSTS].render.remote(self.names[worker], order)

    def wait(self, calls: Sequence[Any], timeout_s: float) -> list[Any]:
        return self._cluster.wait(calls, timeout_s)

    def result(self, call: Any) -> Any:
        self.events += 1
        return self._cluster.result(call)

    def progress(self) -> dict[str, tuple[str, int, int]]:
        return import_ray().get(self._board.read.remote())


def main(arguments: list[str] | None = None) -> int:
    """Run the command; the exit status is 0 only if the driver kept within its bounds."""
    options = parse_arguments(arguments)
    with scratch_folder("scale-", options.workdir) as folder:
        figures = measure(folder, options.rows, options.workers, options.seconds)
    return report(figures, options.json)


def measure(folder: Path, rows: int, workers: int, seconds: float) -> dict[str, Any]:
    """Plan, render and report; the figures."""
    out = folder / "out"
    (out / ".batch").mkdir(parents=True)
    table = write_table(folder, rows)
    started = time.monotonic()
    with Ledger(out / ".batch" / "ledger.sqlite") as ledger:
        shelf = Shelf(out, ledger)
        read = read_table(table)
        plan = make_plan(read, bind(find_graph("nano"), read.columns), out, ledger)
        planned_s = time.monotonic() - started
        with Cluster(None, dashboard=False, say=print) as cluster:
            pool = StubPool(cluster, shelf.parts, workers, seconds)
            begun, cpu = time.monotonic(), time.process_time()
            failures = drive(pool, plan, ledger, shelf)
            rendered_s, cpu_s = time.monotonic() - begun, time.process_time() - cpu
            depot_mb_per_s = depot_rate(folder)
        begun = time.monotonic()
        found = entries(plan, ledger, failures)
        write_reports(out, "scale", found)
        reported_s = time.monotonic() - begun
    done = sum(entry.state == "done" for entry in found)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {
        "rows": rows,
        "workers": workers,
        "done": done,
        "failed": len(failures),
        "calls_answered": pool.events,
        "rows_planned_per_second": round(rows / planned_s),
        "rows_per_second": round(rows / rendered_s),
        "driver_cpu_ms_per_row": round(1000 * cpu_s / rows, 2),
        "report_s": round(reported_s, 1),
        "report_mb": round((out / "report.html").stat().st_size / 1e6, 1),
        "ledger_mb": round((out / ".batch" / "ledger.sqlite").stat().st_size / 1e6, 1),
        "driver_peak_mb": round(peak / 1e6),
        "depot_mb_per_s": round(depot_mb_per_s),
        "passed": done + len(failures) == rows and peak < 1e9 and rows / rendered_s > 200,
    }


def depot_rate(folder: Path) -> float:
    """Megabytes a second of a file that is sent to another process and back, as is done without a shared disk."""
    ray = import_ray()
    source, parts = folder / "large.mp4", folder / "depot"
    parts.mkdir()
    with source.open("wb") as stream:
        stream.writelines(os.urandom(1 << 20) for _ in range(SENT_BYTES >> 20))

    def send() -> None:
        storage = SentStorage(
            folder / "far",
            lambda *block: ray.get(depot.read.remote(*block)),
            lambda *block: ray.get(depot.write.remote(*block)),
            lambda record: ray.get(depot.finish.remote(record)),
        )
        storage.fetch(source, "large").replace(storage.place("large", 0, ".mp4"))
        storage.deliver(Record("large", (Part(".mp4", SENT_BYTES, ""),), {}, b""))

    depot = ray.remote(Depot).options(num_cpus=0).remote(parts)
    ray.get(depot.__ray_ready__.remote())
    sender = ray.remote(send)
    begun = time.monotonic()
    ray.get(sender.remote())
    return 2 * SENT_BYTES / 1e6 / (time.monotonic() - begun)


def drive(pool: StubPool, plan: Plan, ledger: Ledger, shelf: Shelf) -> dict[str, Failure]:
    """Render the plan; the failures."""
    table = ProgressTable(pool.names)
    driver = Driver(pool, pool.names, plan, ledger, shelf, table)
    driver.open(all_of_them=True)
    driver.run()
    return driver.failures


def write_table(folder: Path, rows: int) -> Path:
    """A table of clips that differ in their seed."""
    for name, source in (("speech.wav", "asymtalker_speech.wav"), ("face.png", "asymtalker_portrait.png")):
        shutil.copyfile(ASSETS / source, folder / name)
    table = folder / "clips.csv"
    lines = (f"face.png,speech.wav,unit {row // 1000}/clip {row},{row}\n" for row in range(rows))
    with table.open("w", encoding="utf-8") as stream:
        stream.write("portrait,audio,output,AsymTalkerSampler.seed\n")
        stream.writelines(lines)
    return table


if __name__ == "__main__":
    sys.exit(main())
