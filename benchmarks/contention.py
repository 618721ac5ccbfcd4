"""Measure nano's speed on the CPU beside other busy processes, by number of threads and OpenMP wait policy.

Every figure comes from a process of its own, since an OpenMP library reads its wait policy when it is loaded. The
settings take turns; the median over the rounds is reported. The figures mean something on an otherwise idle machine.
"adapted" sets the number of threads before each chunk by what other processes leave free, as the Sampler does.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from ..host.cores import CpuShare
from .command import command_parser
from .geometries import load_geometry
from .report import aligned
from .stages import Bench

INSTRUCTIONS = {"AVX2": "avx2", "AVX-512": "avx512f", "AVX-512 bf16": "avx512_bf16", "AMX bf16": "amx_bf16"}
ADAPTED = "adapted"
WRITING = ("hand-over to the spool", "mp4 encode")


def main(arguments: list[str] | None = None) -> int:
    """Run the command and return its exit status."""
    parser = command_parser(" contention", __doc__)
    parser.add_argument("--seconds", type=float, default=6.0, help="length of a measurement (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="measurements of each setting (default: %(default)s)")
    parser.add_argument("--busy", type=int, default=1, help="number of other busy processes (default: %(default)s)")
    parser.add_argument("--worker", action="store_true", help="make one measurement in this process")
    parser.add_argument("--adapt", action="store_true", help="in a worker: set the number of threads before each chunk")
    options = parser.parse_args(arguments)
    if options.worker:
        print(chunks_per_second(options.seconds, options.adapt))
        return 0
    print(
        f"{os.cpu_count()} cores, {', '.join(instructions()) or 'instructions unknown'}; {options.busy} busy processes"
    )
    print(aligned(rows(options.seconds, options.rounds, options.busy)))
    return 0


def instructions() -> list[str]:
    """The processor's instructions that matter to the speed, as far as the system lists them."""
    try:
        flags = set(Path("/proc/cpuinfo").read_text(encoding="utf-8").split())
    except OSError:
        return []
    return [name for name, flag in INSTRUCTIONS.items() if flag in flags]


def chunks_per_second(seconds: float, adapt: bool = False) -> float:
    """Frames per second of nano's chunks, without what is written to disk."""
    bench = Bench(load_geometry("nano", torch.device("cpu")), 1.0)
    steps = [(run, calls) for name, (run, _, calls) in bench.stages().items() if calls and name not in WRITING]
    durations = []
    share = CpuShare(torch.get_num_threads() if adapt else 1)
    with torch.inference_mode():
        end = time.perf_counter() + seconds
        while time.perf_counter() < end or len(durations) < 2:
            started = time.perf_counter()
            share.adapt()
            for run, calls in steps:
                for _ in range(calls):
                    run()
            durations.append(time.perf_counter() - started)
    # The first chunk allocates memory and chooses kernels.
    return bench.new_frames / statistics.median(durations[1:])


def rows(seconds: float, rounds: int, busy: int) -> list[tuple[str, ...]]:
    """A table: frames per second of each setting alone and beside ``busy`` processes, and the share that is left."""
    cores = os.cpu_count() or 1
    settings = [(1, ""), *((cores, policy) for policy in ("", "PASSIVE", ADAPTED) if cores > 1)]
    found: dict[tuple[int, str, int], list[float]] = {}
    for _ in range(rounds):
        for others in (0, busy):
            for threads, policy in settings:
                with busy_processes(others):
                    found.setdefault((threads, policy, others), []).append(_measured(seconds, threads, policy))
    table = [("threads, wait policy", "fps alone", "fps beside others", "share")]
    for threads, policy in settings:
        alone, beside = (statistics.median(found[threads, policy, others]) for others in (0, busy))
        table.append((f"{threads}, {policy or 'default'}", f"{alone:.1f}", f"{beside:.1f}", f"{beside / alone:.0%}"))
    return table


def _measured(seconds: float, threads: int, policy: str) -> float:
    environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
    environment.pop("OMP_WAIT_POLICY", None)
    command = [sys.executable, "-m", "asymtalker.benchmarks", "contention", "--worker", "--seconds", str(seconds)]
    if policy == ADAPTED:
        command.append("--adapt")
    elif policy:
        environment["OMP_WAIT_POLICY"] = policy
    return float(subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout)


@contextmanager
def busy_processes(count: int) -> Iterator[None]:
    """``count`` processes that compute without a pause, as long as this one lives."""
    command = [sys.executable, "-c", "import os\nparent = os.getppid()\nwhile os.getppid() == parent: pass"]
    processes = [subprocess.Popen(command) for _ in range(count)]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()
