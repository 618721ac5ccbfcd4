"""The face of a portrait, and how far its mouth is open in frames."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from ..models.draft import to_uint8
from ..models.landmarks import LIPS_MIDDLE, MOUTH_CORNERS, FaceTracker
from ..models.reference import Reference
from .detector import find_faces
from .landmarks import find_landmarks


def with_face(reference: Reference) -> Reference:
    """``reference`` with the landmarks of its largest face, or unchanged if no face is found."""
    picture = to_uint8(reference.portrait)[0].cpu().numpy()
    faces = find_faces(picture)
    points = find_landmarks(picture, faces[0]) if faces else None
    if points is None:
        return reference
    size = torch.tensor(reference.size)
    return replace(reference, face=(points / size).float())


def openings(frames: Tensor, reference: Reference) -> Tensor:
    """The gap between the lips over the mouth's width [T] in ``frames`` uint8 [T, H, W, 3] of the reference's face.

    It is 0 in frames in which no face is seen.
    """
    points = reference.points
    assert points is not None
    width, height = reference.size
    with torch.inference_mode():
        found, is_seen = FaceTracker(points, width, height, frames.device).read(frames.movedim(-1, 1) / 127.5 - 1)
    width_of_mouth = _distances(found, MOUTH_CORNERS).clamp_min(1e-3)
    return _distances(found, LIPS_MIDDLE) / width_of_mouth * is_seen


def _distances(points: Tensor, pair: tuple[int, int]) -> Tensor:
    first, second = pair
    return (points[:, first] - points[:, second]).norm(dim=-1)
