"""How long a chunk takes, in a run and in the estimates of the next."""

from __future__ import annotations

import itertools
import json
from types import SimpleNamespace

import pytest

from asymtalker.tests.helpers import Import, generate


def test_the_first_chunk_counts_only_alone(pack: Import, monkeypatch: pytest.MonkeyPatch) -> None:
    pace = pack("jobs.pace")
    now = iter((0.0, 50.0, 52.0, 54.0, 57.0))
    monkeypatch.setattr(pace, "time", SimpleNamespace(monotonic=lambda: next(now)))
    laps = pace.Laps()
    assert laps.usual is None
    usual = []
    for _ in range(4):
        laps.add()
        usual.append(laps.usual)
    assert usual == [50.0, 2.0, 2.0, 2.0] and laps.seconds == [50.0, 2.0, 2.0, 3.0]


def test_estimates_come_from_wall_time(
    pack: Import, scene: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The seconds of stages add up to more where a chunk is decoded beside the next one."""
    caplog.set_level("INFO")
    overlapping = property(lambda clock: {"network": 1000.0, "decode": 1000.0})
    monkeypatch.setattr(pack("models.clock").StageClock, "seconds", overlapping)
    monkeypatch.setattr(pack("jobs.pace"), "time", SimpleNamespace(monotonic=itertools.count(0, 3).__next__))
    _, report = generate(pack, scene)
    assert report["chunks"][0]["seconds"]["network"] == 1000 and report["seconds_per_chunk"] == 3
    assert list(json.loads((scene.spools.parent / "pace.json").read_text()).values()) == [3]
    assert "chunk 1 of 3" in caplog.text and "6 s left" in caplog.text
    generate(pack, scene, seed=5)
    assert "of memory, about 9 s" in caplog.text
