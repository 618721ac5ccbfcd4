"""The skin around a mouth that speaks, taken from the portrait and moved by landmarks.

A small VAE smears chins and cheeks where a mouth opens wide, just where optical flow loses its way. Landmarks do not:
the lower face of the portrait is moved as they have moved. The lips, and what is between them, stay the network's.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from .landmarks import JAW, LIPS, LOWER_FACE, UNDER_EYES
from .pictures import Window, blurred, filled, grown, pixel_places, sampled
from .transfer import send

# The cells of the grid on which the movement is computed, in pixels.
CELL = 8
# The Gaussian over which the landmarks' movements are averaged; how far the skin reaches beyond the jaw, and the lips
# beyond their contour; and the softness of either edge. All in heights of the lower face, which are 0.4 of the face's.
REACH, BEYOND_JAW, BEYOND_LIPS, SOFT_SKIN, SOFT_LIPS = 0.09, 0.1, 0.02, 0.03, 0.012
# How far the skin moves at most, in the same unit.
ROOM = 0.15
# How far the mouth's part of the picture reaches beyond the lower face, and how soft it ends, in heights of the frame.
AROUND_FACE, SOFT_FACE = 0.04, 0.016
# A lower face of fewer pixels is taken for one of this height.
SMALLEST = 4.0


class MovedSkin:
    """The lower face of one portrait."""

    def __init__(self, portrait: Tensor, points: Tensor) -> None:
        """``portrait`` [1, 3, H, W] in [-1, 1]; ``points`` [468, 2] are its landmarks in pixels, on the CPU."""
        (height, width), device = portrait.shape[-2:], portrait.device
        self._size = max(SMALLEST, float(points[list(JAW), 1].max() - points[list(UNDER_EYES), 1].min()))
        places = pixel_places(height, width)
        opacity = self._opacity(places, points)
        # Only a part of the frame changes, a quarter or so.
        self._window = _window(opacity[0, 0], round(ROOM * self._size))
        opacity, cells = opacity[(..., *self._window)], places[self._window][CELL // 2 :: CELL, CELL // 2 :: CELL]
        self._layers = torch.cat((portrait[(..., *self._window)].float(), send(opacity, device)), dim=1)
        self._lower_face = send(torch.tensor(LOWER_FACE), device)
        self._points = send(points[list(LOWER_FACE)], device)
        self._border, self._cells = send(_border(width, height), device), send(cells, device)
        # A pixel of the window in units of ``grid_sample``.
        self._unit = send(2 / torch.tensor(self._layers.shape[:1:-1]), device)

    def _opacity(self, places: Tensor, points: Tensor) -> Tensor:
        """Where the portrait's skin is used: [1, 1, H, W] in 0..1."""
        face = _lower_face(points, places)
        lips = filled(points[list(LIPS)], places)
        skin = blurred(grown(face, BEYOND_JAW * self._size), SOFT_SKIN * self._size)
        return skin * (1 - blurred(grown(lips, BEYOND_LIPS * self._size), SOFT_LIPS * self._size))

    def apply(self, frames: Tensor, points: Tensor, strength: Tensor) -> None:
        """Give ``frames`` [T, 3, H, W] in [-1, 1] with landmarks ``points`` [T, 468, 2] the portrait's skin, in place.

        ``strength`` [T] is 0..1.
        """
        moved = sampled(self._layers, self._distances(points[:, self._lower_face]))
        frames[(..., *self._window)].lerp_(moved[:, :3], moved[:, 3:] * strength.view(-1, 1, 1, 1))

    def _distances(self, points: Tensor) -> Tensor:
        """How far each pixel of the window lies from its place in the portrait, by ``points`` [T, N, 2].

        [T, 2, h, w], in units of ``grid_sample``. It is the mean of the landmarks' movements, each weighted by its
        distance. The border of the picture is still.
        """
        border = self._border.expand(len(points), -1, -1)
        known = torch.cat((self._points - points, torch.zeros_like(border)), dim=1)
        cells = self._cells.flatten(0, 1).expand(len(points), -1, -1)
        # Not by a product of matrices, which loses the small distances in TF32.
        mode = "donot_use_mm_for_euclid_dist"
        squares = torch.cdist(cells, torch.cat((points, border), dim=1), compute_mode=mode).square()
        weights = (squares / (-2 * (REACH * self._size) ** 2)).softmax(dim=-1)
        moved = (weights @ known * self._unit).unflatten(1, self._cells.shape[:2]).movedim(-1, 1)
        # The window's sides are whole cells.
        return functional.interpolate(moved, scale_factor=CELL, mode="bilinear", align_corners=False)


def around_lower_face(points: Tensor, height: int, width: int) -> Tensor:
    """1 below the eyes of a face with landmarks ``points`` [468, 2] and a little around it: [1, 1, H, W] on the CPU."""
    inside = _lower_face(points, pixel_places(height, width))
    return blurred(grown(inside, AROUND_FACE * height), SOFT_FACE * height)


def _lower_face(points: Tensor, places: Tensor) -> Tensor:
    return filled(points[[*JAW, *UNDER_EYES]], places)


def _window(mask: Tensor, room: int) -> Window:
    """The rows and columns around what is not 0 in a mask [H, W], with ``room``: whole cells, as many as there are."""
    rows, columns = ((mask > 0).any(dim=dim).nonzero().flatten() for dim in (1, 0))
    sides = []
    for found, length in ((rows, mask.shape[0]), (columns, mask.shape[1])):
        first, last = (0, 0) if not len(found) else (int(found[0]), int(found[-1]))
        start, stop = max(0, first - room), min(last + 1 + room, length)
        cells = min(-(-(stop - start) // CELL), length // CELL)
        start = min(start, length - cells * CELL)
        sides.append(slice(start, start + cells * CELL))
    return sides[0], sides[1]


def _border(width: int, height: int) -> Tensor:
    """Places [N, 2] along the border of a picture."""
    across, down = torch.linspace(0, width, 9), torch.linspace(0, height, 9)
    sides = [torch.stack((across, torch.full((9,), float(y))), dim=-1) for y in (0, height)]
    sides += [torch.stack((torch.full((9,), float(x)), down), dim=-1) for x in (0, width)]
    return torch.cat(sides)
