"""Core's fused kernels (comfy-kitchen, in later versions), used where the host has them compiled for the GPU.

Elsewhere, and in compiled code, where the compiler fuses, the pack's own functions are used.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import torch
from comfy import quant_ops
from torch import Tensor, nn

from ..models import layers
from ..models.layers import RotaryTables

ROTATION, NORM = "apply_rope", "adaln"
"""Names of the kernels: rotary embedding of q and k in one pass, and adaptive layer norm in one pass."""
TYPES = (torch.float16, torch.bfloat16)


def kernels_in_use(device: torch.device, dtype: torch.dtype) -> list[str]:
    """The fused kernels that a network computing in ``dtype`` on ``device`` uses; they round differently."""
    return [name for name in (ROTATION, NORM) if name in compiled_kernels()] if _fits(device, dtype) else []


def with_matrices(tables: RotaryTables) -> RotaryTables:
    """``tables`` with the rotation matrices [1, S, 1, head_dim / 2, 2, 2] that the fused rotation takes."""
    cos, sin = tables
    if cos.device.type != "cuda" or ROTATION not in compiled_kernels() or torch.compiler.is_compiling():
        return tables
    return cos, sin, torch.stack((cos, -sin, sin, cos), dim=-1).unflatten(-1, (2, 2))[None]


def rotate(q: Tensor, k: Tensor, tables: RotaryTables) -> tuple[Tensor, Tensor]:
    """``rotate_both``, in one pass where possible."""
    kernel = _kernel(ROTATION, q)
    if kernel is None or len(tables) < 3:
        return layers.rotate_both(q, k, tables)
    return kernel(q, k, tables[2])


def modulated_norm(x: Tensor, norm: nn.Module, shift: Tensor, scale: Tensor) -> Tensor:
    """Adaptive layer norm, in one pass where possible."""
    kernel = _kernel(NORM, x) if shift.dtype == scale.dtype == x.dtype else None
    return layers.modulated_norm(x, norm, shift, scale) if kernel is None else kernel(x, scale, shift, norm.eps)


@lru_cache(maxsize=1)
def compiled_kernels() -> frozenset[str]:
    """What the host's kernels offer apart from their PyTorch versions; core chooses when it is imported."""
    kitchen = _kitchen()
    if kitchen is None or not hasattr(kitchen, "list_backends"):
        return frozenset()
    backends: dict[str, dict[str, Any]] = kitchen.list_backends()
    usable = [found for name, found in backends.items() if name != "eager" and found["available"]]
    names = {name for found in usable if not found["disabled"] for name in found["capabilities"]}
    return frozenset(name for name in names if hasattr(kitchen, name))


def _kitchen() -> Any:
    return getattr(quant_ops, "ck", None)


def _kernel(name: str, x: Tensor) -> Callable[..., Any] | None:
    if torch.compiler.is_compiling() or not _fits(x.device, x.dtype) or name not in compiled_kernels():
        return None
    return getattr(_kitchen(), name)


def _fits(device: torch.device, dtype: torch.dtype) -> bool:
    return device.type == "cuda" and dtype in TYPES
