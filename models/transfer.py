"""Asynchronous copies between the host and a GPU."""

from __future__ import annotations

import torch
from torch import Tensor


def send(tensor: Tensor, device: torch.device, dtype: torch.dtype | None = None) -> Tensor:
    """``tensor`` on ``device``, of type ``dtype`` if given.

    A copy from the CPU to a CUDA device is converted first and queued from pinned memory.
    """
    if device.type != "cuda" or tensor.device.type != "cpu":
        return tensor.to(device=device, dtype=dtype)
    return tensor.to(dtype=dtype).pin_memory().to(device, non_blocking=True)


def fetch(*tensors: Tensor) -> tuple[Tensor, ...]:
    """``tensors`` on the CPU. The host waits once for those of a CUDA device."""
    if all(tensor.device.type != "cuda" for tensor in tensors):
        return tuple(tensor.cpu() for tensor in tensors)
    copies = [torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True) for tensor in tensors]
    for copy, tensor in zip(copies, tensors, strict=True):
        copy.copy_(tensor, non_blocking=True)
    for device in {tensor.device for tensor in tensors if tensor.device.type == "cuda"}:
        torch.cuda.current_stream(device).synchronize()
    return tuple(copies)
