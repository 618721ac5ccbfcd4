"""Landmarks of a face, 468 points of MediaPipe's Face Mesh: their numbers, and how they are read frame after frame.

Eyes, brows and lips are placed to about a pixel of the network's input, a fiftieth of the distance between the eyes.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from .face_mesh import INPUT_SIZE, face_mesh
from .transfer import send

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

UPPER_INNER_LIP = (78, 191, 80, 81, 82, 13, 312, 311, 310, 415, 308)
"""The upper edge of the open mouth from the person's right corner to the left one."""

LOWER_INNER_LIP = (78, 95, 88, 178, 87, 14, 317, 402, 318, 324, 308)
"""The lower edge of the open mouth from the person's right corner to the left one."""

UPPER_OUTER_LIP = (61, 185, 40, 39, 37, 0, 267, 269, 270, 409, 291)
"""The upper edge of the lips from the person's right corner to the left one."""

LOWER_OUTER_LIP = (61, 146, 91, 181, 84, 17, 314, 405, 321, 375, 291)
"""The lower edge of the lips from the person's right corner to the left one."""

LIPS = (*LOWER_OUTER_LIP, *reversed(UPPER_OUTER_LIP[1:-1]))
"""The outer contour of the lips, closed."""

JAW = (454, 323, 361, 288, 397, 365, 379, 378, 400, 377, 152, 148, 176, 149, 150, 136, 172, 58, 132, 93, 234)
"""The contour of the face from ear to ear along the chin."""

UNDER_EYES = (50, 129, 2, 358, 280)
"""From one cheek to the other, below the nose."""

LOWER_FACE = (
    *(*JAW, *LIPS, *UNDER_EYES, 1, 4, 5, 98, 195, 197, 327),
    *(18, 32, 43, 57, 83, 106, 135, 169, 182, 187, 192, 194),
    *(199, 200, 201, 202, 204, 205, 207, 210, 211, 212, 214, 216),
    *(262, 273, 287, 313, 335, 364, 394, 406, 411, 416, 418, 421, 422, 424, 425, 427, 430, 431, 432, 434, 436),
)
"""Points all over the face below the eyes."""

MARGIN = 1.5
"""How much larger than the face its region is, as in MediaPipe's graphs."""

MIN_PRESENCE = 0.5

LEAST_SCALE = 0.6
"""Frames are sampled without shrinking them first down to this scale: hardly anything aliases."""


@dataclass(frozen=True)
class Region:
    """A square part of a picture, possibly turned: its middle [2], and its sides [2, 2] along and down the face."""

    centre: Tensor
    sides: Tensor

    @staticmethod
    def level(right_eye: Tensor, left_eye: Tensor, centre: Tensor, size: float) -> Region:
        """The region of a face of ``size`` pixels, turned so that the eyes [2] lie level in it."""
        return Region(centre, size * MARGIN * _directions(right_eye, left_eye))

    @staticmethod
    def around(points: Tensor) -> Region:
        """The region of a face whose landmarks [468, 2] are known."""
        right_eye, left_eye = points[RIGHT_UPPER_LID[0]], points[LEFT_UPPER_LID[0]]
        directions = _directions(right_eye, left_eye)
        low, high = (points @ directions.T).aminmax(dim=0)
        return Region.level(right_eye, left_eye, (low + high) / 2 @ directions, float((high - low).max()))

    @property
    def size(self) -> float:
        """Pixels along a side, more than none."""
        return max(float(self.sides[0].norm()), 1e-6)

    def in_picture(self, places: Tensor) -> Tensor:
        """Places [..., 2] in the region, 0..1 along and down, in pixels of the picture."""
        return self.centre + (places - 0.5) @ self.sides

    def pixels(self) -> Tensor:
        """Where the pixels of the network's input lie in the picture: [192, 192, 2]."""
        middles = (torch.arange(INPUT_SIZE, dtype=self.sides.dtype, device=self.sides.device) + 0.5) / INPUT_SIZE
        return self.in_picture(torch.stack(torch.meshgrid(middles, middles, indexing="xy"), dim=-1))


def _directions(right_eye: Tensor, left_eye: Tensor) -> Tensor:
    """Unit vectors [2, 2] along the eyes, and down the face."""
    x, y = left_eye - right_eye
    angle = torch.atan2(y, x)
    cosine, sine = angle.cos(), angle.sin()
    return torch.stack((torch.stack((cosine, sine)), torch.stack((-sine, cosine))))


class FaceTracker:
    """The landmarks of a face that hardly moves, in one frame after the other."""

    def __init__(self, points: Tensor, width: int, height: int, device: torch.device) -> None:
        """``points`` [468, 2] are the landmarks in the portrait, on the CPU, in pixels of ``width`` x ``height``.

        ``device`` is that of the frames.
        """
        region = Region.around(points)
        # A little smaller is no loss.
        scale = INPUT_SIZE / region.size
        self._scale = scale if scale < LEAST_SCALE else 1.0
        size = torch.tensor((width, height))
        # Beyond the frame, its border goes on: MPS cannot pad with it.
        most = 1 - 1 / size
        places = torch.minimum(torch.maximum(region.pixels() / size * 2 - 1, -most), most)
        self._places = send(places[None], device)
        self._region = Region(send(region.centre, device), send(region.sides, device))

    def read(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        """Frames [T, 3, H, W] in [-1, 1] -> landmarks [T, 468, 2] in pixels, and whether a face is seen [T]."""
        frames = shrunk(frames.float(), self._scale)
        places = self._places.expand(len(frames), -1, -1, -1)
        seen = functional.grid_sample(frames, places, align_corners=False)
        pixels = seen.add_(1).div_(2).contiguous(memory_format=torch.channels_last)
        landmarks, presence = face_mesh(frames.device)(pixels)
        return self._region.in_picture(landmarks.to(self._region.sides) / INPUT_SIZE), presence >= MIN_PRESENCE


def shrunk(pictures: Tensor, scale: float) -> Tensor:
    """Pictures [T, 3, H, W] at a scale below 1, so that sampling does not alias; at any other, as they are."""
    if scale >= 1:
        return pictures
    height, width = (max(1, round(length * scale)) for length in pictures.shape[-2:])
    return functional.interpolate(pictures, (height, width), mode="bilinear", antialias=True)
