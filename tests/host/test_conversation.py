"""AUDIO values of a conversation: what each person's voice holds and what is saved, from one track and from two."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from asymtalker.tests.helpers import Import


def audio(*levels: float, seconds: float = 1.0, rate: int = 16_000) -> dict[str, Any]:
    """A clip with one constant level a channel."""
    waveform = torch.tensor(levels)[None, :, None].expand(1, len(levels), round(seconds * rate)).clone()
    return {"waveform": waveform, "sample_rate": rate}


def test_one_track_is_handed_on_and_divided(comfy: Import, pack: Import) -> None:
    given = audio(0.5)
    first, second, both = pack("host.conversation").split_conversation(given, None, "turns", "0.4", 0.6)
    assert both is given
    assert first["waveform"].shape == second["waveform"].shape == (1, 1, 16_000)
    assert torch.equal(first["waveform"][..., :6000], given["waveform"][..., :6000])
    assert not first["waveform"][..., 6500:].any() and not second["waveform"][..., :6000].any()


def test_a_person_on_each_side(comfy: Import, pack: Import) -> None:
    split = pack("host.conversation").split_conversation
    first, second, _ = split(audio(0.25, 0.5), None, "left and right", "", 0.6)
    assert (first["waveform"] == 0.25).all() and (second["waveform"] == 0.5).all()
    with pytest.raises(ValueError, match=r"split: the audio has 1 channels, but left and right needs two"):
        split(audio(0.5), None, "left and right", "", 0.6)


def test_two_tracks_are_added_and_equally_long(comfy: Import, pack: Import) -> None:
    split = pack("host.conversation").split_conversation
    first, second, both = split(audio(0.25), audio(0.5, seconds=2.0), "turns", "", 0.6)
    assert first["waveform"].shape == second["waveform"].shape == (1, 1, 32_000)
    assert (both["waveform"][..., :16_000] == 0.75).all() and (both["waveform"][..., 16_000:] == 0.5).all()
    with pytest.raises(ValueError, match=r"second: the clip is empty"):
        split(audio(0.25), audio(0.5, seconds=0.0), "turns", "", 0.6)


def test_who_speaks_when_is_shown(comfy: Import, pack: Import, monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[str] = []
    monkeypatch.setattr(pack("host.progress"), "show", lambda node_id, text: shown.append(text))
    split = pack("host.conversation").split_conversation
    split(audio(0.5), None, "turns", "0, 0.4", 0.6, "3")
    assert shown == ["B 0.00 to 0.40 s, A 0.40 to 1.00 s"]
    split(audio(0.5), None, "turns", "", 0.6, "3")
    assert shown[1].endswith("there is no pause of 0.6 s, so only A speaks: enter the times of the changes in turns")
