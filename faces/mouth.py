"""How far a mouth is open, by landmarks."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
from torch import Tensor

from ..models.draft import to_uint8
from .detector import find_faces
from .landmarks import LIPS_MIDDLE, MOUTH_CORNERS, Points, find_landmarks, follow_landmarks


def face_of(portrait: Tensor) -> Points | None:
    """The landmarks [468, 2] of the largest face in a portrait [1, 3, 1, H, W] in [-1, 1], None if there is none."""
    picture = to_uint8(portrait)[0].cpu().numpy()
    faces = find_faces(picture)
    return find_landmarks(picture, faces[0]) if faces else None


def openings(frames: Iterable[npt.NDArray[np.uint8]], face: Points) -> list[float]:
    """The gap between the lips over the mouth's width in ``frames`` uint8 [H, W, 3] of a ``face`` that hardly moves.

    Frames in which the face is not seen are left out.
    """
    seen = (follow_landmarks(frame, face) for frame in frames)
    return [_distance(points, LIPS_MIDDLE) / _distance(points, MOUTH_CORNERS) for points in seen if points is not None]


def _distance(points: Points, pair: tuple[int, int]) -> float:
    first, second = points[list(pair)]
    return float(np.linalg.norm(first - second))
