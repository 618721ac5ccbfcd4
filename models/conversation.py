"""A conversation as two voices of the same length, each silent while the other one speaks."""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass

import torch
from torch import Tensor

from .gate import HOP, WIDENED, SpeechGate

FADE_S = 0.02
"""Fade of a voice at the edges of its turns: shorter than any speech sound."""
TIME = re.compile(r"(?:(\d+):)?(?:(\d+):)?(\d+(?:\.\d+)?)")

VOICES = "AB"


@dataclass(frozen=True)
class Turn:
    """Seconds [start, stop) in which a voice (0 or 1) speaks."""

    voice: int
    start: float
    stop: float

    def __str__(self) -> str:
        return f"{VOICES[self.voice]} {self.start:.2f} to {self.stop:.2f} s"


def parse_times(text: str) -> list[float]:
    """Times in seconds, minutes or hours (``3.2``, ``1:05.5``, ``1:02:03``), separated by spaces or commas, rising.

    Raises:
        ValueError: the text contains something else, or a time is not later than the one before.
    """
    times: list[float] = []
    for word in re.split(r"[\s,;]+", text.strip()):
        if not word:
            continue
        match = TIME.fullmatch(word)
        if match is None:
            raise ValueError(
                f"turns: {word[:40]!r} is not a time. Enter the times at which the other person begins to speak, such "
                "as 3.2, 7.5, 1:04"
            )
        *larger, seconds = [float(part) for part in match.groups() if part is not None]
        for place, part in enumerate(reversed(larger), start=1):
            seconds += part * 60**place
        if times and seconds <= times[-1]:
            raise ValueError(f"turns: {word} is not later than the time before it. Enter the times in order")
        times.append(seconds)
    return times


def turns_at(times: list[float], duration: float) -> list[Turn]:
    """Turns that change at ``times``; the first voice begins, or the second one if the first time is 0.

    Raises:
        ValueError: a time lies beyond the end.
    """
    if times and times[-1] >= duration:
        raise ValueError(f"turns: {times[-1]:g} s lies beyond the end of the audio, which lasts {duration:.2f} s")
    borders = [0.0, *times, duration]
    turns = [Turn(index % 2, start, stop) for index, (start, stop) in enumerate(itertools.pairwise(borders))]
    return [turn for turn in turns if turn.stop > turn.start]


def turns_at_pauses(samples: Tensor, sample_rate: int, pause_s: float) -> list[Turn]:
    """Turns that change in the middle of each pause of ``samples`` [M] of at least ``pause_s`` seconds.

    ``sample_rate`` must be 16 kHz, as the gate's.
    """
    is_open = SpeechGate.of(samples).gains > 0
    edges = torch.nn.functional.pad(is_open.int(), (1, 1)).diff()
    starts, stops = (edges == 1).nonzero()[:, 0].tolist(), (edges == -1).nonzero()[:, 0].tolist()
    hops_per_s = sample_rate / HOP
    times = [
        (stop + start) / 2 / hops_per_s
        for stop, start in zip(stops, starts[1:], strict=False)
        if (start - stop + WIDENED) / hops_per_s >= pause_s
    ]
    return turns_at(times, samples.shape[0] / sample_rate)


def voice_of(samples: Tensor, sample_rate: int, turns: list[Turn], voice: int) -> Tensor:
    """``samples`` [M] in the turns of one voice, silent elsewhere."""
    gains = torch.zeros(samples.shape[0])
    fade = max(1, round(FADE_S * sample_rate))
    for turn in turns:
        if turn.voice != voice:
            continue
        first, last = round(turn.start * sample_rate), min(round(turn.stop * sample_rate), samples.shape[0])
        gains[first:last] = 1.0
        ramp = torch.linspace(0, 1, fade + 2)[1:-1][: last - first]
        if first > 0:
            gains[first : first + ramp.shape[0]] *= ramp
        if last < samples.shape[0]:
            gains[last - ramp.shape[0] : last] *= ramp.flip(0)
    return samples * gains
