"""A VIDEO whose frames are made as they are needed, behind core's interface, and its edits."""

from __future__ import annotations

import math
import threading
import uuid
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import comfy.utils
import folder_paths
import numpy as np
import torch
from comfy_api.latest import InputImpl, Types
from typing_extensions import override

from ..host.guards import check_room
from ..media import MediaError
from ..media.audio_track import AudioTrack
from .writing import SAVED_CRF, Frame, FrameSource, Target, encoding_for, save_frames, write_mp4

TIME_TOLERANCE_FRAMES = 1e-3
"""Times are floats; a time this close to a frame's selects that frame."""


class StreamedVideo(InputImpl.VideoFromFile, ABC):
    """A VIDEO whose frames are generated or read as needed, and never all at once unless requested.

    It is a video file of the host that is written only when something needs the file itself: a method that a later host
    adds is answered by the host's own code over that file. (The host's abstract class is no base: its next abstract
    method would make this class one that cannot be made.)
    """

    def __init__(self) -> None:
        # What the host's class keeps of its file is set when one of its methods first needs it: see __getattr__.
        self._has_file = False
        self._file: Path | None = None
        self._writing = threading.Lock()

    def __getattr__(self, name: str) -> Any:
        """The host's own attributes, private ones alone: public names are probed by anyone who meets the object."""
        if not name.startswith("_") or name.startswith("__") or self.__dict__.get("_has_file", True):
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        source = self.get_stream_source()
        self._has_file = True
        super().__init__(source)
        return getattr(self, name)

    @abstractmethod
    def frames(self, start: int = 0, stop: int | None = None) -> Iterator[Frame]:
        """Frames [start, stop) as uint8 [H, W, 3], in order, in bounded memory."""

    @abstractmethod
    def get_dimensions(self) -> tuple[int, int]:
        """(width, height) in pixels."""

    @abstractmethod
    def get_frame_count(self) -> int:
        """Number of frames."""

    @abstractmethod
    def get_frame_rate(self) -> Fraction:
        """Frames per second."""

    def sound(self) -> AudioTrack | None:
        """The sound that belongs to the frames; None: there is none."""
        return None

    def note_saved(self) -> None:
        """Note that all frames have reached a file or the graph: they need not be kept for another attempt."""

    @override
    def get_stream_source(self) -> str:
        """Path of an mp4 with these frames, written on the first request.

        It stays in ComfyUI's temporary folder, which the server empties: what was made of it may outlive this object.
        """
        with self._writing:
            if self._file is None or not self._file.is_file():
                file = Path(folder_paths.get_temp_directory()) / f"asymtalker_{uuid.uuid4().hex}.mp4"
                write_mp4(self, file, self.sound(), crf=SAVED_CRF, metadata=None)
                self._file = file
            return str(self._file)

    @override
    def get_components(self) -> Types.VideoComponents:
        """All frames as an IMAGE batch [n, H, W, 3] in 0..1 (in memory, as the interface requires).

        Raises:
            MemoryError: they do not fit; the message gives what fits.
        """
        (width, height), count = self.get_dimensions(), self.get_frame_count()
        check_room(
            count * height * width * 3 * torch.finfo(torch.float32).bits // 8,
            f"video: all {count} frames of {width}x{height} at once take",
            "Connect the video to AsymTalker Mux & Save or Save Video, which take it frame by frame, or shorten it "
            "first (Trim Video)",
        )
        images = torch.empty((count, height, width, 3))
        read = 0
        for read, frame in enumerate(self.frames(0, count), start=1):
            images[read - 1] = torch.from_numpy(frame) / 255.0
        if read < count:
            raise MediaError(f"video: only {read} of {count} frames can be read. Generate or load the video again.")
        self.note_saved()
        return Types.VideoComponents(images=images, audio=_as_audio(self.sound()), frame_rate=self.get_frame_rate())

    @override
    def save_to(
        self,
        path: Target,
        format: Types.VideoContainer = Types.VideoContainer.AUTO,
        codec: Types.VideoCodec = Types.VideoCodec.AUTO,
        metadata: dict[str, Any] | None = None,
        bit_depth: int | None = None,
        crf: float | None = None,
        color_space: str | None = None,
        **newer_options: Any,
    ) -> None:
        """Save without loading the video: an H.264 mp4 by the pack's encoder, the rest by the host's.

        Raises:
            ValueError: neither supports the request; names the widget.
            MediaError: encoding failed; no file is left.
        """
        options = {"bit_depth": bit_depth, "crf": crf, "color_space": color_space, **newer_options}
        save_frames(self, path, encoding_for(path, format, codec, options), metadata)

    @override
    def get_duration(self) -> float:
        """Length in seconds."""
        return float(self.get_frame_count() / self.get_frame_rate())

    @override
    def get_container_format(self) -> str:
        """What ``save_to`` writes."""
        return "mp4"

    def get_bit_depth(self) -> int:
        """Bits a channel."""
        return 8

    def get_color_space(self) -> str:
        """The host's name of the frames' colours."""
        return "sRGB"

    def get_display_dimensions(self) -> tuple[int, int]:
        """(width, height) in pixels: no frame is stored turned."""
        return self.get_dimensions()

    def has_pending_frame_edits(self) -> bool:
        """Never: the stream source shows every edit."""
        return False

    def get_active_trim_window(self) -> tuple[float, float]:
        """(start, duration) in seconds of a trim that the stream source does not show: none."""
        return 0.0, 0.0

    def as_trimmed(
        self, start_time: float | None = None, duration: float | None = None, strict_duration: bool = False
    ) -> StreamedVideo | None:
        """The frames of a span of time in seconds, exact to the frame.

        start_time: negative: from the end.
        duration: 0 or None: to the end.
        strict_duration: whether a longer span than there is gives None; else it is shortened.

        Returns:
            None also where no frame lies in the span.
        """
        rate, count = float(self.get_frame_rate()), self.get_frame_count()
        start = (start_time or 0.0) * rate
        start = max(count + start, 0.0) if start < 0 else start
        stop = start + duration * rate if duration else float(count)
        if strict_duration and stop > count + TIME_TOLERANCE_FRAMES:
            return None
        first, end = _frame_from(start), min(_frame_from(stop), count)
        if (first, end) == (0, count):
            return self
        return TrimmedVideo(self, first, end) if first < end else None

    def as_cropped(self, x: int = 0, y: int = 0, width: int = 0, height: int = 0) -> StreamedVideo:
        """The rectangle, moved to even pixels inside the frame; itself where that is empty or the whole frame."""
        frame_width, frame_height = self.get_dimensions()
        left, kept_width = _clipped(x, width, frame_width)
        top, kept_height = _clipped(y, height, frame_height)
        if min(kept_width, kept_height) < 2 or (kept_width, kept_height) == (frame_width, frame_height):
            return self
        right, bottom = left + kept_width // 2 * 2, top + kept_height // 2 * 2
        return ReshapedVideo(self, (right - left, bottom - top), lambda frame: frame[top:bottom, left:right])

    def as_resized(
        self,
        width: int,
        height: int,
        upscale_method: str,
        crop: str = "disabled",
        post_crop: tuple[int, int, int, int] | None = None,
    ) -> StreamedVideo:
        """Frames scaled as core scales images; ``post_crop``: (x, y, width, height) of what is kept of them."""
        x, y, kept_width, kept_height = post_crop or (0, 0, width, height)

        def resize(frame: Frame) -> Frame:
            pixels = torch.from_numpy(np.ascontiguousarray(frame)).movedim(-1, 0)[None] / 255
            scaled = comfy.utils.common_upscale(pixels, width, height, upscale_method, crop)[0]
            rounded = (scaled * 255).round().clamp(0, 255).to(torch.uint8).movedim(0, -1)
            return rounded[y : y + kept_height, x : x + kept_width].numpy()

        return ReshapedVideo(self, (kept_width, kept_height), resize)


def _as_audio(track: AudioTrack | None) -> Any:
    """An AUDIO value [1, channels, N]."""
    if track is None:
        return None
    return {"waveform": torch.from_numpy(track.waveform)[None], "sample_rate": track.sample_rate}


def _frame_from(position: float) -> int:
    """Index of the first frame at or after a position in frames."""
    return math.ceil(position - TIME_TOLERANCE_FRAMES)


def _clipped(start: int, length: int, size: int) -> tuple[int, int]:
    """Start, on an even pixel, and length of what lies within ``size``."""
    begin = max(0, min(start, size - 1)) // 2 * 2
    return begin, min(length, size - begin)


class DerivedVideo(StreamedVideo):
    """A video made from another video's frames, one for each by default."""

    def __init__(self, source: FrameSource) -> None:
        super().__init__()
        self._source = source

    @override
    def get_dimensions(self) -> tuple[int, int]:
        """(width, height) in pixels."""
        return self._source.get_dimensions()

    @override
    def get_frame_count(self) -> int:
        """Number of frames."""
        return self._source.get_frame_count()

    @override
    def get_frame_rate(self) -> Fraction:
        """Frames per second."""
        return self._source.get_frame_rate()

    @override
    def sound(self) -> AudioTrack | None:
        """The other video's."""
        return self._source.sound()

    @override
    def note_saved(self) -> None:
        """Every frame has reached a file or the graph in this form."""
        self._source.note_saved()


class TrimmedVideo(DerivedVideo):
    """A span of another video's frames."""

    def __init__(self, source: FrameSource, first: int, stop: int) -> None:
        super().__init__(source)
        self._first, self._stop = first, stop

    @override
    def frames(self, start: int = 0, stop: int | None = None) -> Iterator[Frame]:
        """Frames [start, stop) of the span as uint8 [H, W, 3], in bounded memory."""
        end = self._stop if stop is None else min(self._first + stop, self._stop)
        return self._source.frames(min(self._first + start, end), end)

    @override
    def get_frame_count(self) -> int:
        """Number of frames in the span."""
        return self._stop - self._first

    @override
    def sound(self) -> AudioTrack | None:
        """The sound of the span, which may be shorter if the sound ends before the pictures."""
        track = self._source.sound()
        if track is None:
            return None
        rate = track.sample_rate / self.get_frame_rate()
        part = track.waveform[:, round(self._first * rate) : round(self._stop * rate)]
        return AudioTrack(part, track.sample_rate) if part.shape[1] else None

    @override
    def note_saved(self) -> None:
        """Frames outside the span were not saved, so they are kept."""


class ReshapedVideo(DerivedVideo):
    """Another video with each frame cropped or scaled as it is read."""

    def __init__(self, source: FrameSource, size: tuple[int, int], reshape: Callable[[Frame], Frame]) -> None:
        super().__init__(source)
        self._size, self._reshape = size, reshape

    @override
    def frames(self, start: int = 0, stop: int | None = None) -> Iterator[Frame]:
        """Frames [start, stop) as uint8 [H, W, 3], in bounded memory."""
        for frame in self._source.frames(start, stop):
            yield np.ascontiguousarray(self._reshape(frame))

    @override
    def get_dimensions(self) -> tuple[int, int]:
        """(width, height) in pixels."""
        return self._size
