"""Finding faces in a picture, for cropping: a small network on the CPU, its weights beside it.

It was trained on photographs. Drawn faces are found where they are drawn like photographs; others need a box by hand.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional

from .yunet import SIZE_MULTIPLE, YuNet

WEIGHTS = Path(__file__).with_name("yunet.safetensors")
LONG_SIDES = (640, 256)
"""The picture is searched at these sizes: the network detects faces of about 10 to 300 pixels."""

MOST_ASPECT = 3
"""A longer picture is searched in overlapping parts: scaled as a whole, its faces would be too small."""

MIN_SCORE = 0.6
MAX_OVERLAP = 0.3
"""Intersection over union beyond which two boxes are the same face."""


@dataclass(frozen=True)
class Face:
    """One face: its box in pixels, a score in 0..1, and (x, y) of eyes, nose and mouth corners.

    The box runs from the hairline to the chin and may reach beyond the picture. The landmarks are the person's right
    eye, left eye, nose, right and left corner of the mouth.
    """

    x: float
    y: float
    width: float
    height: float
    score: float
    landmarks: tuple[tuple[float, float], ...]

    @property
    def area(self) -> float:
        """Square pixels of the box."""
        return self.width * self.height

    def moved(self, x: float, y: float) -> Face:
        """The same face in a picture of which this one is the part from (x, y) on."""
        landmarks = tuple((px + x, py + y) for px, py in self.landmarks)
        return replace(self, x=self.x + x, y=self.y + y, landmarks=landmarks)


def find_faces(image: npt.NDArray[np.uint8], long_sides: tuple[int, ...] = LONG_SIDES) -> list[Face]:
    """The faces in a picture uint8 [H, W, 3] of RGB, the largest first; empty if there is none.

    It is searched once for each of ``long_sides`` (pixels, descending) that it is scaled to.

    Raises ValueError for another shape or type.
    """
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise ValueError(f"image: expected uint8 [H, W, 3], got {image.dtype} {list(image.shape)}")
    if min(image.shape[:2]) < 1:
        return []
    # A view with a negative stride, such as a flipped one, has to be copied for torch.
    bgr = torch.from_numpy(np.ascontiguousarray(image[..., ::-1]))
    pixels = bgr.permute(2, 0, 1)[None]
    found: list[Face] = []
    with torch.inference_mode():
        for left, top, part in _parts(pixels, long_sides[0]):
            found.extend(face.moved(left, top) for face in _found_at(part, long_sides))
    return sorted(_distinct(found), key=lambda face: -face.area)


def _parts(pixels: Tensor, long_side: int) -> Iterator[tuple[int, int, Tensor]]:
    """(left, top, part) of a picture [1, 3, H, W]: the whole, or parts of at least ``long_side`` along a long picture.

    Each part begins in the middle of the one before: a face that is cut by the edge of one is whole in the next.
    """
    height, width = pixels.shape[-2:]
    shorter, longer = min(height, width), max(height, width)
    if longer <= max(MOST_ASPECT * shorter, long_side):
        yield 0, 0, pixels
        return
    half = max(shorter, long_side // 2)
    for start in range(0, longer - half, half):
        part = pixels.narrow(3 if width > height else 2, start, min(2 * half, longer - start))
        yield (start, 0, part) if width > height else (0, start, part)


def _found_at(pixels: Tensor, long_sides: tuple[int, ...]) -> Iterator[Face]:
    """Faces in a picture BGR uint8 [1, 3, H, W] that is scaled to each of ``long_sides``, with duplicates."""
    height, width = pixels.shape[-2:]
    for long_side in long_sides:
        # Each size from the one before: most of the time goes into the first reading of a large picture.
        pixels = _shrunk(pixels, long_side)
        yield from _search(pixels, width, height)


@cache
def _network() -> YuNet:
    network = YuNet()
    network.load_state_dict(load_file(WEIGHTS))
    # Depthwise convolutions are twice as fast on a CPU in this layout.
    return network.eval().to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]


def _shrunk(pixels: Tensor, long_side: int) -> Tensor:
    """uint8 [1, 3, H, W] at most `long_side` long."""
    height, width = pixels.shape[-2:]
    scale = long_side / max(height, width)
    if scale >= 1:
        return pixels
    size = max(1, round(height * scale)), max(1, round(width * scale))
    return functional.interpolate(pixels, size, mode="bilinear", antialias=True)


def _search(pixels: Tensor, width: int, height: int) -> Iterator[Face]:
    """Faces in BGR uint8 [1, 3, h, w], with duplicates, in pixels of the picture of `width` x `height` that it was."""
    h, w = pixels.shape[-2:]
    filled = functional.pad(pixels.float(), (0, -w % SIZE_MULTIPLE, 0, -h % SIZE_MULTIPLE))
    scores, boxes, landmarks = _network()(filled.contiguous(memory_format=torch.channels_last))
    scale = torch.tensor((width / w, height / h))
    kept = scores >= MIN_SCORE
    corners = boxes[kept].unflatten(1, (2, 2)) * scale
    for score, (corner, size), points in zip(scores[kept], corners, landmarks[kept] * scale, strict=True):
        x, y = corner.tolist()
        box_width, box_height = size.tolist()
        yield Face(x, y, box_width, box_height, float(score), tuple((px, py) for px, py in points.tolist()))


def _distinct(faces: list[Face]) -> Iterator[Face]:
    """The most certain of each group that overlaps."""
    kept: list[Face] = []
    for face in sorted(faces, key=lambda face: -face.score):
        if all(_overlap(face, other) <= MAX_OVERLAP for other in kept):
            kept.append(face)
            yield face


def _overlap(one: Face, other: Face) -> float:
    """Intersection over union."""
    width = min(one.x + one.width, other.x + other.width) - max(one.x, other.x)
    height = min(one.y + one.height, other.y + other.height) - max(one.y, other.y)
    if width <= 0 or height <= 0:
        return 0.0
    return width * height / (one.area + other.area - width * height)
