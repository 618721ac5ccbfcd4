"""Held-out people and voices to measure on, with their true motion; frames are drawn on demand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
import torch
from torch import Tensor

from ...models.rates import FPS, SAMPLE_RATE
from ..core.config import TrainingError
from ..corpus.clip import identity_of, make_poses, make_speech, portrait_of
from ..corpus.identity import Identity
from ..corpus.motion import Pose
from ..corpus.render import render
from ..corpus.speech import Phoneme, Utterance
from .probe import tracks

# Indices of people that no corpus draws (see the README's recipe).
FIRST_HELD_OUT = 1_000_000
PAUSE_S = 0.25


@dataclass(frozen=True)
class Subject:
    """A speaker and a recording.

    ``portrait`` uint8 [H, W, 3]; ``audio`` [N] at 16 kHz; ``truth`` float32 [F, 9] (``probe.TRACKS``) and ``poses``
    where the phonemes are known, None for other recordings.
    """

    name: str
    identity: Identity
    portrait: Tensor
    audio: Tensor
    truth: np.ndarray | None
    poses: np.ndarray | None

    @property
    def num_frames(self) -> int:
        return self.audio.shape[0] * FPS // SAMPLE_RATE

    def true_frames(self, start: int, stop: int) -> Tensor:
        """Frames uint8 [n, H, W, 3] as the corpus draws them, for subjects with ``poses``."""
        assert self.poses is not None
        rows = self.poses[start:stop]
        return torch.from_numpy(
            np.stack([render(self.identity, Pose.from_row(row), self.portrait.shape[0]) for row in rows])
        )


def synthetic_subject(seed: int, number: int, seconds: float, size: int = 256) -> Subject:
    """A person and a voice that no corpus has, in ``size`` x ``size`` pixels."""
    index = FIRST_HELD_OUT + number
    identity = identity_of(seed, index)
    speech = make_speech(seed, index, seconds, held_out=True)
    num_frames = len(speech.audio) * FPS // SAMPLE_RATE
    poses = make_poses(seed, index, speech, num_frames)
    portrait, audio = torch.from_numpy(portrait_of(seed, index, size)), torch.from_numpy(speech.audio)
    return Subject(f"person {number}", identity, portrait, audio, _truth(identity, poses), poses)


@dataclass(frozen=True)
class RecordedSpeech:
    """Recorded speech, mono [N] at 16 kHz, and its phonemes where they are known."""

    audio: Tensor
    phonemes: tuple[Phoneme, ...] | None = None


def recorded_subject(seed: int, number: int, recordings: Sequence[RecordedSpeech]) -> Subject:
    """A held-out person who says what was recorded, one recording after the other with short pauses.

    Where all phonemes are known, the truth is the motion of a drawn person who says them.
    """
    index = FIRST_HELD_OUT + number
    parts, phonemes, start_s = [], [], 0.0
    for recording in recordings:
        parts += [recording.audio, torch.zeros(round(PAUSE_S * SAMPLE_RATE))]
        end_s = start_s + len(recording.audio) / SAMPLE_RATE
        phonemes += [Phoneme(p.symbol, start_s + p.start, start_s + p.end) for p in recording.phonemes or ()]
        phonemes.append(Phoneme("", end_s, end_s + PAUSE_S))
        start_s = end_s + PAUSE_S
    audio = torch.cat(parts)
    identity, portrait = identity_of(seed, index), torch.from_numpy(portrait_of(seed, index))
    poses = truth = None
    if all(recording.phonemes is not None for recording in recordings):
        poses = make_poses(seed, index, Utterance(audio.numpy(), tuple(phonemes)), len(audio) * FPS // SAMPLE_RATE)
        truth = _truth(identity, poses)
    return Subject(f"recording {number}", identity, portrait, audio, truth, poses)


def _truth(identity: Identity, poses: np.ndarray) -> np.ndarray:
    return np.stack([tracks(identity, Pose.from_row(row)) for row in poses])


def read_speech(path: Path) -> Tensor:
    """Any audio file as mono [N] at 16 kHz.

    Raises:
        TrainingError: the file cannot be read, or has no audio.
    """
    # Telephone systems keep G.722 without a header, so its format cannot be detected.
    bare = "g722" if path.suffix == ".g722" else None
    resampler = av.AudioResampler(format="flt", layout="mono", rate=SAMPLE_RATE)
    try:
        with av.open(str(path), format=bare) as container:
            frames = [part for frame in container.decode(audio=0) for part in resampler.resample(frame)]
        frames += resampler.resample(None)
    except (av.FFmpegError, IndexError) as error:
        raise TrainingError(f"{path} cannot be read as audio: {error}") from error
    return torch.from_numpy(np.concatenate([frame.to_ndarray()[0] for frame in frames]))


def opening_proxy(audio: np.ndarray, num_frames: int) -> np.ndarray:
    """How far a mouth is open, as the sound alone suggests: [num_frames].

    Open vowels have their first formant between 500 and 1200 Hz; close ones, nasals, closures and hisses have little
    there. The loudness of that band (energy to the power of 0.25, after Stevens), smoothed over 80 ms: of a dozen bands
    and powers those that agree best with the true openings of drawn mouths (mean correlation 0.68, 0.3 frames early).
    """
    hop = SAMPLE_RATE // FPS
    # Each window of two hops lies about the middle of its frame, the moment that the frame shows.
    padded = np.zeros(num_frames * hop + hop)
    inner = padded[hop // 2 :]
    inner[: min(len(audio), len(inner))] = audio[: len(inner)]
    windows = np.lib.stride_tricks.sliding_window_view(padded, 2 * hop)[: num_frames * hop : hop] * np.hanning(2 * hop)
    spectrum = np.abs(np.fft.rfft(windows, axis=1)) ** 2
    frequency = np.fft.rfftfreq(2 * hop, 1 / SAMPLE_RATE)
    loudness = spectrum[:, (frequency >= 500) & (frequency <= 1200)].sum(axis=1) ** 0.25
    return np.convolve(np.pad(loudness, 1, mode="edge"), np.array([0.25, 0.5, 0.25]), mode="valid")
