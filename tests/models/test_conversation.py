"""A conversation as two voices: times as they are typed, turns at pauses, and what each voice holds."""

from __future__ import annotations

import pytest
import torch

from asymtalker.models.conversation import Turn, parse_times, turns_at, turns_at_pauses, voice_of
from asymtalker.tests.models.test_gate import UTTERANCES, recording

RATE = 16_000


@pytest.mark.parametrize(
    ("text", "times"),
    [("", []), (" 3.2, 7.5\n1:04 ", [3.2, 7.5, 64.0]), ("0;1:02:03.5", [0.0, 3723.5])],
)
def test_times(text: str, times: list[float]) -> None:
    assert parse_times(text) == times


@pytest.mark.parametrize(
    ("text", "message"),
    [("3.2 soon", "turns: 'soon' is not a time"), ("7 3", "3 is not later"), ("-1", "'-1' is not a time")],
)
def test_what_is_no_time_is_refused(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_times(text)


def test_turns_alternate_and_0_lets_the_second_person_begin() -> None:
    assert turns_at([2.0, 3.0], 5.0) == [Turn(0, 0.0, 2.0), Turn(1, 2.0, 3.0), Turn(0, 3.0, 5.0)]
    assert [turn.voice for turn in turns_at([0.0, 2.0], 5.0)] == [1, 0]
    with pytest.raises(ValueError, match=r"turns: 9 s lies beyond the end of the audio, which lasts 5\.00 s"):
        turns_at([9.0], 5.0)


def test_the_speaker_changes_in_the_middle_of_a_long_pause() -> None:
    waveform = recording(0.003)
    (_, first_stop), (second_start, _) = UTTERANCES
    first, second = turns_at_pauses(waveform, RATE, 0.8)
    assert (first.voice, second.voice) == (0, 1)
    assert first.stop == second.start == pytest.approx((first_stop + second_start) / 2, abs=0.1)
    assert len(turns_at_pauses(waveform, RATE, 1.0)) == 1


def test_each_voice_has_its_turns_and_both_have_everything() -> None:
    samples = torch.randn(5 * RATE, generator=torch.Generator().manual_seed(0))
    turns = turns_at([2.0, 3.5], 5.0)
    first, second = (voice_of(samples, RATE, turns, voice) for voice in (0, 1))
    inside, fade = slice(round(2.1 * RATE), round(3.4 * RATE)), 0.02 * RATE
    assert torch.equal(second[inside], samples[inside]) and not first[inside].any()
    assert torch.equal(first[: 2 * RATE - 400], samples[: 2 * RATE - 400])
    assert (first + second - samples).count_nonzero() <= 4 * fade + 4
