"""The position of a face in every frame of a video, passed from AsymTalker Face Track to AsymTalker Face Paste."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Placement:
    """A square of ``side`` pixels with its upper left corner at (x, y), in fractions of pixels.

    It may reach beyond the frame. ``weight`` 0..1: opacity of the pasted face. ``color``: mean RGB (0..255) of
    the face in the frame.
    """

    x: float
    y: float
    side: float
    weight: float
    color: tuple[float, float, float]


@dataclass(frozen=True, eq=False)
class FaceTrack:
    """The square around one face of a video of ``width`` x ``height`` pixels, frame by frame.

    ``squares`` [n, 3]: x, y and side; ``weights`` [n]: 0 where there is no face; ``colors`` [n, 3]: see ``Placement``.
    ``face``: left, top, right and bottom of the face, as shares of the square.
    """

    width: int
    height: int
    fps: Fraction
    squares: Array
    weights: Array
    colors: Array
    face: tuple[float, float, float, float]

    @property
    def num_frames(self) -> int:
        return len(self.weights)

    def at(self, frame: int) -> Placement:
        """The place in a frame; after the last frame, that of the last frame."""
        index = min(frame, self.num_frames - 1)
        x, y, side = map(float, self.squares[index])
        red, green, blue = map(float, self.colors[index])
        return Placement(x, y, side, float(self.weights[index]), (red, green, blue))


def smoothed(values: Array, sigma: float) -> Array:
    """``values`` [n, k] smoothed along the first axis by a Gaussian of that many frames, truncated at the ends."""
    if sigma <= 0 or len(values) < 2:
        return values
    reach = int(np.ceil(3 * sigma))
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    kernel /= kernel.sum()
    # Mirrored through the end points, so that a motion at constant speed stays constant up to the end.
    reach = min(reach, len(values) - 1)
    kernel = kernel[len(kernel) // 2 - reach : len(kernel) // 2 + reach + 1]
    start = 2 * values[:1] - values[reach:0:-1]
    end = 2 * values[-1:] - values[-2 : -reach - 2 : -1]
    padded = np.concatenate((start, values, end))
    columns = [np.convolve(column, kernel / kernel.sum(), mode="valid") for column in padded.T]
    return np.stack(columns, axis=1)


def filled(values: Array, present: npt.NDArray[np.bool_]) -> Array:
    """``values`` [n, k] with rows that are not ``present`` interpolated linearly; the ends are held."""
    rows = np.arange(len(values))
    known = np.flatnonzero(present)
    return np.stack([np.interp(rows, known, column[known]) for column in values.T], axis=1)


def shown(present: npt.NDArray[np.bool_], longest_gap: int, fade: int) -> Array:
    """Weights [n] of frames: 1 if a face is ``present`` or returns soon, fading at the edges of longer gaps.

    There is no fade at the ends of the stretch itself, which are cuts.
    """
    is_shown = present.copy()
    known = np.flatnonzero(present)
    for before, after in itertools.pairwise(known):
        if after - before - 1 <= longest_gap:
            is_shown[before:after] = True
    rows = np.arange(len(present))
    hidden = np.flatnonzero(~is_shown)
    if not len(hidden):
        return np.ones(len(present))
    nearest = np.searchsorted(hidden, rows)
    left = rows - hidden[np.maximum(nearest - 1, 0)]
    left = np.where(nearest > 0, left, len(present))
    right = np.where(nearest < len(hidden), hidden[np.minimum(nearest, len(hidden) - 1)] - rows, len(present))
    distance = np.where(is_shown, np.minimum(left, right), 0)
    return np.clip(distance / (fade + 1), 0.0, 1.0)
