"""What a CPU can do: bfloat16 arithmetic, and how many threads are useful beside other processes."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import psutil
import torch

T = TypeVar("T")

SHORTEST_S = 0.05
"""Processor time has a resolution of 10 ms, so shorter intervals are not accurate."""


def multiplies_bf16() -> bool:
    """Whether the CPU has instructions for products of bfloat16 (AVX-512 BF16, AMX); False where PyTorch cannot tell.

    Without them, bfloat16 is slower than float32.
    """
    names = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(getattr(torch.cpu, name, lambda: False)() for name in names)


def threads_beside(others: float, cores: int, most: int) -> int:
    """Threads, 1 to ``most``, for a machine of ``cores`` of which other processes use ``others``.

    With more threads than free cores, every operation waits for the slowest thread, and the waiting threads spin.
    """
    return max(1, min(most, math.floor(cores - others + 0.5)))


class CpuShare:
    """Sets the number of PyTorch's threads, up to ``most``, to the number of free ``cores``.

    ``free`` is that number. From ``divide`` to ``unite``, ``beside`` of these threads are left to a second thread.
    """

    def __init__(self, most: int, cores: int | None = None) -> None:
        self._most = most
        self._cores = cores or os.cpu_count() or 1
        self._at, self._used = time.monotonic(), _used_by_others()
        self.free = most

    @property
    def beside(self) -> int:
        """Threads for what runs beside the calling thread."""
        return max(1, self.free // 3)

    def divide(self) -> None:
        """Leave ``beside`` threads to a second thread."""
        _set_threads(max(1, self.free - self.beside))

    def unite(self) -> None:
        """Take all threads back."""
        _set_threads(self.free)

    def adapt(self) -> None:
        """Set the threads of the calling thread's operations by the time since the last call."""
        now = time.monotonic()
        if self._most == 1 or now - self._at < SHORTEST_S:
            return
        used = _used_by_others()
        others = (used - self._used) / (now - self._at)
        self._at, self._used = now, used
        self.free = threads_beside(others, self._cores, self._most)
        self.unite()

    def between(self, chunks: Iterable[T]) -> Iterator[T]:
        """The ``chunks``, with the threads set again before each; the first one waits for a measurement."""
        if self._most > 1:
            time.sleep(max(0.0, self._at + SHORTEST_S - time.monotonic()))
        self.adapt()
        for chunk in chunks:
            yield chunk
            self.adapt()


@contextmanager
def _threads_restored() -> Iterator[int]:
    """PyTorch's number of threads, restored afterwards."""
    threads = torch.get_num_threads()
    try:
        yield threads
    finally:
        torch.set_num_threads(threads)


@contextmanager
def cpu_share(device: torch.device) -> Iterator[CpuShare]:
    """The share of what runs on ``device``. Afterwards, PyTorch has its threads back; a GPU's work keeps them."""
    with _threads_restored() as threads:
        yield CpuShare(threads if device.type == "cpu" else 1)


@contextmanager
def one_thread(device: torch.device) -> Iterator[None]:
    """For products of few rows, where the CPU's sums, and so their last bits, depend on the number of threads.

    Larger operations divide their rows among the threads, which changes no sum.
    """
    with _threads_restored():
        if device.type == "cpu":
            torch.set_num_threads(1)
        yield


def _set_threads(threads: int) -> None:
    if threads != torch.get_num_threads():
        torch.set_num_threads(threads)


def _used_by_others() -> float:
    """Seconds of processor time that other processes have used since the machine was started."""
    times = psutil.cpu_times()
    own = psutil.Process().cpu_times()
    busy = sum(times) - times.idle - getattr(times, "iowait", 0.0)
    # Linux counts the time of guests twice.
    busy -= getattr(times, "guest", 0.0) + getattr(times, "guest_nice", 0.0)
    return busy - own.user - own.system
