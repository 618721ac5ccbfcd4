"""Any VIDEO that comes in, frame by frame and as its edits make it: trimmed, cropped, resized, turned."""

from __future__ import annotations

import inspect
import itertools
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import av
import numpy as np
import torch
from av.container import InputContainer
from comfy_api.latest import Input, InputImpl, Types

from ..host.audio import checked_audio
from ..media.audio_track import MAX_CHANNELS, AudioTrack
from .streamed import StreamedVideo
from .writing import LOSSLESS_CRF, Frame, FrameSource, temporary_folder


def frames_of(video: Input.Video) -> FrameSource:
    """The frames of a VIDEO of any kind, in bounded memory unless they are in memory already.

    Raises:
        ValueError: the video cannot be read; names the input and the remedy.
    """
    if isinstance(video, StreamedVideo):
        return video
    if isinstance(video, InputImpl.VideoFromComponents):
        return ImageFrames(video.get_components())
    if isinstance(video, InputImpl.VideoFromFile):
        FileFrames(video).check()
        with _readable():
            window = _window(video)
        if window is not None:
            return FileFrames(video, *window)
    if "crf" in inspect.signature(video.save_to).parameters:
        return saved_frames(video)
    with _readable():
        return ImageFrames(video.get_components())


def _window(video: Any) -> tuple[float, float] | None:
    """(start, duration) in seconds of what the video shows of its file; None if it shows the file in another way."""
    if hasattr(video, "has_pending_frame_edits") and video.has_pending_frame_edits():
        return None
    whole = InputImpl.VideoFromFile(video.get_stream_source())
    if video.get_dimensions() != whole.get_dimensions():
        return None
    if hasattr(video, "get_active_trim_window"):
        return video.get_active_trim_window()
    try:
        return (0.0, 0.0) if video.get_duration() == whole.get_duration() else None
    except ValueError:
        # The file has no length, as a GIF of one picture: only the host can say what it shows of it.
        return None


def saved_frames(video: Input.Video) -> FileFrames:
    """The frames of a VIDEO as its own ``save_to`` writes them, without loss, into a temporary file."""
    folder = temporary_folder()
    file = Path(folder.name) / "edited.mp4"
    options: dict[str, Any] = {"crf": LOSSLESS_CRF}
    try:
        video.save_to(str(file), Types.VideoContainer.MP4, Types.VideoCodec.H264, **options)
    except (ValueError, av.FFmpegError, OSError) as error:
        raise ValueError(f"video: its edits cannot be applied ({error}). Remove the crop or resize node") from error
    return FileFrames(InputImpl.VideoFromFile(str(file)), keeps=folder)


@contextmanager
def _readable() -> Iterator[None]:
    """Errors of a file that is no video, or a damaged one, under the input's name."""
    try:
        yield
    except (av.FFmpegError, OSError) as error:
        raise ValueError(f"video: it cannot be read ({error}). Load it again, or convert it to an mp4") from error


@dataclass(frozen=True)
class ImageFrames:
    """A VIDEO whose frames are in memory: images [n, H, W, 3] in 0..1."""

    components: Types.VideoComponents

    def frames(self, start: int = 0, stop: int | None = None) -> Iterator[Frame]:
        """Frames [start, stop) as uint8 [H, W, 3]."""
        for image in self.components.images[start:stop]:
            yield (image[..., :3] * 255).round().clamp(0, 255).to(torch.uint8).cpu().numpy()

    def get_dimensions(self) -> tuple[int, int]:
        """(width, height) in pixels."""
        return self.components.images.shape[2], self.components.images.shape[1]

    def get_frame_count(self) -> int:
        """Number of frames."""
        return self.components.images.shape[0]

    def get_frame_rate(self) -> Fraction:
        """Frames per second."""
        return Fraction(self.components.frame_rate)

    def sound(self) -> AudioTrack | None:
        """The sound that belongs to the images."""
        if not self.components.audio:
            return None
        waveform, sample_rate = checked_audio(self.components.audio)
        return AudioTrack(waveform.numpy(), sample_rate)

    def note_saved(self) -> None:
        """Nothing is kept for another attempt."""


@dataclass(frozen=True)
class FileFrames:
    """A span of a video file, rotated as in its container's metadata.

    start_s, duration_s: the span; a duration of 0 reaches to the end.
    keeps: what must live as long as this, such as a temporary folder.
    """

    video: InputImpl.VideoFromFile
    start_s: float = 0.0
    duration_s: float = 0.0
    keeps: Any = None

    def check(self) -> None:
        """Raise ValueError if the file has no picture or cannot be read."""
        with self._opened():
            pass

    def frames(self, start: int = 0, stop: int | None = None) -> Iterator[Frame]:
        """Frames [start, stop) of the span as uint8 [H, W, 3]. Raises ValueError where the file is damaged."""
        return itertools.islice(self._decoded(), start, stop)

    def get_dimensions(self) -> tuple[int, int]:
        """(width, height) in pixels as shown."""
        return self._size

    def get_frame_count(self) -> int:
        """Number of frames."""
        return self._num_frames

    def get_frame_rate(self) -> Fraction:
        """Frames per second, on average."""
        with _readable():
            return Fraction(self.video.get_frame_rate())

    def note_saved(self) -> None:
        """Nothing is kept for another attempt."""

    def sound(self) -> AudioTrack | None:
        """The file's first sound track within the span, with its own rate and channels; None: there is none."""
        with _readable(), av.open(self.video.get_stream_source(), mode="r") as container:
            if not container.streams.audio:
                return None
            track = decoded_track(container, container.streams.audio[0])
        if track is None:
            return None
        start, length = (round(seconds * track.sample_rate) for seconds in (self.start_s, self.duration_s))
        part = track.waveform[:, start : start + length if length else None]
        return AudioTrack(part, track.sample_rate) if part.shape[1] else None

    @cached_property
    def _size(self) -> tuple[int, int]:
        for frame in self._decoded():
            return frame.shape[1], frame.shape[0]
        raise ValueError("video: it has no frames, or none in the span to which it was trimmed")

    @cached_property
    def _num_frames(self) -> int:
        with self._opened() as container:
            packets = container.demux(container.streams.video[0])
            return sum(1 for packet in packets if packet.size and not packet.is_discard and self._holds(packet))

    @contextmanager
    def _opened(self) -> Iterator[InputContainer]:
        """The file at the key frame before the span."""
        with _readable(), av.open(self.video.get_stream_source(), mode="r") as container:
            if not container.streams.video:
                raise ValueError("video: the file has no video stream, only sound. Connect a video")
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"
            if self.start_s:
                container.seek(_ticks(self.start_s, stream.time_base), stream=stream)
            yield container

    def _decoded(self) -> Iterator[Frame]:
        with self._opened() as container:
            for frame in container.decode(video=0):
                if not self._holds(frame):
                    if self._is_past(frame):
                        return
                    continue
                # As the host does; the angle is counted anticlockwise.
                turned = np.rot90(frame.to_ndarray(format="rgb24"), round(frame.rotation / 90))
                yield cast(Frame, np.ascontiguousarray(turned))

    def _holds(self, item: av.Packet | av.VideoFrame) -> bool:
        if not (self.start_s or self.duration_s):
            return True
        if item.pts is None:
            return False
        return item.pts >= _ticks(self.start_s, item.time_base) and not self._is_past(item)

    def _is_past(self, item: av.Packet | av.VideoFrame) -> bool:
        if not self.duration_s or item.pts is None:
            return False
        return item.pts >= _ticks(self.start_s + self.duration_s, item.time_base)


def decoded_track(container: InputContainer, stream: av.AudioStream) -> AudioTrack | None:
    """A whole sound stream from the start of the file; None if it has no samples or too many channels."""
    planes: list[np.ndarray[Any, Any]] = []
    resampler = av.AudioResampler(format="fltp")
    for frame in container.decode(stream):
        planes.extend(part.to_ndarray() for part in resampler.resample(frame))
    if not planes or planes[0].shape[0] > MAX_CHANNELS:
        return None
    return AudioTrack(np.concatenate(planes, axis=1), stream.rate)


def _ticks(seconds: float, time_base: Fraction | None) -> int:
    """A time in a stream's units, rounded down as the host does."""
    assert time_base is not None
    return math.floor(seconds / time_base)
