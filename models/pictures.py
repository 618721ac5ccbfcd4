"""Pictures blurred, and sampled at moved places."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional


def pixel_places(height: int, width: int, device: torch.device | None = None) -> Tensor:
    """The middles (x, y) of the pixels of a picture: [H, W, 2]."""
    rows, columns = (torch.arange(length, device=device) + 0.5 for length in (height, width))
    return torch.stack(torch.meshgrid(columns, rows, indexing="xy"), dim=-1)


LUMA = (0.299, 0.587, 0.114)
"""Weights of red, green and blue (ITU-R BT.601)."""

Window = tuple[slice, slice]
"""A part of a picture: its rows and its columns."""

EVERYWHERE: Window = (slice(None), slice(None))


def sampled(picture: Tensor, distances: Tensor, window: Window = EVERYWHERE) -> Tensor:
    """``picture`` [1 or T, C, H, W] at ``distances`` [T, 2, h, w] from each pixel of ``window``: [T, C, h, w].

    Distances go across and down, in units of ``grid_sample`` (the picture is 2 wide). The picture's border goes on
    outside.
    """
    rows, columns = window
    places = distances.clone()
    for axis, length, part in ((0, picture.shape[-1], columns), (1, picture.shape[-2], rows)):
        own = ((torch.arange(length, device=picture.device) + 0.5) * (2 / length) - 1)[part]
        # Within the centres of the outer pixels: MPS cannot pad with the border.
        most = 1 - 1 / length
        places[:, axis].add_(own if axis == 0 else own[:, None]).clamp_(-most, most)
    # As views, which a CPU reads as fast as other grids.
    return functional.grid_sample(picture.expand(len(places), -1, -1, -1), places.movedim(1, -1), align_corners=False)


def resized(pictures: Tensor, size: Sequence[int]) -> Tensor:
    """[T, C, h, w] as [T, C, *size], bilinear."""
    return functional.interpolate(pictures, tuple(size), mode="bilinear", align_corners=False)


def heights_along(across: Tensor, lines: Tensor) -> Tensor:
    """Heights [T, n] of ``lines`` [T, N, 2] through points (across, down), at places ``across`` [T, n].

    Beyond their ends, lines go on level.
    """
    x, order = lines[..., 0].sort(dim=-1)
    y = lines[..., 1].gather(-1, order)
    after = torch.searchsorted(x.contiguous(), across.contiguous()).clamp(1, x.shape[-1] - 1)
    (x0, x1), (y0, y1) = ((values.gather(-1, after - 1), values.gather(-1, after)) for values in (x, y))
    return torch.lerp(y0, y1, ((across - x0) / (x1 - x0).clamp_min(1e-6)).clamp(0, 1))


def luma_of(pictures: Tensor) -> Tensor:
    """The luma [T, 1, h, w] of pictures [T, 3, h, w]."""
    red, green, blue = (weight * channel for weight, channel in zip(LUMA, pictures.split(1, dim=1), strict=True))
    return red + green + blue


def smooth(ramp: Tensor) -> Tensor:
    """From 0 to 1 without a corner (smoothstep)."""
    ramp = ramp.clamp(0, 1)
    return ramp * ramp * (3 - 2 * ramp)


def blurred(pictures: Tensor, sigma: float) -> Tensor:
    """[T, C, h, w] by a Gaussian, as sums of shifted pictures: on a CPU twice as fast as a convolution."""
    weights = _gaussian(sigma)
    radius = len(weights) // 2
    for dim, padding in ((-1, (radius, radius, 0, 0)), (-2, (0, 0, radius, radius))):
        length = pictures.shape[dim]
        padded = functional.pad(pictures, padding, mode="replicate")
        pictures = padded.narrow(dim, 0, length) * weights[0]
        for shift, weight in enumerate(weights[1:], 1):
            pictures.add_(padded.narrow(dim, shift, length), alpha=weight)
    return pictures


@lru_cache(maxsize=8)
def _gaussian(sigma: float) -> tuple[float, ...]:
    radius = int(3 * sigma)
    weights = [math.exp(-0.5 * (at / sigma) ** 2) for at in range(-radius, radius + 1)]
    return tuple(weight / sum(weights) for weight in weights)


def filled(contour: Tensor, places: Tensor) -> Tensor:
    """1 at the ``places`` [H, W, 2] inside of a closed ``contour`` [N, 2], else 0: [1, 1, H, W]."""
    inside = torch.zeros(places.shape[:2], dtype=torch.bool, device=places.device)
    x, y = places.unbind(-1)
    for (x0, y0), (x1, y1) in zip(contour, contour.roll(-1, 0), strict=True):
        crosses = (y0 > y) != (y1 > y)
        inside ^= crosses & (x < (x1 - x0) * (y - y0) / torch.where(y1 == y0, 1.0, y1 - y0) + x0)
    return inside.float()[None, None]


def grown(mask: Tensor, pixels: float) -> Tensor:
    """A mask [1, 1, H, W] that reaches further in all directions."""
    radius = max(1, round(pixels))
    for across in ((2 * radius + 1, 1), (1, 2 * radius + 1)):
        mask = functional.max_pool2d(mask, across, stride=1, padding=(across[0] // 2, across[1] // 2))
    return mask
