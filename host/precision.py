"""Where a CPU computes in bfloat16. Core computes in float32 on every CPU."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from comfy.cli_args import args

from .cores import multiplies_bf16


def prefers_bf16(device: torch.device, options: Iterable[str]) -> bool:
    """Whether ``device`` is a CPU with instructions for it, and ComfyUI was started with none of ``options``."""
    return device.type == "cpu" and multiplies_bf16() and not any(getattr(args, name, False) for name in options)
