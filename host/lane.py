"""Where a chunk is finished beside the network of the next one, which needs at most its end."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from time import monotonic as clock
from typing import Protocol, TypeVar

import torch
from torch import Tensor

from ..models.chunks import Carry
from ..models.rollout import Lane
from .cores import CpuShare
from .residence import Residence

T = TypeVar("T")

WORTH_IT = 0.25
"""The least share of the time that a CPU's second thread must be busy, as it takes cores from the network."""


class CountingLane(Lane, Protocol):
    """A lane that knows how many ``chunks`` were finished in it."""

    chunks: int


@contextmanager
def open_lane(residence: Residence, share: CpuShare, decodes: bool) -> Iterator[CountingLane]:
    """The lane of the device on which ``residence`` keeps what is loaded.

    ``decodes``: whether a CPU's lane also decodes.
    """
    if residence.device.type != "cpu":
        yield SideStream(residence)
        return
    with ThreadPoolExecutor(1, "asymtalker-frames") as worker:
        yield SideThread(worker, share, decodes)


class SideStream:
    """A second CUDA stream, open while MODEL and VAE are loaded whole and have room to run at the same time.

    With dynamic VRAM it stays closed: there, core loads and frees weights on streams of its own.
    """

    def __init__(self, residence: Residence) -> None:
        self._residence = residence
        self._stream: torch.cuda.Stream | None = None
        self.chunks = 0

    def is_open(self, carry: Carry) -> bool:
        """Whether it can be used now. With carried pixels, little of a chunk is left to do on a GPU."""
        return carry is Carry.LATENTS and self._residence.holds_both()

    def run(self, work: Callable[[], T], used: Tensor) -> Callable[[], T]:
        """What ``work`` queues starts after what was queued before it, and delays nothing after it."""
        device = self._residence.device
        self._stream = self._stream or torch.cuda.Stream(device)
        self._stream.wait_stream(torch.cuda.current_stream(device))
        # Its memory must not be given to something else while the second stream reads it.
        used.record_stream(self._stream)
        with torch.cuda.stream(self._stream):
            result = work()
        self.chunks += 1
        return lambda: result


class SideThread:
    """A second thread, with its own part of the free cores.

    nano's operations are short. Two at a time on one core each are faster than one at a time on two cores. It finishes
    chunks whose end is decoded; where it ``decodes``, the VAE (nano's) decodes the rest in it too.
    """

    def __init__(self, worker: ThreadPoolExecutor, share: CpuShare, decodes: bool) -> None:
        self._worker, self._share, self._decodes = worker, share, decodes
        self._busy_s = self._beside_s = 0.0
        self.chunks = 0

    def is_open(self, carry: Carry) -> bool:
        """Whether there is a core for it, and it has been busy enough so far."""
        return carry is Carry.PIXELS and self._share.free > 1 and self._busy_s >= WORTH_IT * self._beside_s

    def run(self, work: Callable[[], T], used: Tensor) -> Callable[[], T]:
        """Start ``work`` in the thread. The network leaves cores to it if it decodes, else from the second chunk on."""
        threads, is_inference = self._share.beside, torch.is_inference_mode_enabled()
        if self.chunks or self._decodes:
            self._share.divide()
        self.chunks += 1
        begun = clock()

        def timed() -> T:
            start = clock()
            # A new thread takes PyTorch's number at its first operation, and would forget its own.
            torch.get_num_threads()
            torch.set_num_threads(threads)
            with torch.inference_mode(is_inference), torch.no_grad():
                result = work()
            self._busy_s += clock() - start
            return result

        future = self._worker.submit(timed)

        def wait() -> T:
            try:
                return future.result()
            finally:
                self._beside_s += clock() - begun
                self._share.unite()

        return wait
