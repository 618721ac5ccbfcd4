"""The face of a picture: found, chosen or boxed by hand, cut out, and its video put back into the picture."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import torch
from comfy_api.latest import Input
from torch import Tensor

from ..host.portrait import SMALLEST_PORTRAIT, checked_portrait
from ..host.progress import notify
from ..models.choices import Choice
from ..video.incoming import frames_of
from ..video.writing import Frame, FrameSource
from .crop import Crop, square_around
from .detector import Face, find_faces
from .pasting import PastedVideo, PasteOptions, StillFrames
from .track import FaceTrack


class OnMissing(Choice):
    """What happens to a picture without a face."""

    ERROR = "error"
    CENTRE = "centre"
    """Its middle is taken."""


APART_S = 0.1
"""Difference in length, in seconds, above which a note is shown."""

Box = tuple[int, int, int, int]
"""x, y, width, height in pixels."""


@dataclass(frozen=True)
class CropOptions:
    """The node's widgets; a ``box`` of width and height 0 stands for none."""

    margin: float
    face_index: int
    on_missing: OnMissing
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
    if not faces and options.on_missing == OnMissing.CENTRE:
        side = min(width, height)
        return Crop((width - side) // 2, (height - side) // 2, side, width, height), "no face found, the centre"
    face = _indexed(faces, options.face_index)
    box = face.x, face.y, face.width, face.height
    return square_around(box, width, height, options.margin), f"face {options.face_index} of {len(faces)}"


def _indexed(faces: list[Face], index: int) -> Face:
    if not faces:
        raise ValueError(
            "image: no face was found in this picture. Set on_missing to centre to take its middle, or enter the "
            "face's box in box_x, box_y, box_width and box_height, which drawn faces may need"
        )
    if index >= len(faces):
        known = "only face 0" if len(faces) == 1 else f"faces 0 to {len(faces) - 1}, the largest first"
        raise ValueError(f"face_index: {index}, but the picture has {known}")
    return faces[index]


def _checked_box(box: Box, width: int, height: int) -> Box:
    x, y, box_width, box_height = box
    if min(box_width, box_height) < 1:
        raise ValueError(
            f"box_width, box_height: {box_width}x{box_height} is not a box. Set both in pixels, or both to 0 to "
            "detect the face"
        )
    if x >= width or y >= height:
        raise ValueError(f"box_x, box_y: ({x}, {y}) lies outside of the picture of {width}x{height} pixels")
    return x, y, min(box_width, width - x), min(box_height, height - y)


def to_picture(rgb: Tensor) -> Frame:
    """IMAGE [1, H, W, 3] in 0..1 -> uint8 [H, W, 3]."""
    return (rgb[0] * 255).round().to(torch.uint8).cpu().numpy()


def paste_face(
    video: Input.Video,
    image: Tensor | Input.Video,
    crop: Crop | FaceTrack,
    feather: float,
    node_id: str | None,
    mask: Tensor | None = None,
    color_match: float = 1.0,
) -> PastedVideo:
    """The video of a cropped face at its place in the picture, which may be a video itself.

    Raises:
        ValueError: the three do not belong together; names the input and the remedy.
    """
    source = frames_of(video)
    picture, notes = _picture_frames(image, source.get_frame_rate(), crop, mask)
    video_width, video_height = source.get_dimensions()
    if video_width != video_height:
        raise ValueError(
            f"video: it has {video_width}x{video_height} pixels, but the crop is a square; set width and height of "
            "AsymTalker Temporal Reference Encode to the same value, or crop another video to a square"
        )
    pasted = PastedVideo(source, picture, crop, PasteOptions(feather, color_match))
    if not isinstance(picture, StillFrames):
        notes += _length_notes(source, picture)
    notify(node_id, *notes)
    return pasted


def _picture_frames(
    image: Any, fps: Fraction, crop: Crop | FaceTrack, mask: Tensor | None
) -> tuple[FrameSource, list[str]]:
    """What is pasted into, and notes. Raises ValueError if the crop was not taken from it."""
    if isinstance(image, Tensor):
        if isinstance(crop, FaceTrack):
            raise ValueError(
                "image: the crop comes from AsymTalker Face Track, but this is a picture; connect the video that is "
                "connected there"
            )
        rgb, notes = checked_portrait(image, mask)
        picture: FrameSource = StillFrames(to_picture(rgb), fps)
    else:
        picture = frames_of(image)
        notes = [] if mask is None else ["mask: a video has no transparency, so it is not used"]
    size, taken = picture.get_dimensions(), (crop.width, crop.height)
    node = "AsymTalker Face Track" if isinstance(crop, FaceTrack) else "AsymTalker Face Crop"
    if size != taken:
        raise ValueError(
            f"image: it has {size[0]}x{size[1]} pixels, the crop was taken from {taken[0]}x{taken[1]}; connect the "
            f"same picture as to {node}"
        )
    if isinstance(crop, FaceTrack) and picture.get_frame_count() != crop.num_frames:
        raise ValueError(
            f"image: the video has {picture.get_frame_count()} frames, but the face was tracked over "
            f"{crop.num_frames}; connect the same video as to {node}"
        )
    return picture, notes


def _length_notes(face: FrameSource, picture: FrameSource) -> list[str]:
    """A note if the two videos do not end together."""
    face_s, picture_s = (float(source.get_frame_count() / source.get_frame_rate()) for source in (face, picture))
    if abs(face_s - picture_s) < APART_S:
        return []
    end = "its last frame is held" if face_s > picture_s else "its original face is shown after that"
    return [f"the speech lasts {face_s:.2f} s, the video in image {picture_s:.2f} s: {end}"]
