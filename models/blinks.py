"""Blinks: when the lids close. They do not follow from speech, so that a network is told of them."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from .audio import FeatureStream, RecordingFeatures, windows_of_frames
from .config import AUDIO_WINDOW, AudioConfig
from .rates import FPS

PULSE = (0.35, 1.0, 1.0, 0.6, 0.25)
"""The lids of consecutive frames during one blink: 0 open, 1 closed. They close faster than they open."""

LidTrack = Callable[[int, int], Tensor]
"""(first frame, which may be negative; frames) -> how far the lids are closed in each: float32 [frames]."""

# Where in its period a blink may begin: two are at least 0.3 and at most 1.7 periods apart.
_EARLIEST, _LATEST = 0.15, 0.85


def lids(seed: int | str, start: int, frames: int, per_minute: float) -> Tensor:
    """How far the lids are closed (0..1) in each of ``frames`` video frames from ``start`` on: float32 [frames].

    Each period of a minute / ``per_minute`` has one blink, at a time of its own. A frame's value depends on ``seed``,
    the rate and the frame's number alone.
    """
    track = torch.zeros(frames)
    if per_minute <= 0:
        return track
    period = 60 * FPS / per_minute
    # None before the beginning: a video starts with the eyes of the portrait.
    for number in range(max(0, int((start - len(PULSE)) // period)), int((start + frames) // period) + 1):
        place = random.Random(f"{seed}/{number}").uniform(_EARLIEST, _LATEST)
        first = round((number + place) * period) - start
        for frame, value in enumerate(PULSE, first):
            if 0 <= frame < frames:
                track[frame] = max(float(track[frame]), value)
    return track


def known_lids(closed: Tensor) -> LidTrack:
    """A track of known frames, ``closed`` [F], before and after which the lids are open."""

    def track(start: int, frames: int) -> Tensor:
        inside = closed[max(0, start) : max(0, start + frames)].float()
        before = min(frames, max(0, -start))
        return torch.nn.functional.pad(inside, (before, frames - before - len(inside)))

    return track


def with_channel(windows: Tensor, closed: Tensor) -> Tensor:
    """``windows`` [B, F, 5, blocks, channels] with one more channel, how far the lids are ``closed`` [B, F, 5]."""
    channel = closed[..., None, None].to(windows).expand(*windows.shape[:-1], 1)
    return torch.cat((windows, channel), dim=-1)


def silenced(windows: Tensor, config: AudioConfig, silence: Tensor | None = None) -> Tensor:
    """``windows`` [B, F, 5, blocks, channels] without speech, but with the blinks that they hold.

    ``silence`` [blocks, channels] is what takes the speech's place; None is zeros.
    """
    silent = torch.zeros_like(windows) if silence is None else silence.to(windows).expand_as(windows)
    return torch.cat((silent[..., :-1], windows[..., -1:]), dim=-1) if config.lids else silent


def with_blinks(audio: RecordingFeatures, config: AudioConfig, seed: int | str, per_minute: float) -> RecordingFeatures:
    """``audio`` as a network of ``config`` takes it: with blinks, if it is told of them."""
    return WithLids(audio, partial(lids, seed, per_minute=per_minute)) if config.lids else audio


@dataclass(frozen=True)
class WithLids:
    """RecordingFeatures with the lids as one more channel, for networks whose audio condition has ``lids``."""

    audio: RecordingFeatures
    track: LidTrack

    @property
    def num_frames(self) -> int:
        return self.audio.num_frames

    @property
    def shape(self) -> tuple[int, int]:
        blocks, channels = self.audio.shape
        return blocks, channels + 1

    @property
    def encoder(self) -> str:
        return self.audio.encoder

    @property
    def strength(self) -> float:
        return self.audio.strength

    def silence(self) -> Tensor:
        """[blocks, channels + 1]: a silent frame with open eyes."""
        return torch.nn.functional.pad(self.audio.silence(), (0, 1))

    def stream(self) -> FeatureStream:
        return _StreamWithLids(self.audio.stream(), self.track)


@dataclass(frozen=True)
class _StreamWithLids:
    inner: FeatureStream
    track: LidTrack

    def windows(self, start: int, frames: int) -> Tensor:
        closed = windows_of_frames(self._around(start, frames)[None], AUDIO_WINDOW)
        return with_channel(self.inner.windows(start, frames), closed)

    def identity(self, start: int, frames: int) -> bytes:
        digest = hashlib.blake2b(self.inner.identity(start, frames), digest_size=16)
        digest.update(self._around(start, frames).numpy().tobytes())
        return digest.digest()

    def _around(self, start: int, frames: int) -> Tensor:
        """[frames + 4]: with those that the first and the last window reach."""
        reach = AUDIO_WINDOW // 2
        return self.track(start - reach, frames + 2 * reach)
