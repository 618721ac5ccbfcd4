"""The eyes of a portrait, for blinks."""

from __future__ import annotations

from dataclasses import replace

import torch

from ..models.eyelids import EyeContours
from ..models.reference import Reference
from .landmarks import LEFT_BROW, LEFT_LOWER_LID, LEFT_UPPER_LID, RIGHT_BROW, RIGHT_LOWER_LID, RIGHT_UPPER_LID
from .mouth import face_of

_CONTOURS = (
    (RIGHT_UPPER_LID, LEFT_UPPER_LID),
    (RIGHT_LOWER_LID, LEFT_LOWER_LID),
    (RIGHT_BROW, LEFT_BROW),
)


def with_eyes(reference: Reference) -> Reference:
    """``reference`` with the eyes of its largest face, or unchanged if no face is found."""
    points = face_of(reference.portrait)
    if points is None:
        return reference
    places = torch.from_numpy(points / reference.size).to(reference.portrait)
    contours = (torch.stack([places[list(line)] for line in pair]) for pair in _CONTOURS)
    return replace(reference, eyes=EyeContours(*contours))
