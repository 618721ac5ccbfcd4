"""Features of a recording, computed when the rollout needs them, so that hours of speech fit into memory.

"whole" encodes the recording in the windows of ``audio.feature_windows``, its loudness normalised as a whole: the
values of ``log_mel_features``, and of ``wav2vec2_features`` with silence around the recording. "rolling" encodes, for
each chunk, the 8 s up to the chunk's end and no later sound, as the published models do when they stream
(SoulX-FlashHead, arXiv 2602.07449).

A recording may continue an earlier one. The features of the earlier one then do not change, and the rest is encoded
with the earlier one's loudness. A video can thus be extended without regenerating its beginning.
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
    FeatureStream,
    FeatureWindow,
    Speech,
    audio_windows,
    encode_log_mel,
    feature_windows,
    window_index,
)
from .choices import Choice
from .config import check_number
from .gate import SpeechGate
from .resampling import SHORT, SincFilter


class AudioContext(Choice):
    """What a chunk's features are computed from."""

    WHOLE = "whole"
    """The whole recording, its loudness normalised as a whole."""
    ROLLING = "rolling"
    """The 8 s up to the chunk's end."""


ROLLING_FRAMES = 8 * FPS
"""The length that "rolling" encodes at once: 8 s, the published models' ``cached_audio_duration``."""

HELD_WINDOWS = 2
"""Windows of features in memory, because a chunk can span two of them."""

MAX_STRENGTH = 1.5
SILENCE_FRAMES = ROLLING_FRAMES
"""Length of silence that is encoded; the features of its middle are those of silence."""


@dataclass(frozen=True)
class MouthOptions:
    """How the mouth follows the audio.

    ``strength``: see ``audio.RecordingFeatures``. ``quiet_in_silence``: whether a speech gate (see ``gate``) silences
    the audio between utterances, so that the mouth is closed there.
    """

    strength: float = 1.0
    quiet_in_silence: bool = False

    def __post_init__(self) -> None:
        check_number("audio_strength", self.strength, 0, MAX_STRENGTH)


AS_TRAINED = MouthOptions()


@dataclass(frozen=True)
class FeatureEncoder:
    """An audio encoder: ``encode(speech, start, stop)`` gives the features of frames [start, stop).

    ``identity`` distinguishes encoders (weights, precision); ``shape`` is (blocks, channels) of a frame. A recording is
    encoded ``window_frames`` at a time with ``context_frames`` on either side (see ``feature_windows``); sound up to
    ``margin_samples`` beyond a window's ends changes its features too.

    An encoder that attends to a whole window is used with windows of a fixed length: with "whole", a recording shorter
    than ``lead_frames`` is padded with silence at the start to that length. ``tail_frames`` of silence after the end
    are encoded too, for a last chunk that extends beyond it (else the last frame's features repeat). ``sinc`` is the
    resampling filter.
    """

    name: str
    identity: str
    shape: tuple[int, int]
    encode: Callable[[Speech, int, int], Tensor]
    window_frames: int
    context_frames: int
    margin_samples: int = 0
    lead_frames: int = 0
    tail_frames: int = 0
    sinc: SincFilter = SHORT


LOG_MEL = FeatureEncoder(
    name="log-mel (nano)",
    identity="log-mel",
    shape=(1, MEL_CHANNELS),
    encode=encode_log_mel,
    window_frames=MEL_BLOCK_FRAMES,
    context_frames=0,
    margin_samples=MEL_AFTER,
)


@dataclass(frozen=True, eq=False)
class Recording:
    """Sound as the user gave it, for the finished video: ``waveform`` [channels, N] at ``sample_rate`` Hz.

    It is shared, never copied, and no frame depends on it.
    """

    waveform: Tensor
    sample_rate: int


@dataclass(frozen=True)
class EncodedWindow:
    """A window of the recording that ``speech`` is; rows [keep_start, keep_stop) of the whole video come from it."""

    speech: Speech
    window: FeatureWindow


@dataclass(frozen=True, eq=False)
class SpeechFeatures:
    """``audio.RecordingFeatures`` that are computed on demand.

    ``speech`` is the whole recording, ``duration`` its exact length in seconds, ``whole_frames`` the video frames that
    its sound fills completely, ``earlier`` the recording that it begins with, if there is one.
    ``recording`` is the part after ``earlier`` as the user gave it.
    """

    feature_encoder: FeatureEncoder
    speech: Speech
    duration: Fraction
    whole_frames: int
    listening: AudioContext = AudioContext.WHOLE
    earlier: SpeechFeatures | None = None
    mouth: MouthOptions = AS_TRAINED
    recording: Recording | None = None

    @property
    def recordings(self) -> tuple[Recording, ...]:
        """The whole video's sound in order; empty unless all of it is known."""
        before = () if self.earlier is None else self.earlier.recordings
        if self.recording is None or (self.earlier is not None and not before):
            return ()
        return (*before, self.recording)

    @property
    def num_frames(self) -> int:
        return math.ceil(self.duration * FPS)

    @property
    def shape(self) -> tuple[int, int]:
        return self.feature_encoder.shape

    @property
    def encoder(self) -> str:
        return self.feature_encoder.name

    @property
    def strength(self) -> float:
        return self.mouth.strength

    @property
    def identity(self) -> str:
        """Hash input besides the sound. With default mouth options, it is the same as in earlier versions."""
        return self.feature_encoder.identity + ("" if self.strength == 1 else f" strength {self.strength}")

    def silence(self) -> Tensor:
        zeros = torch.zeros(SILENCE_FRAMES * SAMPLES_PER_FRAME)
        rows = self.feature_encoder.encode(Speech(zeros, SILENCE_FRAMES), 0, SILENCE_FRAMES)
        return rows[SILENCE_FRAMES // 2].cpu()

    @property
    def features(self) -> Tensor:
        """All features at once, [num_frames, blocks, channels]. Not defined for "rolling": they differ by chunk."""
        return _WindowStream(self).rows(0, self.num_frames)

    def stream(self) -> FeatureStream:
        return _RollingStream(self) if self.listening is AudioContext.ROLLING else _WindowStream(self)

    @property
    def num_rows(self) -> int:
        """Number of frames with features: those of the video and of the silence after it."""
        return self.num_frames + self.feature_encoder.tail_frames

    def encoded_windows(self) -> list[EncodedWindow]:
        """The windows in order; each row of the video belongs to one of them."""
        feature_encoder, total = self.feature_encoder, self.num_rows
        if self.earlier is None:
            return [EncodedWindow(self.speech, span) for span in _spans(feature_encoder, total)]
        known = self.earlier.whole_frames
        encoded = [
            EncodedWindow(old.speech, replace(old.window, keep_stop=min(old.window.keep_stop, known)))
            for old in self.earlier.encoded_windows()
            if old.window.keep_start < known
        ]
        # The rest begins early enough to include its context and to fill a whole window.
        first = max(min(known - feature_encoder.context_frames, total - feature_encoder.window_frames), 0)
        for span in _spans(feature_encoder, total - first):
            keep_start, keep_stop = max(first + span.keep_start, known), first + span.keep_stop
            if keep_start < keep_stop:
                window = FeatureWindow(first + span.start, first + span.stop, keep_start, keep_stop)
                encoded.append(EncodedWindow(self.speech, window))
        return encoded


def _spans(feature_encoder: FeatureEncoder, num_rows: int) -> list[FeatureWindow]:
    """The windows over ``num_rows`` frames; the window of a short recording begins in the silence before it."""
    lead = feature_encoder.lead_frames - num_rows
    if lead > 0:
        return [FeatureWindow(-lead, num_rows, 0, num_rows)]
    return feature_windows(num_rows, feature_encoder.window_frames, feature_encoder.context_frames)


def stream_features(
    feature_encoder: FeatureEncoder,
    waveform: Tensor,
    duration: Fraction,
    *,
    listening: str = AudioContext.WHOLE,
    earlier: SpeechFeatures | None = None,
    mouth: MouthOptions = AS_TRAINED,
    recording: Recording | None = None,
) -> SpeechFeatures:
    """Features of ``waveform`` [M] at 16 kHz, which lasts ``duration`` seconds and follows on ``earlier`` if given.

    ``recording`` is the sound that ``waveform`` was made from.

    Raises:
        ValueError: ``earlier`` was made by another encoder, with another audio context or other mouth options.
    """
    context = AudioContext.parse(listening, "listening")
    statistics, known_gate = None, None
    if earlier is not None:
        if (earlier.feature_encoder.identity, earlier.listening) != (feature_encoder.identity, context):
            raise ValueError(
                f"continues: its features are {earlier.encoder}, listening {earlier.listening}; these are "
                f"{feature_encoder.name}, listening {context}. Use the same audio_encoder and listening for both"
            )
        if earlier.mouth != mouth:
            raise ValueError(
                f"continues: its features have audio_strength {earlier.mouth.strength:g} and quiet_in_silence "
                f"{str(earlier.mouth.quiet_in_silence).lower()}; these have {mouth.strength:g} and "
                f"{str(mouth.quiet_in_silence).lower()}. Use the same values for both"
            )
        if earlier.speech.gate is not None:
            known_gate = earlier.speech.gate, earlier.speech.waveform.shape[0]
        waveform = torch.cat((earlier.speech.waveform, waveform))
        duration += earlier.duration
        statistics = earlier.speech.statistics
    num_frames = math.ceil(duration * FPS)
    whole = min(waveform.shape[0] // SAMPLES_PER_FRAME, num_frames)
    # "rolling" computes a gate and a loudness for each chunk's context.
    gate = SpeechGate.of(waveform, known_gate) if mouth.quiet_in_silence and context is AudioContext.WHOLE else None
    speech = Speech(waveform, num_frames, statistics, gate)
    return SpeechFeatures(feature_encoder, speech, duration, whole, context, earlier, mouth, recording)


class _WindowStream:
    """Encodes window after window and keeps the last few in memory."""

    def __init__(self, features: SpeechFeatures) -> None:
        self._encoder, self._num_rows = features.feature_encoder, features.num_rows
        self._identity = features.identity
        self._encoded = features.encoded_windows()
        self._starts = [encoded.window.keep_start for encoded in self._encoded]
        self._held: dict[int, Tensor] = {}
        self._hashes: dict[int, bytes] = {}

    def windows(self, start: int, frames: int) -> Tensor:
        index = window_index(start, frames, self._num_rows)
        first, last = int(index[0, 0]), int(index[-1, -1])
        return self.rows(first, last + 1)[index - first][None]

    def rows(self, start: int, stop: int) -> Tensor:
        """Features [stop - start, blocks, channels] of the frames [start, stop)."""
        parts: list[Tensor] = []
        for number in self._numbers(start, stop):
            window = self._encoded[number].window
            first, last = max(start, window.keep_start), min(stop, window.keep_stop)
            parts.append(self._features(number)[first - window.start : last - window.start])
        return torch.cat(parts)

    def identity(self, start: int, frames: int) -> bytes:
        index = window_index(start, frames, self._num_rows)
        first, last = int(index[0, 0]), int(index[-1, -1])
        digest = hashlib.blake2b(self._identity.encode(), digest_size=16)
        digest.update(str((index - start).tolist()).encode())
        for number in self._numbers(first, last + 1):
            window = self._encoded[number].window
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
            encoded = self._encoded[number]
            self._held[number] = self._encoder.encode(encoded.speech, encoded.window.start, encoded.window.stop).cpu()
        return self._held[number]

    def _hash(self, number: int) -> bytes:
        """Hash of the sound that a window's features are made from."""
        if number not in self._hashes:
            encoded, margin = self._encoded[number], self._encoder.margin_samples
            start, stop = (frame * SAMPLES_PER_FRAME for frame in (encoded.window.start, encoded.window.stop))
            mean, scale = encoded.speech.statistics
            digest = hashlib.blake2b(repr((mean.item(), scale.item())).encode(), digest_size=16)
            digest.update(_bytes(encoded.speech.recorded(start - margin, stop + margin)))
            self._hashes[number] = digest.digest()
        return self._hashes[number]


class _RollingStream:
    """Encodes the 8 s up to each chunk's end, normalised by themselves."""

    def __init__(self, features: SpeechFeatures) -> None:
        self._encoder, self._speech = features.feature_encoder, features.speech
        self._identity, self._is_gated = features.identity, features.mouth.quiet_in_silence

    @torch.no_grad()
    def windows(self, start: int, frames: int) -> Tensor:
        context = self._context(start, frames)
        return audio_windows(self._encoder.encode(context, 0, ROLLING_FRAMES).cpu(), ROLLING_FRAMES - frames, frames)

    def identity(self, start: int, frames: int) -> bytes:
        digest = hashlib.blake2b(f"{self._identity} rolling {frames}".encode(), digest_size=16)
        context = self._context(start, frames)
        digest.update(_bytes(context.waveform))
        gated = context.recorded(0, context.waveform.shape[0])
        if not torch.equal(gated, context.waveform):
            digest.update(_bytes(gated))
        return digest.digest()

    def _context(self, start: int, frames: int) -> Speech:
        end = start + frames
        first, stop = (end - ROLLING_FRAMES) * SAMPLES_PER_FRAME, end * SAMPLES_PER_FRAME
        samples = self._speech.recorded(first, stop)
        # The padding before the recording is not part of its noise.
        gate = SpeechGate.of(samples[max(-first, 0) :]).after(max(-first, 0)) if self._is_gated else None
        return Speech(samples, ROLLING_FRAMES, gate=gate)


def _bytes(samples: Tensor) -> memoryview:
    return samples.detach().cpu().contiguous().numpy().data
