"""Other people from a clip that exists: mirrored, framed, warped, lit and coloured anew, which costs no rendering.

Rendering a clip takes many times as long as encoding it, and a network that has seen few faces moves only those. A
variant keeps the speech and the mouth's motion; the face's proportions and colours are others, and slightly its place
and size.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from ...faces.detector import Face, find_faces
from .motion import POSE_FIELDS

# The frames of one call of the resampling: what bounds its memory.
_FRAMES = 16
_TRIES = 12
TALKING_PORTRAITS = 1 / 3
# Of photographs as Face Crop frames them for nano: the row of the mouth (-1..1), and the distance between the middle of
# the eyes and that of the mouth as a share of the picture.
MOUTH_ROW, EYES_TO_MOUTH = 0.305, 0.225
_BLINK = POSE_FIELDS.index("blink")


@dataclass(frozen=True)
class Variation:
    """What becomes of every picture of a clip.

    ``grid`` [S, S, 2] is where each pixel comes from (x, y in -1..1); ``light`` [S, S, 3] multiplies colours, ``mix``
    [3, 3] and ``gamma`` act on them.
    """

    grid: Tensor
    light: Tensor
    mix: Tensor
    gamma: float


def sample_grid(rng: np.random.Generator, size: int, face: Face | None = None) -> Tensor:
    """A mirrored, turned, scaled, moved and smoothly warped picture's source: [S, S, 2].

    The head keeps about its size and place: how nano's portraits are framed is part of the corpus. A given
    ``face`` is placed and sized as in photographs, which vary less than rendered people.
    """
    if face is None:
        scale, place = float(np.exp(rng.normal(0, 0.06))), None
    else:
        scale, place = _photographed(rng, size, face)
    aspect = float(np.exp(rng.normal(0, 0.05)))
    angle = float(rng.normal(0, 0.14))
    mirror = -1.0 if rng.random() < 0.5 else 1.0
    across = torch.linspace(-1, 1, size + 1)[:-1] + 1 / size
    y, x = torch.meshgrid(across, across, indexing="ij")
    x = mirror * x
    cos, sin = float(np.cos(angle)) * scale, float(np.sin(angle)) * scale
    source = torch.stack((aspect * (cos * x - sin * y), (sin * x + cos * y) / aspect), dim=-1)
    source = source + _smooth(rng.normal(0, 0.038, (2, 5, 5)), size)
    if place is None:
        return source + torch.tensor(rng.normal(0, 0.05, 2), dtype=torch.float32)
    column, row = (min(max(int((at + 1) * size / 2), 0), size - 1) for at in place.shown)
    return source + torch.tensor(place.source, dtype=torch.float32) - source[row, column]


class _Place(NamedTuple):
    """A point of a picture and where a variant shows it, both (x, y) in -1..1."""

    source: tuple[float, float]
    shown: tuple[float, float]


def _photographed(rng: np.random.Generator, size: int, face: Face) -> tuple[float, _Place]:
    """The scale of the source, and a point of ``face`` (its box's middle column, its mouth's row) with its place.

    Mean and spread are those of photographs that Face Crop has framed.
    """
    right_eye, left_eye, _, *corners = np.array(face.landmarks)
    eyes, mouth = (right_eye + left_eye) / 2, (corners[0] + corners[1]) / 2
    scale = float(np.hypot(*(mouth - eyes))) / size / (EYES_TO_MOUTH * float(np.exp(rng.normal(0, 0.045))))
    source = 2 * (face.x + face.width / 2) / size - 1, 2 * float(mouth[1]) / size - 1
    x, y = rng.normal((0.0, MOUTH_ROW), (0.02, 0.03))
    return scale, _Place(source, (float(x), float(y)))


def sample_light(rng: np.random.Generator, size: int) -> Tensor:
    """What soft, slightly coloured lamps multiply a picture by: [S, S, 3]."""
    return _smooth(rng.normal(0, 0.18, (1, 4, 4)) + rng.normal(0, 0.04, (3, 4, 4)), size).exp()


def _smooth(values: np.ndarray, size: int) -> Tensor:
    """[C, n, n] as a smooth picture [S, S, C]."""
    coarse = torch.tensor(values[None], dtype=torch.float32)
    fine = functional.interpolate(coarse, (size, size), mode="bicubic", align_corners=True)
    return fine[0].permute(1, 2, 0)


def sample_variation(rng: np.random.Generator, boxes: np.ndarray, size: int, face: Face | None = None) -> Variation:
    """Draws a variation that leaves the mouths' ``boxes`` [F, 4] (pixels) inside the picture."""
    whole = np.array([*boxes[:, :2].min(0), *boxes[:, 2:].max(0)])
    for _ in range(_TRIES):
        grid = sample_grid(rng, size, face)
        x0, y0, x1, y1 = moved_boxes(whole[None], grid)[0]
        if x0 > 0 and y0 > 0 and x1 < size and y1 < size and x1 > x0 and y1 > y0:
            break
    mix = np.eye(3) * np.exp(rng.normal(0, 0.1)) + rng.normal(0, 0.035, (3, 3))
    light = sample_light(rng, size)
    return Variation(grid, light, torch.tensor(mix, dtype=torch.float32), float(np.exp(rng.normal(0, 0.2))))


def varied_pictures(pictures: Tensor, variation: Variation) -> Tensor:
    """uint8 ``pictures`` [F, S, S, 3], all in the same way."""
    made = []
    for part in pictures.split(_FRAMES):
        source = part.permute(0, 3, 1, 2).float() / 255
        grid = variation.grid.expand(len(part), -1, -1, -1)
        moved = functional.grid_sample(source, grid, mode="bicubic", padding_mode="reflection", align_corners=False)
        lit = moved.clamp(0, 1) * variation.light.permute(2, 0, 1)
        coloured = torch.einsum("kc,fchw->fhwk", variation.mix, lit).clamp(0, 1)
        made.append((coloured**variation.gamma * 255 + 0.5).to(torch.uint8))
    return torch.cat(made)


def moved_boxes(boxes: np.ndarray, grid: Tensor) -> np.ndarray:
    """``boxes`` [F, 4] (x0, y0, x1, y1 in pixels) about the pixels whose source lies in them; zeros outside."""
    size = grid.shape[0]
    x, y = ((grid.numpy() + 1) * size / 2).transpose(2, 0, 1)
    moved = np.zeros_like(boxes)
    for row, (x0, y0, x1, y1) in zip(moved, boxes, strict=True):
        inside = (x >= x0) & (x < x1) & (y >= y0) & (y < y1)
        if inside.any():
            columns, rows = inside.any(0).nonzero()[0], inside.any(1).nonzero()[0]
            row[:] = columns[0], rows[0], columns[-1] + 1, rows[-1] + 1
    return moved


def speaker(portrait: np.ndarray, boxes: np.ndarray) -> Face | None:
    """The face in uint8 [S, S, 3] whose mouth lies in the first of the mouths' ``boxes`` [F, 4]; None if there is none.

    Some backgrounds hold what is taken for a face.
    """
    middle = (boxes[0, :2] + boxes[0, 2:]) / 2
    reach = 0.2 * len(portrait)
    near = (face for face in find_faces(portrait) if np.hypot(*(np.mean(face.landmarks[3:], axis=0) - middle)) < reach)
    return next(near, None)


def vary(clip: Mapping[str, Tensor], rng: np.random.Generator, *, reframed: bool = False) -> dict[str, Tensor]:
    """A variant of a rendered ``clip`` (see ``clip.Clip``): other pictures, the same speech and poses.

    In photographs, people may smile or talk: in one variant of three, the portrait is a frame of the clip. A variant
    that is ``reframed`` shows its face, if it is found, where and as large as Face Crop shows those of photographs.
    """
    boxes, portrait = clip["mouth_boxes"].numpy(), clip["portrait"]
    face = speaker(portrait.numpy(), boxes) if reframed else None
    variation = sample_variation(rng, boxes, clip["frames"].shape[1], face)
    if rng.random() < TALKING_PORTRAITS:
        # Nobody is photographed while blinking.
        chances = (clip["opening"].numpy() + 0.15) * (clip["poses"].numpy()[:, _BLINK] == 0)
        portrait = clip["frames"][int(rng.choice(len(chances), p=chances / chances.sum()))]
    return {
        **clip,
        "frames": varied_pictures(clip["frames"], variation),
        "portrait": varied_pictures(portrait[None], variation)[0],
        "mouth_boxes": torch.from_numpy(moved_boxes(boxes, variation.grid)),
    }
