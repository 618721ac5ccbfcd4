"""AUDIO values of a conversation: a voice for each person, and the sound to save."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ..models.audio import to_mono_16k
from ..models.choices import Choice
from ..models.conversation import parse_times, turns_at, turns_at_pauses, voice_of
from ..models.rates import SAMPLE_RATE
from ..models.streaming import Recording
from .audio import checked_audio, overlaid
from .progress import notify


class Split(Choice):
    """How one track of two people is divided."""

    TURNS = "turns"
    LEFT_AND_RIGHT = "left and right"


TURNS_SHOWN = 8

Audio = dict[str, Any]


def split_conversation(
    audio: Mapping[str, Any],
    second: Mapping[str, Any] | None,
    split: str,
    turns: str,
    pause_s: float,
    node_id: str | None = None,
) -> tuple[Audio, Audio, Mapping[str, Any]]:
    """The voices of two people, mono at 16 kHz and of the same length, and the AUDIO with both.

    second: the other person's own track; ``audio`` is then the first person's track.
    split: how one track is divided; ``turns`` are the times at which the speaker changes, at pauses of ``pause_s``
        seconds if it is empty.

    Raises:
        ValueError: the audio, or the times, cannot be used; names the input.
    """
    waveform, sample_rate = checked_audio(audio)
    if second is not None:
        return _two_tracks(waveform, sample_rate, second, node_id)
    if Split.parse(split, "split") is Split.LEFT_AND_RIGHT:
        if waveform.shape[0] != 2:
            raise ValueError(
                f"split: the audio has {waveform.shape[0]} channels, but left and right needs two. Use turns, or "
                "connect the other person's track to second"
            )
        left, right = (to_mono_16k(channel[None], sample_rate) for channel in waveform)
        notify(node_id, "A is the left channel, B is the right channel")
        return _voice(left), _voice(right), audio
    mono = to_mono_16k(waveform, sample_rate)
    duration = mono.shape[0] / SAMPLE_RATE
    times = parse_times(turns)
    found = turns_at(times, duration) if times else turns_at_pauses(mono, SAMPLE_RATE, pause_s)
    more = f" and {len(found) - TURNS_SHOWN} more" if len(found) > TURNS_SHOWN else ""
    notes = [", ".join(map(str, found[:TURNS_SHOWN])) + more]
    if len({turn.voice for turn in found}) < 2:
        notes.append(f"there is no pause of {pause_s:g} s, so only A speaks: enter the times of the changes in turns")
    notify(node_id, *notes)
    return _voice(voice_of(mono, SAMPLE_RATE, found, 0)), _voice(voice_of(mono, SAMPLE_RATE, found, 1)), audio


def _two_tracks(
    waveform: Tensor, sample_rate: int, second: Mapping[str, Any], node_id: str | None
) -> tuple[Audio, Audio, Audio]:
    try:
        other, other_rate = checked_audio(second)
    except ValueError as error:
        raise ValueError(str(error).replace("audio:", "second:", 1)) from error
    voices = [to_mono_16k(waveform, sample_rate), to_mono_16k(other, other_rate)]
    length = max(voice.shape[0] for voice in voices)
    first, last = (torch.nn.functional.pad(voice, (0, length - voice.shape[0])) for voice in voices)
    notes = ["A is the track in audio, B is the track in second"]
    if other_rate != sample_rate:
        notes.append(f"second is resampled from {other_rate} to {sample_rate} Hz")
    notify(node_id, *notes)
    both = overlaid([Recording(waveform, sample_rate), Recording(other, other_rate)])
    assert both is not None
    together = {"waveform": torch.from_numpy(both.waveform)[None], "sample_rate": both.sample_rate}
    return _voice(first), _voice(last), together


def _voice(samples: Tensor) -> Audio:
    return {"waveform": samples[None, None], "sample_rate": SAMPLE_RATE}
