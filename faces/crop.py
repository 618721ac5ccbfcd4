"""A square cut out of a picture, and frames put back into it: pixels in, pixels out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional

Picture = npt.NDArray[np.uint8]

_SHIFT = 8
_OPAQUE = 1 << _SHIFT
"""Weights of the mask are 0..256: full weight is exact, and blending fits 16 bits (255 * 256 + 128 < 65536)."""


@dataclass(frozen=True)
class Crop:
    """Where a square of `side` pixels was cut out of a picture of `width` x `height`: its upper left corner."""

    x: int
    y: int
    side: int
    width: int
    height: int


def square_around(box: tuple[float, float, float, float], width: int, height: int, margin: float) -> Crop:
    """The square around a box (x, y, width, height) in a picture of `width` x `height`.

    margin: what is added on each side, as a share of the box's longer side. The square is moved into the picture where
        it would reach beyond it, and is at most as large as the picture's shorter side.
    """
    x, y, box_width, box_height = box
    wanted = max(box_width, box_height) * (1 + 2 * margin)
    side = max(1, min(round(wanted), width, height))
    left = round(x + box_width / 2 - side / 2)
    top = round(y + box_height / 2 - side / 2)
    return Crop(min(max(left, 0), width - side), min(max(top, 0), height - side), side, width, height)


def paste_into(crop: Crop, feather: float) -> Callable[[Picture, Picture, float], Picture]:
    """(picture, frame, weight) -> ``frame`` (uint8 [n, n, 3]) at the crop's place in ``picture`` (uint8 [H, W, 3]).

    feather: width of the soft edge, as a share of the crop's side. Edges on the picture's own border stay hard, as
        there is nothing beyond them to blend with.
    weight: 0..1, how much of the frame shows.
    """
    # For each channel: numpy is an order of magnitude slower where the innermost axis is broadcast.
    mask = np.repeat(feather_mask(crop, feather), 3, axis=2)
    rows, columns = slice(crop.y, crop.y + crop.side), slice(crop.x, crop.x + crop.side)

    def into(picture: Picture, frame: Picture, weight: float) -> Picture:
        result = picture.copy()
        opacity = mask if weight == 1 else np.round(mask * weight).astype(np.uint16)
        behind = picture[rows, columns].astype(np.uint16) * (_OPAQUE - opacity) + _OPAQUE // 2
        result[rows, columns] = (_resized(frame, crop.side) * opacity + behind) >> _SHIFT
        return result

    return into


def feather_mask(crop: Crop, feather: float) -> npt.NDArray[np.uint16]:
    """Weights 0..256 [side, side, 1] of what is pasted: full, falling smoothly to the edges inside the picture."""
    across = _ramp(crop.side, feather, crop.x > 0, crop.x + crop.side < crop.width)
    down = _ramp(crop.side, feather, crop.y > 0, crop.y + crop.side < crop.height)
    return np.round(down[:, None, None] * across[None, :, None] * _OPAQUE).astype(np.uint16)


def _ramp(side: int, feather: float, soft_start: bool, soft_end: bool) -> npt.NDArray[np.float64]:
    """Weights 0..1 [side] along one axis."""
    distance = np.arange(side) + 0.5
    soft = max(side * feather, 1e-6)
    weights = np.ones(side)
    for is_soft, from_edge in ((soft_start, distance), (soft_end, distance[::-1])):
        if is_soft:
            t = np.clip(from_edge / soft, 0, 1)
            # Smoothstep: no visible line where the blend begins.
            weights *= t * t * (3 - 2 * t)
    return weights


def _resized(frame: Picture, side: int) -> npt.NDArray[np.uint16]:
    """uint16 [side, side, 3]."""
    array: Any = frame
    if frame.shape[:2] != (side, side):
        pixels = torch.from_numpy(np.ascontiguousarray(frame)).permute(2, 0, 1)[None]
        resized = functional.interpolate(pixels, (side, side), mode="bicubic", antialias=True)
        array = resized[0].permute(1, 2, 0).numpy()
    return array.astype(np.uint16)
