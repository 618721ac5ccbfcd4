"""Any sample rate to another in bounded memory, with torchaudio's filter.

``torchaudio.functional.resample`` makes a kernel as long as a period of both rates for each sample of that period:
22254 Hz to 16 kHz takes 2 GB, 44099 Hz more than 8 GB. For such rates the taps around each sample are all that is made.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torchaudio.functional as AF
from torch import Tensor


@dataclass(frozen=True)
class SincFilter:
    """A sinc under a Hann window: zero crossings on either side, the cut-off as a share of Nyquist's frequency."""

    zero_crossings: int
    rolloff: float


SHORT = SincFilter(6, 0.99)
"""torchaudio's default, with which nano was trained. Of 8.3 to 15 kHz, 9 % folds back below 8 kHz."""
LONG = SincFilter(64, 0.98)
"""Of those, 0.01 % folds back, and up to 7.6 kHz speech is within 0.002 % (SHORT: 0.5 %, soxr HQ: 0.09 %)."""

LARGEST_KERNEL = 1 << 20
"""Largest kernel, in values, for which torchaudio is used; the usual rates are far below."""
VALUES_AT_ONCE = 1 << 20


def resample(waveform: Tensor, sample_rate: int, target_rate: int, sinc: SincFilter = SHORT) -> Tensor:
    """``waveform`` [N] at ``sample_rate`` Hz -> [ceil(N * target_rate / sample_rate)] at ``target_rate`` Hz.

    Rates for which torchaudio's kernel would be too large are always resampled with ``SHORT``.

    Raises:
        ValueError: a rate that is not positive.
    """
    if min(sample_rate, target_rate) < 1:
        raise ValueError(f"the sample rate is {sample_rate} Hz: it must be positive")
    common = math.gcd(sample_rate, target_rate)
    period, phases = sample_rate // common, target_rate // common
    if phases * (period + 2 * _reach(period, phases, sinc)) <= LARGEST_KERNEL:
        return AF.resample(
            waveform, sample_rate, target_rate, lowpass_filter_width=sinc.zero_crossings, rolloff=sinc.rolloff
        )
    return _by_taps(waveform, period, phases)


def _cutoff(period: int, phases: int, sinc: SincFilter = SHORT) -> float:
    """The filter's cut-off as a share of the input's Nyquist frequency."""
    return sinc.rolloff * min(1.0, phases / period)


def _reach(period: int, phases: int, sinc: SincFilter = SHORT) -> int:
    """Input samples on either side of an output sample that the filter spans."""
    return math.ceil(sinc.zero_crossings / _cutoff(period, phases, sinc))


def _by_taps(waveform: Tensor, period: int, phases: int) -> Tensor:
    """``phases`` output samples for every ``period`` input samples: output n lies at input n * period / phases."""
    reach = _reach(period, phases)
    table = _weights(period, phases).to(waveform)
    windows = torch.nn.functional.pad(waveform, (reach, reach)).unfold(0, 2 * reach + 1, 1)
    resampled = waveform.new_empty(-(-waveform.shape[0] * phases // period))
    rows = max(1, VALUES_AT_ONCE // table.shape[1])
    for start in range(0, resampled.shape[0], rows):
        output = torch.arange(start, min(start + rows, resampled.shape[0]), device=waveform.device)
        taps = windows[output * period // phases]
        resampled[start : start + rows] = torch.einsum("nt,nt->n", taps, table[output % phases])
    return resampled


def _weights(period: int, phases: int) -> Tensor:
    """[phases, taps] float32: a windowed sinc around each phase's place between two input samples."""
    cutoff, reach = _cutoff(period, phases), _reach(period, phases)
    taps = torch.arange(-reach, reach + 1, dtype=torch.float64)
    parts: list[Tensor] = []
    for block in torch.arange(phases).split(max(1, VALUES_AT_ONCE // taps.shape[0])):
        offset = (block * period % phases).double() / phases
        t = ((taps - offset[:, None]) * cutoff).clamp(-SHORT.zero_crossings, SHORT.zero_crossings)
        hann = torch.cos(t * (math.pi / 2 / SHORT.zero_crossings)).square()
        parts.append((torch.sinc(t) * hann * cutoff).float())
    return torch.cat(parts)
