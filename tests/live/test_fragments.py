"""Fragments of a growing mp4: joined, they are one video with one sound."""

from __future__ import annotations

import io
from fractions import Fraction

import av
import numpy as np
import pytest

from asymtalker.live.fragments import Fragment, encode_fragment
from asymtalker.media import MediaError
from asymtalker.media.audio_track import AudioTrack

FPS = Fraction(25)
RATE = 16_000
SPANS = [(0, 33), (33, 28), (61, 28), (89, 5)]
TOTAL = 94


def moving(first: int, count: int) -> np.ndarray:
    """Frames [count, 48, 64, 3], brighter with every one."""
    shade = np.linspace(40, 200, 64, dtype=np.float32)[None, None, :, None]
    level = np.arange(first, first + count, dtype=np.float32)[:, None, None, None] * 0.5
    return np.broadcast_to(shade + level, (count, 48, 64, 3)).round().clip(0, 255).astype(np.uint8)


def tone() -> AudioTrack:
    time = np.arange(int(TOTAL / FPS * RATE)) / RATE
    return AudioTrack((0.3 * np.sin(2 * np.pi * 440 * time)).astype(np.float32)[None], RATE)


@pytest.fixture(scope="module")
def fragments() -> list[Fragment]:
    return [encode_fragment(moving(*span), *span, FPS, tone()) for span in SPANS]


def joined(fragments: list[Fragment]) -> io.BytesIO:
    return io.BytesIO(fragments[0].init + b"".join(fragment.media for fragment in fragments))


def test_all_have_one_initialisation(fragments: list[Fragment]) -> None:
    assert {fragment.init for fragment in fragments} == {fragments[0].init}
    assert {fragment.mime_type for fragment in fragments} == {'video/mp4; codecs="avc1.42c00a, mp4a.40.2"'}


def test_every_frame_is_at_its_time(fragments: list[Fragment]) -> None:
    with av.open(joined(fragments)) as container:
        frames = list(container.decode(video=0))
    assert [Fraction(frame.pts) * frame.time_base * FPS for frame in frames] == list(range(TOTAL))
    decoded = np.stack([frame.to_ndarray(format="rgb24") for frame in frames]).astype(int)
    assert np.abs(decoded - moving(0, TOTAL)).mean() < 2


def test_the_sound_goes_on_across_the_seams(fragments: list[Fragment]) -> None:
    with av.open(joined(fragments)) as container:
        blocks = list(container.decode(audio=0))
    assert [block.pts for block in blocks] == list(range(0, 1024 * len(blocks), 1024))
    decoded, said = np.concatenate([block.to_ndarray()[0] for block in blocks]), tone().waveform[0]
    assert len(decoded) >= len(said)
    # The first frame of AAC has none before it to overlap with.
    assert np.abs(decoded[1024 : len(said)] - said[1024:]).max() < 0.01


def test_a_viewer_may_begin_anywhere(fragments: list[Fragment]) -> None:
    with av.open(joined(fragments[2:])) as container:
        first = next(container.decode(video=0))
    assert first.pts * first.time_base == SPANS[2][0] / FPS


def test_without_sound() -> None:
    fragment = encode_fragment(moving(0, 3), 0, 3, FPS, None)
    assert fragment.mime_type == 'video/mp4; codecs="avc1.42c00a"'
    with av.open(joined([fragment])) as container:
        assert len(container.streams) == 1 and sum(1 for _ in container.decode(video=0)) == 3


def test_a_frame_without_a_block_of_sound_of_its_own_can_be_watched(fragments: list[Fragment]) -> None:
    before, alone = (encode_fragment(moving(*span), *span, FPS, tone()) for span in ((0, 7), (7, 1)))
    assert alone.init == before.init
    with av.open(joined([before, alone])) as container:
        assert [frame.pts * frame.time_base * FPS for frame in container.decode(video=0)] == list(range(8))


def test_no_frames_is_an_error() -> None:
    with pytest.raises(MediaError, match="Frames from 7 on"):
        encode_fragment([], 7, 0, FPS, None)
