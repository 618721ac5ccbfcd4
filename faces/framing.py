"""Chooses the part of a picture that a video shows, around its face if there is one, and warns about the face."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor

from ..host.messages import counted
from ..models.choices import Choice
from .crop_and_paste import to_picture
from .detector import Face, find_faces


class Framing(Choice):
    """The part of a picture that a video shows."""

    CENTRE = "centre"
    FACE = "face"


NEAR_ENOUGH = 0.8
"""If a frame has at least this share of the size of the picture's middle, the middle is used unchanged."""
OFF_CENTRE = 0.12
"""Distance of the face from the middle, as a share of the frame, up to which it counts as centred."""
SMALL_SHARE = 0.25
"""The face's share of the frame below which its mouth has too few pixels to move well."""
TURNED = 0.35
"""Distance of the nose from the middle between the eyes, in distances of the eyes: about 30 degrees."""


@dataclass(frozen=True)
class Frame:
    """A rectangle of a picture in pixels."""

    x: float
    y: float
    width: float
    height: float

    @classmethod
    def middle(cls, width: int, height: int, aspect: float) -> Frame:
        """The largest one of that aspect ratio in the middle of a picture."""
        frame_width, frame_height = min(width, height * aspect), min(height, width / aspect)
        return cls((width - frame_width) / 2, (height - frame_height) / 2, frame_width, frame_height)

    def around(self, face: Face, face_share: float, width: int, height: int) -> Frame:
        """A smaller frame, of which the face takes ``face_share``, or the frame itself if it is about as good."""
        shorter = min(self.width, self.height)
        scale = min(max(face.width, face.height) / face_share / shorter, 1.0)
        off = math.dist(_centre(face), _centre(self)) / shorter
        if scale >= NEAR_ENOUGH and off <= OFF_CENTRE:
            return self
        frame_width, frame_height = self.width * scale, self.height * scale
        x, y = (centre - side / 2 for centre, side in zip(_centre(face), (frame_width, frame_height), strict=True))
        inside = min(max(x, 0), width - frame_width), min(max(y, 0), height - frame_height)
        return Frame(*inside, frame_width, frame_height)

    def cut(self, rgb: Tensor) -> Tensor:
        """Its part of a picture [1, H, W, 3]."""
        left, top = round(self.x), round(self.y)
        width, height = max(1, round(self.width)), max(1, round(self.height))
        return rgb[:, top : top + height, left : left + width]


def framed(rgb: Tensor, width: int, height: int, face_share: float, framing: Framing) -> tuple[Tensor, list[str]]:
    """The part of a picture [1, H, W, 3] for a video of that size, and notes on the face in it.

    face_share: the face's longer side as a share of the frame's shorter one, as the model was trained.
    framing: "centre" does not crop here, because the picture's middle is encoded anyway.
    """
    picture_height, picture_width = rgb.shape[1:3]
    middle = Frame.middle(picture_width, picture_height, width / height)
    faces = find_faces(to_picture(rgb))
    if not faces:
        return rgb, ["no face was detected (drawn faces may not be): the middle of the picture is used"]
    if framing == Framing.CENTRE:
        return rgb, _warnings(faces[0], middle, "set framing to face")
    frame = middle.around(faces[0], face_share, picture_width, picture_height)
    whose = "the face" if len(faces) == 1 else f"the largest of {counted(len(faces), 'face')}"
    if frame == middle:
        return rgb, [f"{whose} is well framed: the middle of the picture is used", *_warnings(faces[0], frame)]
    where = f"{frame.width:.0f}x{frame.height:.0f} pixels at ({frame.x:.0f}, {frame.y:.0f})"
    return frame.cut(rgb), [f"framed {whose}: {where}", *_warnings(faces[0], frame)]


def _warnings(face: Face, frame: Frame, remedy: str = "use a picture with a larger face") -> list[str]:
    """Problems of a face that will affect the video, each with its remedy."""
    warnings = []
    share = max(face.width, face.height) / min(frame.width, frame.height)
    is_inside = all(
        start <= at <= start + side
        for at, start, side in zip(_centre(face), (frame.x, frame.y), (frame.width, frame.height), strict=True)
    )
    if not is_inside:
        warnings.append(f"the face is outside the frame: {remedy}")
    elif share < SMALL_SHARE:
        warnings.append(f"the face is small, {share:.0%} of the frame: {remedy}")
    if _turn(face) > TURNED:
        warnings.append("the face is turned to the side: a frontal portrait follows the speech better")
    return warnings


def _turn(face: Face) -> float:
    right_eye, left_eye, nose = face.landmarks[:3]
    middle = (right_eye[0] + left_eye[0]) / 2
    return abs(nose[0] - middle) / max(math.dist(right_eye, left_eye), 1e-6)


def _centre(box: Face | Frame) -> tuple[float, float]:
    return box.x + box.width / 2, box.y + box.height / 2
