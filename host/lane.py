"""A second CUDA stream: a chunk is decoded beside the network of the next one, which does not need its pixels."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from .residence import Residence


class SideStream:
    """The rollout's ``Lane``, open while MODEL and VAE are loaded whole and have room to run at the same time.

    With dynamic VRAM it stays closed: there, core loads and frees weights on streams of its own.
    """

    def __init__(self, residence: Residence) -> None:
        self._residence = residence
        self._stream: torch.cuda.Stream | None = None
        self.chunks = 0

    def is_open(self) -> bool:
        """Whether it can be used now."""
        return self._residence.holds_both()

    @contextmanager
    def beside(self, used: Tensor) -> Iterator[None]:
        """What is queued in the block starts after what was queued before it, and delays nothing after it."""
        device = self._residence.device
        self._stream = self._stream or torch.cuda.Stream(device)
        self._stream.wait_stream(torch.cuda.current_stream(device))
        # Its memory must not be given to something else while the second stream reads it.
        used.record_stream(self._stream)
        with torch.cuda.stream(self._stream):
            yield
        self.chunks += 1
