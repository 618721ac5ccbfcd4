"""One static, square crop around the face for each clip, and where the mouth is in it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor

from ...faces.detector import Face
from .video import BadClip, Picture

MIN_SEEN = 0.8
"""The face must be found in this part of the pictures that are looked at."""

RIVAL_AREA = 0.5
"""A second face of at least this part of the first one's area may be the one that speaks."""

FACE_OUTSIDE = 0.15
"""How much of its own width or height a face may reach beyond the crop."""

CENTRED_MOUTH = (0.33, 0.55, 0.67, 0.85)
"""The lower face (x0, y0, x1, y1 as parts of the picture) of clips that are said to be centred."""

RIGHT_MOUTH, LEFT_MOUTH = 3, 4
MOUTH_REACH = (0.75, 0.55, 0.75, 0.95)
"""Left, up, right and down of the mouth's centre, in distances between its corners; down has room for the jaw."""


@dataclass(frozen=True)
class Crop:
    """A square of ``side`` pixels whose corner is at (``left``, ``top``)."""

    left: int
    top: int
    side: int

    def apply(self, picture: Picture, size: int) -> Tensor:
        """uint8 [H, W, 3] -> uint8 [size, size, 3]."""
        part = picture[self.top : self.top + self.side, self.left : self.left + self.side]
        pixels = torch.from_numpy(part).permute(2, 0, 1)[None]
        if self.side != size:
            pixels = torch.nn.functional.interpolate(pixels, (size, size), mode="bicubic", antialias=True)
        return pixels[0].permute(1, 2, 0).contiguous()


def centre_crop(width: int, height: int) -> Crop:
    """The largest square in the middle, for videos that are face-centred already."""
    side = min(width, height)
    return Crop((width - side) // 2, (height - side) // 2, side)


def face_crop(faces: list[list[Face]], width: int, height: int, margin: float) -> tuple[Crop, list[Face | None]]:
    """The crop of a clip, ``margin`` times as large as the face, and the face in each picture that was looked at.

    Args:
        faces: what was found in each picture.

    Raises:
        BadClip: no face, one that is seen too seldom or leaves the crop, or two of similar size.
    """
    track = _speaker(faces)
    seen = [face for face in track if face is not None]
    if not seen:
        raise BadClip("there is no face in it")
    if len(seen) < MIN_SEEN * len(track):
        raise BadClip(f"a face is found in only {len(seen)} of {len(track)} pictures")
    boxes = np.array([(face.x, face.y, face.x + face.width, face.y + face.height) for face in seen])
    low, high = np.median(boxes[:, :2], axis=0), np.median(boxes[:, 2:], axis=0)
    side = min(round(margin * float((high - low).max())), width, height)
    left, top = ((low + high) / 2 - side / 2).round().clip(0, (width - side, height - side)).astype(int).tolist()
    size = boxes[:, 2:] - boxes[:, :2]
    # A face at the picture's edge, or one larger than the picture, is cut there in any crop.
    bottom = np.maximum(boxes[:, :2], 0) + FACE_OUTSIDE * size
    ceiling = np.minimum(boxes[:, 2:], (width, height)) - FACE_OUTSIDE * size
    if (bottom < (left, top)).any() or (ceiling > (left + side, top + side)).any():
        raise BadClip("the face moves out of the crop: cut the video at scene changes, or use a larger margin")
    return Crop(left, top, side), track


def _speaker(faces: list[list[Face]]) -> list[Face | None]:
    """The largest face of the first picture that has one, then always the nearest."""
    rivals = sum(len(found) > 1 and found[1].area > RIVAL_AREA * found[0].area for found in faces)
    if rivals > (1 - MIN_SEEN) * len(faces):
        raise BadClip(f"there are several faces of similar size in {rivals} of {len(faces)} pictures")
    track: list[Face | None] = []
    last: Face | None = None
    for found in faces:
        chosen = found[:1] if last is None else sorted(found, key=partial(_distance, last))[:1]
        track.append(chosen[0] if chosen else None)
        last = track[-1] or last
    return track


def _distance(one: Face, other: Face) -> float:
    return float(np.hypot(one.x + one.width / 2 - other.x - other.width / 2, one.y - other.y))


def mouth_boxes(times: np.ndarray, track: list[Face | None], crop: Crop, frame_times: np.ndarray) -> Tensor:
    """Boxes [F, 4] (x0, y0, x1, y1 as parts of the crop) at ``frame_times``, between the pictures at ``times``."""
    seen = [index for index, face in enumerate(track) if face is not None]
    corners = np.array([face.landmarks[RIGHT_MOUTH : LEFT_MOUTH + 1] for face in track if face is not None])
    middle, spread = corners.mean(axis=1), np.linalg.norm(corners[:, 1] - corners[:, 0], axis=1)
    reach = np.array(MOUTH_REACH) * np.array((-1, -1, 1, 1))
    boxes = np.concatenate((middle, middle), axis=1) + spread[:, None] * reach
    parts = (boxes - np.array((crop.left, crop.top, crop.left, crop.top))) / crop.side
    between = np.stack([np.interp(frame_times, times[seen], column) for column in parts.T], axis=1)
    return torch.from_numpy(between).float().clamp(0, 1)


def centred_mouth(num_frames: int) -> Tensor:
    """Boxes [F, 4] of ``CENTRED_MOUTH``."""
    return torch.tensor(CENTRED_MOUTH).expand(num_frames, 4).clone()
