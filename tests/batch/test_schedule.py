"""Longest first, failed ones last, three tries."""

from __future__ import annotations

from asymtalker.batch.plan import Clip
from asymtalker.batch.schedule import Schedule
from asymtalker.batch.table import Row


def clip(name: str, seconds: float) -> Clip:
    return Clip(name, Row(1, {}), seconds)


def test_the_longest_clip_is_first_and_a_failed_one_last() -> None:
    short, long, middle = clip("short", 1), clip("long", 9), clip("middle", 5)
    schedule = Schedule([short, long, middle])
    assert schedule.take() is long
    assert schedule.failed(long, 0)
    assert [schedule.take() for _ in range(3)] == [middle, short, long]


def test_a_clip_is_given_up_after_three_tries_without_progress() -> None:
    bad = clip("bad", 1)
    schedule = Schedule([bad])
    # The second attempt came further, so that the first one does not count.
    for chunks, is_kept in ((0, True), (2, True), (2, True), (2, False)):
        assert schedule.take() is bad
        assert schedule.failed(bad, chunks) is is_kept
    assert len(schedule) == 0


def test_an_attempt_that_was_not_begun_does_not_count() -> None:
    good = clip("good", 1)
    schedule = Schedule([good])
    for _ in range(5):
        schedule.give_back(schedule.take())
    assert schedule.take() is good
