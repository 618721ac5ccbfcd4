"""Sample strips and plots as images."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib
import torch
from einops import rearrange
from PIL import Image
from torch import Tensor

# No window is opened, wherever this runs.
matplotlib.use("Agg")


LARGE = 128


def shrunk(pixels: Tensor) -> Tensor:
    """``pixels`` [N, 3, H, W], large ones in half their size."""
    return pixels[..., ::2, ::2] if pixels.shape[-1] > LARGE else pixels


def save_strip(pixels: Tensor, columns: int, path: Path) -> None:
    """``pixels`` [N, 3, H, W] in [-1, 1] as one image of ``columns`` pictures a row (N a multiple of it)."""
    grid = rearrange(pixels, "(rows columns) c h w -> (rows h) (columns w) c", columns=columns)
    values = ((grid + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values.cpu().numpy()).save(path)


@contextmanager
def figure(path: Path, size: tuple[float, float], rows: int = 1) -> Iterator[list[Any]]:
    """The panels (matplotlib's Axes), one below the other, of a figure of ``size`` inches, saved to ``path``."""
    from matplotlib import pyplot

    drawn, panels = pyplot.subplots(rows, 1, figsize=size, sharex=True, squeeze=False)
    try:
        yield list(panels[:, 0])
        drawn.savefig(path, dpi=80, bbox_inches="tight")
    finally:
        pyplot.close(drawn)
