"""Pastes a generated face into the frames of another video: at a fixed place, or along the track of a face."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from typing_extensions import override

from ..host.audio import overlaid
from ..media.audio_track import AudioTrack
from ..models.streaming import Recording
from ..video.streamed import StreamedVideo
from ..video.writing import Frame, FrameSource
from .crop import Crop, paste_into
from .track import FaceTrack, Placement
from .tracking import mean_color

FADE_S = 0.2
"""Duration of the fade to the original face when the generated one has ended."""
MOST_SHIFTED = 40.0
"""Largest colour shift in any channel, of 255: a larger one is not caused by light."""
MASK_SIDE = 256


@dataclass(frozen=True)
class PasteOptions:
    """``feather``: width of the soft edge as a share of the square's side; ``color_match``: see ``paste_tracked``."""

    feather: float
    color_match: float = 1.0


@dataclass(frozen=True)
class StillFrames:
    """A picture as a video of one frame."""

    picture: Frame
    fps: Fraction

    def frames(self, start: int = 0, stop: int | None = None) -> Iterator[Frame]:
        """The frame, if it is among [start, stop)."""
        return iter([self.picture][start:stop])

    def get_dimensions(self) -> tuple[int, int]:
        """(width, height) in pixels."""
        return self.picture.shape[1], self.picture.shape[0]

    def get_frame_count(self) -> int:
        """One."""
        return 1

    def get_frame_rate(self) -> Fraction:
        """Frames per second."""
        return self.fps

    def sound(self) -> AudioTrack | None:
        """None."""
        return None

    def note_saved(self) -> None:
        """Does nothing: no frames are kept for another attempt."""


class PastedVideo(StreamedVideo):
    """``face`` in the frames of ``picture``, at the picture's size and frame rate.

    If the picture is longer, its own frames continue; if it is shorter, its last frame is held.
    """

    def __init__(self, face: FrameSource, picture: FrameSource, place: Crop | FaceTrack, options: PasteOptions) -> None:
        super().__init__()
        self._face, self._picture = face, picture
        self._place = place
        self._paste = _paster(place, options)

    @override
    def frames(self, start: int = 0, stop: int | None = None) -> Iterator[Frame]:
        """Frames [start, stop) as uint8 [H, W, 3] of the picture's size, in bounded memory."""
        count, last = self.get_frame_count(), self._picture.get_frame_count() - 1
        span = range(count)[start:stop]
        if not span:
            return
        faces = _in_order(self._face, self._face_frame)
        pictures = _in_order(self._picture, lambda frame: min(frame, last))
        for frame in span:
            picture, weight = pictures(frame), self._weight(frame)
            yield self._paste(picture, faces(frame), frame, weight) if weight > 0 else picture

    def _face_frame(self, frame: int) -> int:
        """The frame of the face's video that is shown in a frame of the picture's."""
        own = frame / self.get_frame_rate() * self._face.get_frame_rate()
        return min(math.floor(own + Fraction(1, 1000)), self._face.get_frame_count() - 1)

    def _weight(self, frame: int) -> float:
        """1 while the face speaks, fading to 0 at its end if the picture continues."""
        if self._length(self._face) >= self.get_frame_count():
            return 1.0
        left = (self._length(self._face) - frame) / float(self.get_frame_rate() * Fraction(FADE_S))
        return min(max(left, 0.0), 1.0)

    def _length(self, source: FrameSource) -> int:
        """Length of a source in frames of this video."""
        return math.ceil(source.get_frame_count() / source.get_frame_rate() * self.get_frame_rate())

    @override
    def get_dimensions(self) -> tuple[int, int]:
        """(width, height) in pixels."""
        return self._picture.get_dimensions()

    @override
    def get_frame_count(self) -> int:
        """Number of frames."""
        return max(self._picture.get_frame_count(), self._length(self._face))

    @override
    def get_frame_rate(self) -> Fraction:
        """Frames per second."""
        return self._picture.get_frame_rate()

    @override
    def sound(self) -> AudioTrack | None:
        """The sound of the face's video, mixed with that of the picture unless the picture is dubbed."""
        sources = [self._face] if isinstance(self._place, FaceTrack) else [self._face, self._picture]
        tracks = [track for source in sources if (track := source.sound()) is not None]
        return overlaid([Recording(torch.from_numpy(track.waveform), track.sample_rate) for track in tracks])

    @override
    def note_saved(self) -> None:
        """Called when every frame has been saved or passed to the graph."""
        self._face.note_saved()
        self._picture.note_saved()


def _in_order(source: FrameSource, index_of: Callable[[int], int]) -> Callable[[int], Frame]:
    """The frame of ``source`` for each number in a rising sequence, with one frame in memory."""
    reading: Iterator[tuple[int, Frame]] | None = None
    held: tuple[int, Frame] | None = None

    def read(number: int) -> Frame:
        nonlocal reading, held
        wanted = index_of(number)
        if reading is None:
            reading = enumerate(source.frames(wanted), start=wanted)
        while held is None or held[0] < wanted:
            following = next(reading, None)
            if following is None:
                # The file has fewer frames than its header gives.
                break
            held = following
        if held is None:
            raise ValueError(f"video: frame {wanted} cannot be read. Generate or load the video again")
        return held[1]

    return read


def _paster(place: Crop | FaceTrack, options: PasteOptions) -> Callable[[Frame, Frame, int, float], Frame]:
    """(picture, face, frame number, weight) -> the picture with the face."""
    if isinstance(place, Crop):
        into = paste_into(place, options.feather)
        return lambda picture, face, frame, weight: into(picture, face, weight)
    mask = soft_mask(options.feather)

    def paste(picture: Frame, face: Frame, frame: int, weight: float) -> Frame:
        at = place.at(frame)
        return paste_tracked(picture, face, at, place.face, mask, at.weight * weight, options.color_match)

    return paste


def soft_mask(feather: float) -> Image.Image:
    """Opacity of a square, as a picture: full in the middle, falling smoothly to round corners and edges."""
    centres = np.abs((np.arange(MASK_SIDE) + 0.5) / MASK_SIDE * 2 - 1)
    # Distance from the middle, 1 on the edge of a square with round corners.
    distance = (centres[:, None] ** 4 + centres[None, :] ** 4) ** 0.25
    t = np.clip((1 - distance) / max(2 * feather, 1e-3), 0, 1)
    return Image.fromarray(np.round(255 * t * t * (3 - 2 * t)).astype(np.uint8))


def paste_tracked(
    picture: Frame,
    face: Frame,
    at: Placement,
    face_box: tuple[float, float, float, float],
    mask: Image.Image,
    weight: float,
    color_match: float,
) -> Frame:
    """``picture`` uint8 [H, W, 3] with ``face`` uint8 [n, n, 3] at a place in fractions of pixels.

    ``color_match`` sets how far the face's mean colour within ``face_box`` (shares of the square) is moved to that of
    the picture's original face.
    """
    height, width = picture.shape[:2]
    left, top = max(math.ceil(at.x), 0), max(math.ceil(at.y), 0)
    right, bottom = min(math.floor(at.x + at.side), width), min(math.floor(at.y + at.side), height)
    if weight <= 0 or right <= left or bottom <= top:
        return picture
    inside = tuple(
        (edge - origin) / at.side
        for edge, origin in zip((left, top, right, bottom), (at.x, at.y, at.x, at.y), strict=True)
    )
    size = right - left, bottom - top
    pasted = _scaled(Image.fromarray(face), inside, size).astype(np.int32)
    opacity = np.round(_scaled(mask, inside, size).astype(np.float32) * (256 / 255 * weight)).astype(np.int32)
    box = tuple(share * side for share, side in zip(face_box, 2 * face.shape[1::-1], strict=True))
    shift = (np.array(at.color) - mean_color(face, box)) * color_match
    pasted = np.clip(pasted + np.round(shift.clip(-MOST_SHIFTED, MOST_SHIFTED)).astype(np.int32), 0, 255)
    result = picture.copy()
    region = result[top:bottom, left:right]
    opacity = opacity[..., None]
    region[:] = (pasted * opacity + region.astype(np.int32) * (256 - opacity) + 128) >> 8
    return result


def _scaled(image: Image.Image, part: tuple[float, ...], size: tuple[int, int]) -> npt.NDArray[np.uint8]:
    """A part (left, top, right, bottom as shares) of an image at a size."""
    shares = zip(part, 2 * image.size, strict=True)
    left, top, right, bottom = (min(max(share * length, 0.0), float(length)) for share, length in shares)
    return np.asarray(image.resize(size, Image.Resampling.BICUBIC, box=(left, top, right, bottom)))
