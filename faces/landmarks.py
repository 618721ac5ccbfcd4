"""Landmarks of a face that the detector found, on the CPU."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from ..models.face_mesh import INPUT_SIZE, face_mesh
from ..models.landmarks import MIN_PRESENCE, Region, shrunk
from .detector import Face

PASSES = 2
"""The second looks where the first found the face: the detector's box is not the one that the network learned from."""


def find_landmarks(image: npt.NDArray[np.uint8], face: Face) -> Tensor | None:
    """The 468 points [468, 2] (x, y) of a face in a picture uint8 [H, W, 3] of RGB; None if the network sees no face.

    They are float64, in pixels of the picture; (0, 0) is the outer corner of its first pixel. They may lie beyond the
    picture.
    """
    right_eye, left_eye = torch.tensor(face.landmarks[:2], dtype=torch.float64)
    centre = torch.tensor((face.x + face.width / 2, face.y + face.height / 2), dtype=torch.float64)
    region = Region.level(right_eye, left_eye, centre, max(face.width, face.height))
    points = None
    for _ in range(PASSES):
        points = _found_in(region, image)
        if points is None:
            return None
        region = Region.around(points)
    return points


def _found_in(region: Region, image: npt.NDArray[np.uint8]) -> Tensor | None:
    """The landmarks [468, 2] of the face in a region, in pixels of the picture."""
    with torch.inference_mode():
        landmarks, presence = face_mesh(torch.device("cpu"))(_sampled(region, image))
    if float(presence[0]) < MIN_PRESENCE:
        return None
    return region.in_picture(landmarks[0].double().clone() / INPUT_SIZE)


def _sampled(region: Region, image: npt.NDArray[np.uint8]) -> Tensor:
    """The region as the network's input [1, 3, 192, 192] in 0..1; beyond the picture, its border goes on."""
    start, part = _cut(region, image)
    height, width = part.shape[:2]
    # grid_sample's -1..1 run from the first pixel's outer corner to the last one's, at whatever size the part is.
    grid = ((region.pixels() - start) / torch.tensor((width, height)) * 2 - 1)[None].float()
    pixels = shrunk(torch.from_numpy(part).permute(2, 0, 1)[None], INPUT_SIZE / region.size).float() / 255
    sampled = functional.grid_sample(pixels, grid, padding_mode="border", align_corners=False)
    return sampled.contiguous(memory_format=torch.channels_last)


def _cut(region: Region, image: npt.NDArray[np.uint8]) -> tuple[Tensor, npt.NDArray[np.uint8]]:
    """The upright part of a picture that holds a region, of at least one pixel, and its first corner (x, y)."""
    corners = region.in_picture(torch.tensor(((0, 0), (0, 1), (1, 0), (1, 1)), dtype=torch.float64)).numpy()
    size = np.array((image.shape[1], image.shape[0]))
    left, top = start = np.clip(np.floor(corners.min(axis=0)), 0, size - 1).astype(int)
    right, bottom = np.clip(np.ceil(corners.max(axis=0)).astype(int), start + 1, size)
    # Copied for torch, which takes neither negative strides, such as a flipped view has, nor read-only arrays.
    return torch.from_numpy(start.astype(np.float64)), np.array(image[top:bottom, left:right], order="C")
