"""Features of a recording, made when the rollout comes to them: hours of speech fit into memory.

"whole" hears the recording in the windows of ``audio.feature_windows``, its loudness normalised as a whole: the values
of ``log_mel_features`` and ``wav2vec2_features``. "rolling" hears, for each chunk, the 8 s up to the chunk's end and
nothing of what comes later, as the published models stream (SoulX-FlashHead, arXiv 2602.07449).

A recording may go on from an earlier one. What was heard of the earlier one then stays as it was, and the rest is heard
at the earlier one's loudness: so a video can be continued without its beginning being made again.
"""

from __future__ import annotations

import hashlib
import math
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction

import torch
from torch import Tensor

from .audio import (
    FPS,
    MEL_AFTER,
    MEL_BLOCK_FRAMES,
    MEL_CHANNELS,
    SAMPLES_PER_FRAME,
    FeatureReader,
    FeatureWindow,
    Speech,
    audio_windows,
    feature_windows,
    hear_log_mel,
    window_index,
)

LISTENING = ("whole", "rolling")

ROLLING_FRAMES = 8 * FPS
"""What "rolling" hears at once: 8 s, the published models' ``cached_audio_duration``."""

HELD_WINDOWS = 2
"""Windows of features in memory: a chunk can lie across the border between two."""


@dataclass(frozen=True)
class Listener:
    """An audio encoder: ``hear(speech, start, stop)`` gives the features of frames [start, stop), heard at once.

    ``identity`` tells encoders (weights, precision) apart; ``shape`` is (blocks, channels) of a frame. A recording is
    heard ``window_frames`` at a time with ``context_frames`` on either side (see ``feature_windows``); sound up to
    ``margin_samples`` beyond a window's ends changes its features too.
    """

    name: str
    identity: str
    shape: tuple[int, int]
    hear: Callable[[Speech, int, int], Tensor]
    window_frames: int
    context_frames: int
    margin_samples: int = 0


LOG_MEL = Listener(
    name="log-mel (nano)",
    identity="log-mel",
    shape=(1, MEL_CHANNELS),
    hear=hear_log_mel,
    window_frames=MEL_BLOCK_FRAMES,
    context_frames=0,
    margin_samples=MEL_AFTER,
)


@dataclass(frozen=True)
class HeardWindow:
    """A window of the recording that ``speech`` is; rows [keep_start, keep_stop) of the whole video come from it."""

    speech: Speech
    window: FeatureWindow


@dataclass(frozen=True, eq=False)
class SpeechFeatures:
    """``audio.RecordingFeatures`` that are made on demand.

    ``speech`` is the whole recording, ``duration`` its exact length in seconds, ``whole_frames`` the video frames that
    its sound fills completely, ``earlier`` the recording that it begins with, if that was heard before.
    """

    listener: Listener
    speech: Speech
    duration: Fraction
    whole_frames: int
    listening: str = "whole"
    earlier: SpeechFeatures | None = None

    @property
    def num_frames(self) -> int:
        return math.ceil(self.duration * FPS)

    @property
    def shape(self) -> tuple[int, int]:
        return self.listener.shape

    @property
    def duration_s(self) -> float:
        return float(self.duration)

    @property
    def encoder(self) -> str:
        return self.listener.name

    @property
    def features(self) -> Tensor:
        """All of them at once, [num_frames, blocks, channels], in memory. "rolling" has none: they differ by chunk."""
        return _WindowReader(self).rows(0, self.num_frames)

    def reader(self) -> FeatureReader:
        return _RollingReader(self) if self.listening == "rolling" else _WindowReader(self)

    def heard_windows(self) -> list[HeardWindow]:
        """What is heard at once, in order; every row of the video is kept by one of them."""
        listener, total = self.listener, self.num_frames
        if self.earlier is None:
            spans = feature_windows(total, listener.window_frames, listener.context_frames)
            return [HeardWindow(self.speech, span) for span in spans]
        known = self.earlier.whole_frames
        heard = [
            HeardWindow(old.speech, replace(old.window, keep_stop=min(old.window.keep_stop, known)))
            for old in self.earlier.heard_windows()
            if old.window.keep_start < known
        ]
        # The rest begins so early that it has its context, and enough to be a whole window.
        first = max(min(known - listener.context_frames, total - listener.window_frames), 0)
        for span in feature_windows(total - first, listener.window_frames, listener.context_frames):
            keep_start, keep_stop = max(first + span.keep_start, known), first + span.keep_stop
            if keep_start < keep_stop:
                window = FeatureWindow(first + span.start, first + span.stop, keep_start, keep_stop)
                heard.append(HeardWindow(self.speech, window))
        return heard


def listen(
    listener: Listener,
    waveform: Tensor,
    duration: Fraction,
    *,
    listening: str = "whole",
    earlier: SpeechFeatures | None = None,
) -> SpeechFeatures:
    """Features of ``waveform`` [M] at 16 kHz, which lasts ``duration`` seconds and follows on ``earlier`` if given.

    Raises:
        ValueError: ``earlier`` was made by another encoder or another way of listening.
    """
    if listening not in LISTENING:
        raise ValueError(f"listening must be one of {LISTENING}, got {listening!r}")
    statistics = None
    if earlier is not None:
        if (earlier.listener.identity, earlier.listening) != (listener.identity, listening):
            raise ValueError(
                f"continues: its features are {earlier.encoder}, listening {earlier.listening}; these are "
                f"{listener.name}, listening {listening}. Use the same audio_encoder and listening for both"
            )
        waveform = torch.cat((earlier.speech.waveform, waveform))
        duration += earlier.duration
        statistics = earlier.speech.statistics
    num_frames = math.ceil(duration * FPS)
    whole = min(waveform.shape[0] // SAMPLES_PER_FRAME, num_frames)
    return SpeechFeatures(listener, Speech(waveform, num_frames, statistics), duration, whole, listening, earlier)


class _WindowReader:
    """Hears window after window, the last few of which it holds."""

    def __init__(self, features: SpeechFeatures) -> None:
        self._listener, self._num_frames = features.listener, features.num_frames
        self._heard = features.heard_windows()
        self._starts = [heard.window.keep_start for heard in self._heard]
        self._held: dict[int, Tensor] = {}
        self._hashes: dict[int, bytes] = {}

    def windows(self, start: int, frames: int) -> Tensor:
        index = window_index(start, frames, self._num_frames)
        first, last = int(index[0, 0]), int(index[-1, -1])
        return self.rows(first, last + 1)[index - first][None]

    def rows(self, start: int, stop: int) -> Tensor:
        """Features [stop - start, blocks, channels] of the frames [start, stop)."""
        parts: list[Tensor] = []
        for number in self._numbers(start, stop):
            window = self._heard[number].window
            first, last = max(start, window.keep_start), min(stop, window.keep_stop)
            parts.append(self._features(number)[first - window.start : last - window.start])
        return torch.cat(parts)

    def identity(self, start: int, frames: int) -> bytes:
        index = window_index(start, frames, self._num_frames)
        first, last = int(index[0, 0]), int(index[-1, -1])
        digest = hashlib.blake2b(self._listener.identity.encode(), digest_size=16)
        digest.update(str((index - start).tolist()).encode())
        for number in self._numbers(first, last + 1):
            window = self._heard[number].window
            used = (max(first, window.keep_start) - window.start, min(last + 1, window.keep_stop) - window.start)
            digest.update(str(used).encode())
            digest.update(self._hash(number))
        return digest.digest()

    def _numbers(self, start: int, stop: int) -> range:
        return range(bisect_right(self._starts, start) - 1, bisect_right(self._starts, stop - 1))

    @torch.no_grad()
    def _features(self, number: int) -> Tensor:
        if number not in self._held:
            while len(self._held) >= HELD_WINDOWS:
                del self._held[min(self._held)]
            heard = self._heard[number]
            self._held[number] = self._listener.hear(heard.speech, heard.window.start, heard.window.stop).cpu()
        return self._held[number]

    def _hash(self, number: int) -> bytes:
        """Hash of the sound that a window's features are made from."""
        if number not in self._hashes:
            heard, margin = self._heard[number], self._listener.margin_samples
            start, stop = (frame * SAMPLES_PER_FRAME for frame in (heard.window.start, heard.window.stop))
            mean, scale = heard.speech.statistics
            digest = hashlib.blake2b(repr((mean.item(), scale.item())).encode(), digest_size=16)
            digest.update(_bytes(heard.speech.recorded(start - margin, stop + margin)))
            self._hashes[number] = digest.digest()
        return self._hashes[number]


class _RollingReader:
    """Hears the 8 s up to each chunk's end, normalised by themselves."""

    def __init__(self, features: SpeechFeatures) -> None:
        self._listener, self._speech = features.listener, features.speech

    @torch.no_grad()
    def windows(self, start: int, frames: int) -> Tensor:
        context = Speech(self._context(start, frames), ROLLING_FRAMES)
        return audio_windows(self._listener.hear(context, 0, ROLLING_FRAMES).cpu(), ROLLING_FRAMES - frames, frames)

    def identity(self, start: int, frames: int) -> bytes:
        digest = hashlib.blake2b(f"{self._listener.identity} rolling {frames}".encode(), digest_size=16)
        digest.update(_bytes(self._context(start, frames)))
        return digest.digest()

    def _context(self, start: int, frames: int) -> Tensor:
        end = start + frames
        return self._speech.recorded((end - ROLLING_FRAMES) * SAMPLES_PER_FRAME, end * SAMPLES_PER_FRAME)


def _bytes(samples: Tensor) -> memoryview:
    return samples.detach().cpu().contiguous().numpy().data
