"""Tensors as other nodes give them: what is no ordinary one is refused by name."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from .messages import expected

FULL_SCALE = {torch.int16: 2**15, torch.int32: 2**31}
"""What full scale is in the integer types that audio files have."""


def plain_tensor(name: str, value: Any) -> Tensor:
    """``value`` on the CPU, without its gradient.

    Raises:
        ValueError: it is no tensor, or one without ordinary values (complex, sparse, quantised, on the meta device).
    """
    if not isinstance(value, Tensor):
        raise ValueError(expected(name, "a tensor", value))
    odd = value.is_complex() or value.is_quantized or value.layout != torch.strided or value.is_meta
    if odd:
        raise ValueError(
            f"{name}: a tensor of this kind ({value.dtype}, {value.layout}, device {value.device}) is not supported; "
            "the node that made it returns invalid data"
        )
    return value.detach().cpu()


def finite_range(what: str, value: Tensor) -> tuple[float, float]:
    """The lowest and the highest value. Raises ValueError, which begins with ``what``, for NaN and infinite ones."""
    lowest, highest = (float(extreme) for extreme in torch.aminmax(value))
    if not (math.isfinite(lowest) and math.isfinite(highest)):
        raise ValueError(
            f"{what} contains NaN or infinite values; its file is damaged, or the node that made it returns invalid "
            "data"
        )
    return lowest, highest


def picture_values(name: str, value: Tensor) -> Tensor:
    """``value`` as float32; bytes 0..255 become 0..1. Raises ValueError for other integers."""
    if value.dtype == torch.uint8:
        return value.float() / 255
    if value.is_floating_point() or value.dtype == torch.bool:
        return value.float()
    raise ValueError(f"{name}: its values are {value.dtype}; an IMAGE holds floats from 0 to 1")


def sound_values(name: str, value: Tensor) -> Tensor:
    """``value`` as float32; samples of 8, 16 and 32 bits become -1..1. Raises ValueError for other integers."""
    if value.is_floating_point():
        return value.float()
    if value.dtype == torch.uint8:
        return value.float() / 128 - 1
    if value.dtype in FULL_SCALE:
        return value.float() / FULL_SCALE[value.dtype]
    raise ValueError(f"{name}: its samples are {value.dtype}; an AUDIO holds floats from -1 to 1")
