"""A user's own audio on its way to a file."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt

from .errors import MediaError

# The layouts that AAC has of its own: with any other, ffmpeg would mix channels to fit.
LAYOUTS = {1: "mono", 2: "stereo", 3: "3.0", 4: "4.0", 5: "5.0", 6: "5.1", 7: "6.1", 8: "7.1"}
MAX_CHANNELS = max(LAYOUTS)
# What FLAC holds, for what AAC does not.
MAX_SAMPLE_RATE = 655_340


@dataclass(frozen=True)
class AudioTrack:
    """A user's own audio: `waveform` float32 [C, N] at `sample_rate` Hz, checked."""

    waveform: npt.NDArray[np.float32]
    sample_rate: int

    @classmethod
    def checked(cls, waveform: Any, sample_rate: int) -> AudioTrack:
        """From an array or CPU tensor [C, N]. Raises MediaError naming what is wrong."""
        samples = np.asarray(waveform, dtype=np.float32)
        if samples.ndim != 2 or not 1 <= samples.shape[0] <= MAX_CHANNELS:
            raise MediaError(
                f"The audio has shape {list(samples.shape)}; it must be [channels, samples] with 1 to {MAX_CHANNELS} "
                "channels. Mix it down first."
            )
        if samples.shape[1] == 0:
            raise MediaError("The audio is empty (0 samples). Connect audio with sound in it, or leave it unconnected.")
        if not 1 <= sample_rate <= MAX_SAMPLE_RATE:
            raise MediaError(
                f"The audio has a sample rate of {sample_rate} Hz; 1 to {MAX_SAMPLE_RATE} Hz can be saved. Resample it."
            )
        for start in range(0, samples.shape[1], sample_rate):
            if not np.isfinite(samples[:, start : start + sample_rate]).all():
                raise MediaError(
                    f"The audio holds NaN or infinite samples within the second after {start / sample_rate:.0f} s. "
                    "Load or render it again."
                )
        return cls(samples, int(sample_rate))

    @property
    def num_samples(self) -> int:
        """Samples per channel."""
        return self.waveform.shape[1]

    @property
    def channels(self) -> int:
        """Number of channels."""
        return self.waveform.shape[0]

    @property
    def duration_s(self) -> Fraction:
        """Exact length in seconds."""
        return Fraction(self.num_samples, self.sample_rate)
