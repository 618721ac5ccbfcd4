"""The position of the face in every frame of a video, and crops of it for the measuring networks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy.signal import medfilt
from torch import Tensor

from ...faces.detector import Face, find_faces

LOOK_EVERY = 5
"""Faces are looked for in every fifth frame; between these they are on straight lines."""

SMOOTHING = 13
SYNC_MARGIN = 0.4
"""SyncNet's crop: smoothed by a median over 13 frames, wider than the face by 40 % of its half size, and lower."""

# Positions of eyes, nose and corners of the mouth in ArcFace's 112x112 pixels.
ARCFACE_POINTS = np.array(
    [[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]]
)
ARCFACE_SIZE = 112


@dataclass(frozen=True)
class FaceBoxes:
    """The face in each of F frames, in pixels.

    ``boxes`` [F, 4] (x0, y0, x1, y1) and ``landmarks`` [F, 5, 2]; ``found`` is the part of the frames that were looked
    at in which there was a face.
    """

    boxes: np.ndarray
    landmarks: np.ndarray
    found: float


def track_face(frames: Tensor) -> FaceBoxes | None:
    """The largest face in ``frames`` uint8 [F, H, W, 3]; None where there is none in any."""
    looked = sorted({*range(0, len(frames), LOOK_EVERY), len(frames) - 1})
    faces: dict[int, Face] = {}
    for index in looked:
        if found := find_faces(frames[index].numpy()):
            faces[index] = found[0]
    if not faces:
        return None
    rows = np.array(
        [
            (face.x, face.y, face.x + face.width, face.y + face.height, *np.ravel(face.landmarks))
            for face in faces.values()
        ]
    )
    everywhere = np.arange(len(frames))
    tracks = np.stack([np.interp(everywhere, list(faces), column) for column in rows.T], axis=1)
    return FaceBoxes(tracks[:, :4], tracks[:, 4:].reshape(-1, 5, 2), len(faces) / len(looked))


def sync_faces(frames: Tensor, track: FaceBoxes, size: int) -> Tensor:
    """Faces uint8 [F, size, size, 3] as SyncNet's authors cut them; grey beyond the picture."""
    x0, y0, x1, y1 = track.boxes.T
    half = _smooth(np.maximum(x1 - x0, y1 - y0) / 2)
    x, y = _smooth((x0 + x1) / 2), _smooth((y0 + y1) / 2)
    matrices = np.zeros((len(frames), 2, 3))
    # From pixels of the cut-out to pixels of the picture.
    matrices[:, 0, 0] = matrices[:, 1, 1] = 2 * half * (1 + SYNC_MARGIN) / size
    matrices[:, 0, 2] = x - half * (1 + SYNC_MARGIN)
    matrices[:, 1, 2] = y - half
    return _sampled(frames, matrices, size, outside=110.0)


def aligned_faces(frames: Tensor, track: FaceBoxes) -> Tensor:
    """Faces uint8 [n, 112, 112, 3] of the first n frames, with eyes, nose and mouth where ArcFace has them."""
    matrices = np.stack([_similarity(ARCFACE_POINTS, points) for points in track.landmarks[: len(frames)]])
    return _sampled(frames, matrices, ARCFACE_SIZE, outside=0.0)


def _smooth(values: np.ndarray) -> np.ndarray:
    reach = SMOOTHING // 2
    return medfilt(np.pad(values, reach, mode="edge"), SMOOTHING)[reach:-reach]


def _similarity(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """The turn, scale and shift [2, 3] that brings points [n, 2] of ``source`` nearest to those of ``target``."""
    x, y = source.T
    one, zero = np.ones_like(x), np.zeros_like(x)
    # target_x = a x - b y + c, target_y = b x + a y + d
    rows = np.concatenate((np.stack((x, -y, one, zero), axis=1), np.stack((y, x, zero, one), axis=1)))
    (a, b, c, d), *_ = np.linalg.lstsq(rows, target.T.ravel(), rcond=None)
    return np.array([[a, -b, c], [b, a, d]])


def _sampled(frames: Tensor, matrices: np.ndarray, size: int, outside: float) -> Tensor:
    """Cut-outs uint8 [F, size, size, 3]; ``matrices`` [F, 2, 3] take their pixels (x, y, 1) to pixels of the frames."""
    height, width = frames.shape[1:3]
    axis = np.arange(size)
    grid = np.stack((*np.meshgrid(axis, axis), np.ones((size, size))), axis=-1)
    cut_outs = []
    for frame, matrix in zip(frames, matrices, strict=True):
        # In grid_sample's coordinates the outermost pixels' centres are at -1 and 1.
        places = (grid @ matrix.T) * (2 / (width - 1), 2 / (height - 1)) - 1
        pixels = frame.permute(2, 0, 1)[None].float() - outside
        where = torch.from_numpy(places)[None].float()
        values = torch.nn.functional.grid_sample(pixels, where, align_corners=True) + outside
        cut_outs.append(values[0].permute(1, 2, 0).round().clamp(0, 255).to(torch.uint8))
    return torch.stack(cut_outs)
