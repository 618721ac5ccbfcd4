"""Video files as 25 frames a second and 16 kHz mono.

A file is read twice: `look` decodes it once for times, sound and a few pictures, `cut` once more for the frames that
are kept. So a video of any length and size takes the memory of what is kept of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch
from torch import Tensor

from ...models.audio import FPS, SAMPLE_RATE, SAMPLES_PER_FRAME, to_mono_16k

VIDEO_SUFFIXES = (".mp4", ".mov", ".mkv", ".webm", ".avi", ".m4v")
MIN_RATE = 20.0
"""Fewer frames a second than this cannot be brought to 25 without many a frame shown twice."""

MAX_GAP_S = 0.125
"""Longer between two frames is a freeze, and no speech moves like that."""

MIN_OF_DECLARED = 0.9
"""A file of which less than this part of the declared length decodes is damaged."""

Picture = np.ndarray
"""uint8 [H, W, 3] of RGB."""


class BadClip(ValueError):
    """A video, or a part of one, that cannot be used; the message is the reason."""


@dataclass(frozen=True)
class Video:
    """What `look` found.

    ``times`` [n] of the frames, in seconds from the first one on; ``audio`` [N] at 16 kHz from then on; ``width`` and
    ``height`` as shown; ``samples`` of (seconds, what ``inspect`` made of that picture).
    """

    path: Path
    times: np.ndarray
    audio: Tensor
    width: int
    height: int
    samples: list[tuple[float, Any]]

    @property
    def num_frames(self) -> int:
        """Frames at 25 a second that both picture and sound cover."""
        rate = (len(self.times) - 1) / self.times[-1]
        by_picture = round((self.times[-1] + 1 / rate) * FPS)
        return min(by_picture, self.audio.shape[0] // SAMPLES_PER_FRAME)

    def source_frames(self, start: int, stop: int) -> np.ndarray:
        """The file's frames that are nearest in time to frames [start, stop) at 25 a second."""
        wanted = np.arange(start, stop) / FPS
        after = np.clip(np.searchsorted(self.times, wanted), 1, len(self.times) - 1)
        is_before_nearer = wanted - self.times[after - 1] <= self.times[after] - wanted
        return np.where(is_before_nearer, after - 1, after)

    def check_times(self, start: int, stop: int) -> None:
        """Raises BadClip where the picture freezes within frames [start, stop) at 25 a second."""
        source = self.source_frames(start, stop)
        gaps = np.diff(self.times[source[0] : source[-1] + 1])
        if gaps.max() > MAX_GAP_S:
            raise BadClip(f"the frame rate varies too much: no new frame for {gaps.max():.2f} s")

    def sound(self, start: int, stop: int) -> Tensor:
        """Samples of frames [start, stop)."""
        return self.audio[start * SAMPLES_PER_FRAME : stop * SAMPLES_PER_FRAME]


def video_files(folder: Path) -> list[Path]:
    """Video files in ``folder`` and below, in the order of their names."""
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in VIDEO_SUFFIXES and path.is_file())


def look(path: Path, inspect: Callable[[Picture], Any], every_s: float) -> Video:
    """Read times and sound, and ``inspect`` a picture every ``every_s`` seconds.

    Raises:
        BadClip: not a video, damaged, without sound, without usable times, or slower than 20 frames a second.
    """
    audio, audio_start = _audio(path)
    seconds: list[float] = []
    samples: list[tuple[float, Any]] = []
    size = (0, 0)
    with _opened(path) as container:
        stream = container.streams.video[0]
        for frame in _frames(container):
            if frame.time is None:
                raise BadClip("its frames have no times: convert it again")
            seconds.append(float(frame.time))
            elapsed = seconds[-1] - seconds[0]
            if not samples or elapsed >= samples[-1][0] + every_s:
                picture = _picture(frame)
                size = (picture.shape[1], picture.shape[0])
                samples.append((elapsed, inspect(picture)))
        declared = float(stream.duration * stream.time_base) if stream.duration and stream.time_base else 0.0
    if len(seconds) < 2:
        raise BadClip(f"too short: {len(seconds)} frames")
    times = np.array(seconds) - seconds[0]
    _check_rate(times, declared)
    return Video(path, times, _aligned(audio, audio_start - seconds[0]), *size, samples)


def _check_rate(times: np.ndarray, declared_s: float) -> None:
    if (np.diff(times) <= 0).any():
        raise BadClip("the times of its frames do not increase: convert it again")
    rate = (len(times) - 1) / times[-1]
    if times[-1] + 1 / rate < MIN_OF_DECLARED * declared_s:
        raise BadClip(f"it is cut short: {times[-1]:.2f} of {declared_s:.2f} s can be decoded")
    if rate < MIN_RATE:
        raise BadClip(f"{rate:.1f} frames a second are too few (at least {MIN_RATE:.0f})")


def cut(path: Path, indices: list[int], transform: Callable[[int, Picture], Tensor]) -> Iterator[tuple[int, Tensor]]:
    """The file's frames with ascending ``indices`` (repeats allowed), each through ``transform(position, picture)``.

    Yields:
        (position in ``indices``, what ``transform`` gave).
    """
    position = 0
    with _opened(path) as container:
        for number, frame in enumerate(_frames(container)):
            if position == len(indices):
                return
            if indices[position] != number:
                continue
            picture = _picture(frame)
            while position < len(indices) and indices[position] == number:
                yield position, transform(position, picture)
                position += 1
    if position < len(indices):
        raise BadClip(f"frame {indices[position]} can no longer be decoded")


def read_clip(path: Path) -> tuple[Tensor, Tensor]:
    """A whole short video: frames uint8 [F, H, W, 3] at 25 a second and its audio [F * 640] at 16 kHz.

    Raises:
        BadClip: as `look`.
    """
    video = look(path, lambda picture: None, every_s=float("inf"))
    indices = video.source_frames(0, video.num_frames).tolist()
    frames = [frame for _, frame in cut(path, indices, lambda _, picture: torch.from_numpy(picture))]
    return torch.stack(frames), video.sound(0, len(frames))


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """The file in PyAV; whatever FFmpeg cannot read becomes a reason."""
    try:
        with av.open(str(path)) as container:
            if not container.streams.video:
                raise BadClip("there is no picture in it")
            container.streams.video[0].thread_type = "AUTO"
            yield container
    except av.FFmpegError as error:
        raise BadClip(f"it cannot be decoded: {error.strerror or error}") from error


def _frames(container: Any) -> Iterator[Any]:
    for frame in container.decode(video=0):
        if frame.is_corrupt:
            raise BadClip(f"it is damaged at {frame.time or 0:.2f} s")
        yield frame


def _picture(frame: Any) -> Picture:
    """RGB upright, as players show it."""
    return np.ascontiguousarray(np.rot90(frame.to_ndarray(format="rgb24"), frame.rotation // 90))


def _audio(path: Path) -> tuple[Tensor, float]:
    """The first sound track at 16 kHz, mono, and the time of its first sample."""
    parts: list[np.ndarray] = []
    start, rate = 0.0, SAMPLE_RATE
    with _opened(path) as container:
        if not container.streams.audio:
            raise BadClip("there is no sound in it")
        resampler = None
        for frame in container.decode(audio=0):
            if resampler is None:
                start, rate = float(frame.time or 0.0), frame.sample_rate
                resampler = av.AudioResampler(format="fltp", layout=frame.layout, rate=rate)
            parts += [part.to_ndarray() for part in resampler.resample(frame)]
    if not parts:
        raise BadClip("there is no sound in it")
    try:
        return to_mono_16k(torch.from_numpy(np.concatenate(parts, axis=1)), rate), start
    except ValueError as error:
        raise BadClip(str(error)) from error


def _aligned(audio: Tensor, delay_s: float) -> Tensor:
    """``audio`` from the first picture on: cut where it begins earlier, with silence before it where later."""
    shift = round(delay_s * SAMPLE_RATE)
    return torch.nn.functional.pad(audio, (shift, 0)) if shift > 0 else audio[-shift:]
