"""The face of a picture: found, chosen or boxed by hand, cut out, and its video put back into the picture."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from comfy_api.latest import Input
from torch import Tensor
from typing_extensions import override

from ..host.portrait import SMALLEST_PORTRAIT, checked_portrait
from ..host.progress import notify
from ..video.incoming import frames_of
from ..video.streamed import DerivedVideo
from ..video.writing import Frame, FrameSource
from .crop import Crop, paste, square_around
from .detector import Face, find_faces

ON_MISSING = ("error", "centre")

Box = tuple[int, int, int, int]
"""x, y, width, height in pixels."""


@dataclass(frozen=True)
class CropOptions:
    """The node's widgets; a ``box`` of width and height 0 stands for none."""

    margin: float
    face_index: int
    on_missing: str
    box: Box


def crop_face(
    image: Tensor, options: CropOptions, node_id: str | None, mask: Tensor | None = None
) -> tuple[Tensor, Crop]:
    """The square around a face as an IMAGE [1, side, side, 3] in 0..1, and where it was.

    Raises:
        ValueError: the image cannot be used, there is no such face, or the box is none; names the input and remedy.
    """
    rgb, notes = checked_portrait(image, mask)
    height, width = rgb.shape[1:3]
    crop, found = _choose(rgb, width, height, options)
    if crop.side < SMALLEST_PORTRAIT:
        raise ValueError(
            f"image: the face takes {crop.side} pixels, too few for a portrait (at least {SMALLEST_PORTRAIT}). Use a "
            "larger picture or raise margin"
        )
    notify(node_id, *notes, f"{found}: {crop.side}x{crop.side} pixels at ({crop.x}, {crop.y})")
    return rgb[:, crop.y : crop.y + crop.side, crop.x : crop.x + crop.side].clone(), crop


def _choose(rgb: Tensor, width: int, height: int, options: CropOptions) -> tuple[Crop, str]:
    """The crop, and in words what was cropped."""
    if any(options.box[2:]):
        return square_around(_checked_box(options.box, width, height), width, height, options.margin), "your box"
    faces = find_faces(to_picture(rgb))
    if not faces and options.on_missing == "centre":
        side = min(width, height)
        return Crop((width - side) // 2, (height - side) // 2, side, width, height), "no face found, the centre"
    face = _indexed(faces, options.face_index)
    box = face.x, face.y, face.width, face.height
    return square_around(box, width, height, options.margin), f"face {options.face_index} of {len(faces)}"


def _indexed(faces: list[Face], index: int) -> Face:
    if not faces:
        raise ValueError(
            "image: no face was found in this picture. Set on_missing to centre to take its middle, or give the face's "
            "box by hand in box_x, box_y, box_width and box_height, as drawn faces may need"
        )
    if index >= len(faces):
        known = "only face 0" if len(faces) == 1 else f"faces 0 to {len(faces) - 1}, the largest first"
        raise ValueError(f"face_index: {index}, but the picture has {known}")
    return faces[index]


def _checked_box(box: Box, width: int, height: int) -> Box:
    x, y, box_width, box_height = box
    if min(box_width, box_height) < 1:
        raise ValueError(
            f"box_width, box_height: {box_width}x{box_height} is not a box. Give both in pixels, or 0 for both to have "
            "the face found"
        )
    if x >= width or y >= height:
        raise ValueError(f"box_x, box_y: ({x}, {y}) lies outside of the picture of {width}x{height} pixels")
    return x, y, min(box_width, width - x), min(box_height, height - y)


def to_picture(rgb: Tensor) -> Frame:
    """IMAGE [1, H, W, 3] in 0..1 -> uint8 [H, W, 3]."""
    return (rgb[0] * 255).round().to(torch.uint8).cpu().numpy()


def paste_face(
    video: Input.Video, image: Tensor, crop: Crop, feather: float, node_id: str | None, mask: Tensor | None = None
) -> PastedVideo:
    """The video of a cropped face at its place in the picture.

    Raises:
        ValueError: the three do not belong together; names the input and the remedy.
    """
    rgb, notes = checked_portrait(image, mask)
    height, width = rgb.shape[1:3]
    if (width, height) != (crop.width, crop.height):
        raise ValueError(
            f"image: it has {width}x{height} pixels, the crop was taken from {crop.width}x{crop.height}; connect the "
            "same picture as to AsymTalker Face Crop"
        )
    source = frames_of(video)
    video_width, video_height = source.get_dimensions()
    if video_width != video_height:
        raise ValueError(
            f"video: it has {video_width}x{video_height} pixels, but the crop is a square; set width and height of "
            "AsymTalker Temporal Reference Encode to the same value, or crop another video to a square"
        )
    pasted = PastedVideo(source, to_picture(rgb), crop, feather)
    if pasted.get_dimensions() != (width, height):
        even = "x".join(map(str, pasted.get_dimensions()))
        notes = [*notes, f"H.264 needs even sizes: {width}x{height} is cut to {even}"]
    notify(node_id, *notes)
    return pasted


class PastedVideo(DerivedVideo):
    """A video inside a picture; frames are composed as they are read."""

    def __init__(self, source: FrameSource, picture: Frame, crop: Crop, feather: float) -> None:
        super().__init__(source)
        self._picture = picture
        self._crop = crop
        self._feather = feather

    @override
    def frames(self, start: int = 0, stop: int | None = None) -> Iterator[Frame]:
        """Frames [start, stop) as uint8 [H, W, 3] of the picture's size (even), in bounded memory."""
        width, height = self.get_dimensions()
        for frame in paste(self._source.frames(start, stop), self._picture, self._crop, self._feather):
            yield np.ascontiguousarray(frame[:height, :width])

    @override
    def get_dimensions(self) -> tuple[int, int]:
        """(width, height) in pixels."""
        return self._crop.width // 2 * 2, self._crop.height // 2 * 2
