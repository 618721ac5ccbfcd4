"""Blinks: when the lids close. They do not follow from speech, so that a network is told of them."""

from __future__ import annotations

import hashlib
import random
from dataclasses import dataclass

import torch
from torch import Tensor

from .audio import FeatureStream, RecordingFeatures, windows_of_frames
from .config import AUDIO_WINDOW, AudioConfig
from .rates import FPS

PULSE = (0.35, 1.0, 1.0, 0.6, 0.25)
"""The lids of consecutive frames during one blink: 0 open, 1 closed. They close faster than they open."""

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
    for number in range(int((start - len(PULSE)) // period), int((start + frames) // period) + 1):
        place = random.Random(f"{seed}/{number}").uniform(_EARLIEST, _LATEST)
        first = round((number + place) * period) - start
        for frame, value in enumerate(PULSE, first):
            if 0 <= frame < frames:
                track[frame] = max(float(track[frame]), value)
    return track


def with_lids(windows: Tensor, closed: Tensor) -> Tensor:
    """``windows`` [B, F, 5, blocks, channels] with one more channel, how far the lids are ``closed`` [B, F, 5]."""
    channel = closed[..., None, None].to(windows).expand(*windows.shape[:-1], 1)
    return torch.cat((windows, channel), dim=-1)


def silenced(windows: Tensor, config: AudioConfig, silence: Tensor | None = None) -> Tensor:
    """``windows`` [B, F, 5, blocks, channels] without speech, but with the blinks that they hold.

    ``silence`` [blocks, channels] is what takes the speech's place; None is zeros.
    """
    silent = torch.zeros_like(windows) if silence is None else silence.to(windows).expand_as(windows)
    return torch.cat((silent[..., :-1], windows[..., -1:]), dim=-1) if config.lids else silent


@dataclass(frozen=True)
class Blinking:
    """RecordingFeatures with the lids as one more channel, for networks whose audio condition has ``lids``."""

    audio: RecordingFeatures
    seed: int
    per_minute: float

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
        return _BlinkingStream(self.audio.stream(), self.seed, self.per_minute)


@dataclass(frozen=True)
class _BlinkingStream:
    inner: FeatureStream
    seed: int
    per_minute: float

    def _track(self, start: int, frames: int) -> Tensor:
        reach = AUDIO_WINDOW // 2
        return lids(self.seed, start - reach, frames + 2 * reach, self.per_minute)

    def windows(self, start: int, frames: int) -> Tensor:
        closed = windows_of_frames(self._track(start, frames)[None], AUDIO_WINDOW)
        return with_lids(self.inner.windows(start, frames), closed)

    def identity(self, start: int, frames: int) -> bytes:
        digest = hashlib.blake2b(self.inner.identity(start, frames), digest_size=16)
        digest.update(self._track(start, frames).numpy().tobytes())
        return digest.digest()
