"""A speech gate: between utterances, it replaces noise, breaths and distant voices with silence.

The gate opens shortly before speech and closes shortly after it, with a fade on both sides. It is applied to the
audio from which features are computed. The saved recording is unchanged.
"""

from __future__ import annotations

import torch
from torch import Tensor

HOP = 160
"""Samples at 16 kHz for each value of the gate: 10 ms."""

# In hops. Shorter gaps than LEAD + HOLD, such as those before plosives, do not close the gate.
LEAD, HOLD, FADE = 8, 12, 8
SHORTEST = 3
"""Shorter sounds are clicks and do not open the gate."""

WIDENED = LEAD + HOLD + 2 * (FADE // 2 - 1)
"""A pause is this many hops longer than the time for which the gate is closed."""

# Levels in dB, relative to the level of the recording's speech.
FAINTEST, HIGHEST = -40.0, -9.0
"""The gate opens at a level between these, above the noise."""
VOICED, REACH = -13.0, 15
"""Sounds farther than this many hops from a sound this loud are not speech, such as breaths and distant voices."""
ABOVE_NOISE = 7.0
NOISE_SHARE = 0.1
"""Share of the hops that are noise even in dense speech."""

SILENT = -80.0
"""In dB; a recording below this level has no speech."""

LAG = 8
"""The level is that of differences over half a millisecond: those pass the first formants and attenuate hum."""

BLOCK_HOPS = 1 << 14
LOWEST_POWER = 1e-12


class SpeechGate:
    """Gains 0..1, one for each ``HOP`` samples, interpolated linearly.

    ``level`` is the level of the recording's speech and ``threshold`` the level at which the gate opens, both in dB
    (see ``hop_levels``). A recording that continues another one uses the levels of that one.
    """

    def __init__(self, gains: Tensor, level: float, threshold: float) -> None:
        self.gains, self.level, self.threshold = gains, level, threshold

    @classmethod
    def of(cls, waveform: Tensor, earlier: tuple[SpeechGate, int] | None = None) -> SpeechGate:
        """The gate of ``waveform`` [M] at 16 kHz.

        earlier: the gate and the number of samples of the recording that it begins with. Its gains do not change.
        """
        levels = hop_levels(waveform)
        if earlier is None:
            level, threshold = _thresholds(levels)
            return cls(_gains(levels, level, threshold), level, threshold)
        known, num_samples = earlier
        gains = _gains(levels, known.level, known.threshold)
        kept = min(num_samples // HOP, known.gains.shape[0])
        gains[:kept] = known.gains[:kept]
        return cls(gains, known.level, known.threshold)

    def after(self, num_samples: int) -> SpeechGate:
        """The same gate for a waveform with this much silence (whole hops) added before it."""
        return SpeechGate(torch.nn.functional.pad(self.gains, (num_samples // HOP, 0)), self.level, self.threshold)

    def apply(self, samples: Tensor, start: int) -> Tensor:
        """``samples`` [n] of the recording from ``start`` on, gated; they are bit-identical where the gate is open."""
        stop = start + samples.shape[0]
        # Half a hop on either side, as a gain belongs to its hop's middle.
        first, last = (start - HOP // 2) // HOP, (stop + HOP // 2) // HOP + 1
        index = torch.arange(first, last + 1).clamp(0, max(self.gains.shape[0] - 1, 0))
        gains = self.gains[index]
        if bool((gains == 1).all()):
            return samples
        place = torch.arange(start, stop) - HOP // 2 - first * HOP
        before, share = place // HOP, (place % HOP).float() / HOP
        return samples * torch.lerp(gains[before], gains[before + 1], share).to(samples)

    @property
    def open_share(self) -> float:
        """Share of the recording in which the gate is open."""
        return float((self.gains > 0).float().mean())


def hop_levels(waveform: Tensor) -> Tensor:
    """Power in dB of the differences over ``LAG`` in each hop of ``waveform`` [M]: [ceil(M / HOP)]."""
    num_hops = -(-waveform.shape[0] // HOP)
    powers = torch.empty(num_hops)
    for start in range(0, num_hops, BLOCK_HOPS):
        stop = min(start + BLOCK_HOPS, num_hops)
        block = waveform[max(start * HOP - LAG, 0) : stop * HOP].float()
        differences = block[LAG:] - block[:-LAG]
        # Nothing lies before the first sample, and the last hop may be cut short.
        before = LAG if start == 0 else 0
        missing = (stop - start) * HOP - before - differences.shape[0]
        hops = torch.nn.functional.pad(differences, (before, missing)).unflatten(0, (-1, HOP))
        powers[start:stop] = hops.square().mean(dim=1).cpu()
    return 10 * torch.log10(powers + LOWEST_POWER)


def speech_level(levels: Tensor) -> float:
    """The level in dB at which most of the sound's energy lies. Pauses of any length do not lower it."""
    power = (10 ** (levels.double() / 10)).clamp_min(LOWEST_POWER)
    return float((power * levels).sum() / power.sum())


def _thresholds(levels: Tensor) -> tuple[float, float]:
    """The level of the speech, and the level at which the gate opens."""
    level = speech_level(levels)
    quietest = max(1, round(NOISE_SHARE * levels.shape[0]))
    noise = float(levels.kthvalue(quietest).values)
    return level, min(max(noise + ABOVE_NOISE, level + FAINTEST), level + HIGHEST)


def _gains(levels: Tensor, level: float, threshold: float) -> Tensor:
    """Gains [n] of hops with ``levels`` [n] in dB."""
    if level < SILENT:
        return torch.zeros_like(levels)
    is_loud = _lasting(levels > threshold)
    is_voiced = _lasting(levels > max(level + VOICED, threshold))
    return _faded(_spread(is_loud * _spread(is_voiced, REACH, REACH), LEAD, HOLD))


def _lasting(mask: Tensor) -> Tensor:
    """``mask`` [n] as 0 and 1, without stretches that are shorter than ``SHORTEST``."""
    padded = torch.nn.functional.pad(mask.float(), (SHORTEST - 1, 0))
    ends = padded.unfold(0, SHORTEST, 1).amin(dim=1)
    return _spread(ends, SHORTEST - 1, 0)


def _spread(mask: Tensor, before: int, after: int) -> Tensor:
    """The mask extended by ``before`` places before and ``after`` places after each 1."""
    padded = torch.nn.functional.pad(mask, (after, before))
    return padded.unfold(0, before + after + 1, 1).amax(dim=1)


def _faded(is_open: Tensor) -> Tensor:
    """The mask with raised-cosine edges. Values more than half a fade inside a stretch stay exactly 1."""
    window = torch.hann_window(FADE + 1, periodic=False)[1:-1]
    reach = window.shape[0] // 2
    padded = torch.nn.functional.pad(is_open[None, None], (reach, reach), mode="replicate")
    gains = torch.nn.functional.conv1d(padded, (window / window.sum())[None, None])[0, 0]
    return torch.where(gains > 1 - 1e-5, torch.ones(()), torch.where(gains < 1e-5, torch.zeros(()), gains))
