"""Reduces several channels to one for a network: a plain mix, or the channel with the speech if a mix fails.

The mix of channels in opposite phase is silence, and in that of 5.1 the other channels cover the speech of the
centre.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

# Levels are compared after pre-emphasis, which removes hum, a DC offset and a bass channel from them.
PREEMPHASIS = 0.97
BLOCK_SAMPLES = 1 << 18

SILENT = 10 ** (-26 / 10)
"""Power below which a channel is silent, as a share of the loudest channel's."""
CANCELLED = 10 ** (-10 / 10)
"""Power below which a mix has cancelled, as a share of the power for uncorrelated channels."""

# ffmpeg's order of 5.0, 5.1, 6.1 and 7.1: left, right, centre, bass (not in 5.0), ...
CENTRE, BASS = 2, 3
FEWEST_WITH_CENTRE, FEWEST_WITH_BASS = 5, 6
LAYOUTS = {5: "5.0", 6: "5.1", 7: "6.1", 8: "7.1"}


@dataclass(frozen=True)
class Mono:
    """``samples`` [N] float32; ``note`` describes what was used if it is not the mix of all channels."""

    samples: Tensor
    note: str | None = None


def to_mono(waveform: Tensor) -> Mono:
    """The speech of ``waveform`` [channels, N].

    One channel is taken as it is. Of 5.0 to 7.1 the centre is taken if it has sound. Else the channels are averaged
    (those with sound, of more than two), but for a single one with sound, or where they cancel.
    """
    num_channels = waveform.shape[0]
    if num_channels == 1:
        # A view, because a copy of an hour is large.
        return Mono(waveform[0].float())
    power = _shared_power(waveform)
    own = power.diagonal()
    with_sound = torch.nonzero(own > SILENT * own.max()).flatten().tolist()
    if num_channels >= FEWEST_WITH_BASS and with_sound != [BASS]:
        with_sound = [channel for channel in with_sound if channel != BASS]
    if num_channels >= FEWEST_WITH_CENTRE and CENTRE in with_sound:
        layout = LAYOUTS.get(num_channels, f"{num_channels} channels")
        return _only(waveform, CENTRE, f"{layout} sound: the centre channel is used for the features")
    if len(with_sound) == 1:
        name = _name(with_sound[0], num_channels)
        return _only(waveform, with_sound[0], f"only {name} has sound: it is used for the features")
    mixed = power[with_sound][:, with_sound].sum()
    if mixed < CANCELLED * own[with_sound].sum():
        loudest = int(own.argmax())
        note = f"the channels cancel when they are mixed: {_name(loudest, num_channels)} is used for the features"
        return _only(waveform, loudest, note)
    if 0 < len(with_sound) < num_channels and num_channels > 2:
        return Mono(waveform[with_sound].float().mean(dim=0))
    return Mono(waveform.float().mean(dim=0))


def _only(waveform: Tensor, channel: int, note: str) -> Mono:
    return Mono(waveform[channel].float(), note)


def _name(channel: int, num_channels: int) -> str:
    if num_channels == 2:
        return f"the {('left', 'right')[channel]} channel"
    return f"channel {channel + 1} of {num_channels}"


def _shared_power(waveform: Tensor) -> Tensor:
    """[channels, channels] float64: sums of products of the pre-emphasised channels, a block at a time."""
    total = torch.zeros(waveform.shape[0], waveform.shape[0], dtype=torch.float64)
    for start in range(0, waveform.shape[1], BLOCK_SAMPLES):
        block = waveform[:, start : start + BLOCK_SAMPLES + 1].float()
        emphasised = block[:, 1:] - PREEMPHASIS * block[:, :-1]
        total += (emphasised @ emphasised.T).cpu().double()
    return total
