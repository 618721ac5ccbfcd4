"""Asynchronous copies between the host and a GPU."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


def send(tensor: Tensor, device: torch.device, dtype: torch.dtype | None = None) -> Tensor:
    """``tensor`` on ``device``, of type ``dtype`` if given.

    A copy from the CPU to a CUDA device is converted first and queued from pinned memory.
    """
    if device.type != "cuda" or tensor.device.type != "cpu":
        return tensor.to(device=device, dtype=dtype)
    return tensor.to(dtype=dtype).pin_memory().to(device, non_blocking=True)


@dataclass(frozen=True)
class Arriving:
    """Copies to the CPU that are queued; ``tensors`` hold them once the ``events`` have happened."""

    tensors: tuple[Tensor, ...]
    events: tuple[torch.cuda.Event, ...] = ()

    def wait(self) -> tuple[Tensor, ...]:
        """Wait for all, once for each device."""
        for event in self.events:
            event.synchronize()
        return self.tensors


def queue_fetch(*tensors: Tensor) -> Arriving:
    """Queue copies of ``tensors`` to the CPU. The host waits for those of devices other than CUDA here."""
    if all(tensor.device.type != "cuda" for tensor in tensors):
        return Arriving(tuple(tensor.cpu() for tensor in tensors))
    copies = [torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True) for tensor in tensors]
    for copy, tensor in zip(copies, tensors, strict=True):
        copy.copy_(tensor, non_blocking=True)
    events = []
    for device in {tensor.device for tensor in tensors if tensor.device.type == "cuda"}:
        event = torch.cuda.Event()
        event.record(torch.cuda.current_stream(device))
        events.append(event)
    return Arriving(tuple(copies), tuple(events))
