"""Sample strips as images."""

from __future__ import annotations

from pathlib import Path

import torch
from einops import rearrange
from PIL import Image
from torch import Tensor


def save_strip(pixels: Tensor, columns: int, path: Path) -> None:
    """``pixels`` [N, 3, H, W] in [-1, 1] as one image of ``columns`` pictures a row (N a multiple of it)."""
    grid = rearrange(pixels, "(rows columns) c h w -> (rows h) (columns w) c", columns=columns)
    values = ((grid + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values.cpu().numpy()).save(path)
