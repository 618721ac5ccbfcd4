"""Landmarks of a face that the detector found: 468 points of MediaPipe's Face Mesh, on the CPU, the weights beside it.

On photographs, eyes and lips are where MediaPipe's own program finds them to about a fiftieth of the distance between
the eyes. Drawn eyes are found a little narrower than they are drawn.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional

from .detector import Face
from .mesh import INPUT_SIZE, FaceMesh

WEIGHTS = Path(__file__).with_name("mesh.safetensors")

RIGHT_UPPER_LID = (33, 246, 161, 160, 159, 158, 157, 173, 133)
"""The person's right eye: its upper lid from the outer corner to the inner one."""

RIGHT_LOWER_LID = (33, 7, 163, 144, 145, 153, 154, 155, 133)
"""The person's right eye: its lower lid from the outer corner to the inner one."""

LEFT_UPPER_LID = (263, 466, 388, 387, 386, 385, 384, 398, 362)
"""The person's left eye: its upper lid from the outer corner to the inner one."""

LEFT_LOWER_LID = (263, 249, 390, 373, 374, 380, 381, 382, 362)
"""The person's left eye: its lower lid from the outer corner to the inner one."""

RIGHT_BROW = (46, 53, 52, 65, 55)
"""The lower edge of the person's right brow from its outer end to its inner one."""

LEFT_BROW = (276, 283, 282, 295, 285)
"""The lower edge of the person's left brow from its outer end to its inner one."""

LIPS_MIDDLE = (13, 14)
"""The middle of the lips where they meet: the upper lip's, then the lower's."""

MOUTH_CORNERS = (61, 291)
"""The corners of the mouth: the person's right one, then the left."""

PASSES = 2
"""The second looks where the first found the face: the detector's box is not the one that the network learned from."""

MARGIN = 1.5
"""How much larger than the face its region is, as in MediaPipe's graphs."""

MIN_PRESENCE = 0.5

Points = npt.NDArray[np.float64]


def find_landmarks(image: npt.NDArray[np.uint8], face: Face) -> Points | None:
    """The 468 points [468, 2] (x, y) of a face in a picture uint8 [H, W, 3] of RGB; None if the network sees no face.

    They are in pixels of the picture; (0, 0) is the outer corner of its first pixel. They may lie beyond the picture.
    """
    right_eye, left_eye = np.array(face.landmarks[:2])
    centre = np.array((face.x + face.width / 2, face.y + face.height / 2))
    region = _Region.level(right_eye, left_eye, centre, max(face.width, face.height))
    points = None
    for _ in range(PASSES):
        points = _found_in(region, image)
        if points is None:
            return None
        region = _Region.around(points)
    return points


def follow_landmarks(image: npt.NDArray[np.uint8], earlier: Points) -> Points | None:
    """As ``find_landmarks``, for a face whose landmarks in an ``earlier`` frame are known."""
    return _found_in(_Region.around(earlier), image)


@dataclass(frozen=True)
class _Region:
    """A square part of a picture, possibly turned: its middle, and its sides [2, 2] along and down the face."""

    centre: Points
    sides: Points

    @staticmethod
    def level(right_eye: Points, left_eye: Points, centre: Points, size: float) -> _Region:
        """The region of a face of `size`, at least a pixel, turned so that the eyes lie level in it."""
        return _Region(centre, max(size, 1.0) * MARGIN * _directions(right_eye, left_eye))

    @staticmethod
    def around(points: Points) -> _Region:
        """The region of a face of which the landmarks are known."""
        right_eye, left_eye = points[RIGHT_UPPER_LID[0]], points[LEFT_UPPER_LID[0]]
        directions = _directions(right_eye, left_eye)
        turned = points @ directions.T
        low, high = turned.min(axis=0), turned.max(axis=0)
        return _Region.level(right_eye, left_eye, (low + high) / 2 @ directions, float((high - low).max()))

    @property
    def size(self) -> float:
        """Pixels along a side."""
        return float(np.hypot(*self.sides[0]))

    def in_picture(self, places: Points) -> Points:
        """Places [..., 2] in the region, 0..1 along and down, in pixels of the picture."""
        return self.centre + (places - 0.5) @ self.sides


def _directions(right_eye: Points, left_eye: Points) -> Points:
    """Unit vectors [2, 2] along the eyes, and down the face."""
    x, y = left_eye - right_eye
    angle = np.arctan2(y, x)
    return np.array(((np.cos(angle), np.sin(angle)), (-np.sin(angle), np.cos(angle))))


@cache
def _network() -> FaceMesh:
    network = FaceMesh()
    # The file has 16 bits; they are read into the network's 32.
    network.load_state_dict(load_file(WEIGHTS))
    # Depthwise convolutions are faster on a CPU in this layout.
    return network.eval().to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]


def _found_in(region: _Region, image: npt.NDArray[np.uint8]) -> Points | None:
    """The landmarks [468, 2] of the face in a region, in pixels of the picture."""
    with torch.inference_mode():
        landmarks, presence = _network()(_sampled(region, image))
    if float(presence[0]) < MIN_PRESENCE:
        return None
    return region.in_picture(landmarks[0].double().numpy() / INPUT_SIZE)


def _sampled(region: _Region, image: npt.NDArray[np.uint8]) -> Tensor:
    """The region as the network's input [1, 3, 192, 192] in 0..1; beyond the picture, its border goes on."""
    start, part = _cut(region, image)
    middles = (np.arange(INPUT_SIZE) + 0.5) / INPUT_SIZE
    places = region.in_picture(np.stack(np.meshgrid(middles, middles), axis=-1))
    height, width = part.shape[:2]
    # grid_sample's -1..1 run from the first pixel's outer corner to the last one's, at whatever size the part is.
    grid = torch.from_numpy((places - start) / (width, height) * 2 - 1)[None].float()
    pixels = _shrunk(torch.from_numpy(part).permute(2, 0, 1)[None], INPUT_SIZE / region.size).float() / 255
    sampled = functional.grid_sample(pixels, grid, padding_mode="border", align_corners=False)
    return sampled.contiguous(memory_format=torch.channels_last)


def _cut(region: _Region, image: npt.NDArray[np.uint8]) -> tuple[Points, npt.NDArray[np.uint8]]:
    """The upright part of a picture that holds a region, of at least one pixel, and its first corner (x, y)."""
    corners = region.in_picture(np.array(((0, 0), (0, 1), (1, 0), (1, 1)), np.float64))
    size = np.array((image.shape[1], image.shape[0]))
    left, top = start = np.clip(np.floor(corners.min(axis=0)), 0, size - 1).astype(int)
    right, bottom = np.clip(np.ceil(corners.max(axis=0)).astype(int), start + 1, size)
    # Copied for torch, which takes neither negative strides, such as a flipped view has, nor read-only arrays.
    return start.astype(np.float64), np.array(image[top:bottom, left:right], order="C")


def _shrunk(pixels: Tensor, scale: float) -> Tensor:
    """uint8 [1, 3, H, W] at the given scale if that is smaller: sampled at every few pixels only, it would alias."""
    if scale >= 1:
        return pixels
    height, width = (max(1, round(length * scale)) for length in pixels.shape[-2:])
    return functional.interpolate(pixels, (height, width), mode="bilinear", antialias=True)
