"""A face followed through a video: it moves, it leaves, the video cuts; and where a square is put back."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image

from asymtalker.faces.track import FaceTrack, Placement, filled, shown, smoothed
from asymtalker.faces.tracking import TrackOptions, follow, make_track
from asymtalker.tests.helpers import ROOT

FPS = Fraction(25)
WIDTH, HEIGHT = 400, 300
EMPTY = np.full((HEIGHT, WIDTH, 3), 90, np.uint8)
OPTIONS = TrackOptions(margin=0.5, face_index=0, shot=0, smoothing=0.1, portrait_at=-1.0)


@pytest.fixture(scope="module")
def scene() -> Callable[[float, float, float], Any]:
    """A photograph scaled by a factor about a place in a frame."""
    with av.open(str(ROOT / "tests" / "data" / "astronaut.jpg")) as container:
        photograph = Image.fromarray(next(container.decode(video=0)).to_ndarray(format="rgb24"))

    def draw(x: float, y: float, scale: float) -> Any:
        side = photograph.width * scale
        matrix = (1 / scale, 0, -(x - side / 2) / scale, 0, 1 / scale, -(y - side / 2) / scale)
        frame, size = Image.fromarray(EMPTY), (WIDTH, HEIGHT)
        opaque = Image.new("L", photograph.size, 255).transform(size, Image.Transform.AFFINE, matrix)
        scaled = photograph.transform(size, Image.Transform.AFFINE, matrix, Image.Resampling.BICUBIC)
        frame.paste(scaled, (0, 0), opaque)
        return np.asarray(frame)

    return draw


def test_the_square_follows_smoothly(scene: Callable[..., Any]) -> None:
    moves = [(180 + 2.5 * i, 150 - i, 0.7 * 1.01**i) for i in range(20)]
    tracked = make_track(follow((scene(*move) for move in moves), FPS, OPTIONS), FPS, OPTIONS)
    squares, at = tracked.track.squares, tracked.portrait_frame
    assert (tracked.track.weights == 1).all()
    # As the photograph moves and grows, so does the square, in relation to the portrait.
    scales = np.array([scale for _, _, scale in moves])
    places = np.array([(x, y) for x, y, _ in moves])
    growth = (scales / scales[at])[:, None]
    expected = places + (squares[at, :2] + squares[at, 2] / 2 - places[at]) * growth
    assert np.abs(squares[:, :2] + squares[:, 2:] / 2 - expected).max() < 3
    assert np.abs(squares[:, 2] / squares[at, 2] / growth[:, 0] - 1).max() < 0.08
    assert np.abs(np.diff(squares, n=2, axis=0)).max() < 1
    crop = tracked.crop
    assert tracked.portrait.shape == (crop.side, crop.side, 3)


def test_a_face_that_leaves_and_returns(scene: Callable[..., Any]) -> None:
    """Faded out where it is gone, and found again."""
    there, gone = [scene(200, 150, 0.7)] * 12, [EMPTY] * 20
    # Not a cut: the picture changes gradually.
    mixed = [((1 - t) * there[0] + t * EMPTY).astype(np.uint8) for t in np.linspace(0, 1, 12)]
    frames = [*there, *mixed, *gone, *reversed(mixed), *there]
    shots = follow(frames, FPS, OPTIONS)
    assert len(shots) == 1
    weights = make_track(shots, FPS, OPTIONS).track.weights
    assert weights[0] == weights[-1] == 1 and (weights[26:44] == 0).all()
    assert np.abs(np.diff(weights)).max() < 0.25


def test_a_short_gap_is_bridged() -> None:
    present = np.array([True] * 5 + [False] * 8 + [True] * 5)
    assert (shown(present, longest_gap=8, fade=4) == 1).all()
    assert shown(present, longest_gap=7, fade=4).min() == 0
    values = np.where(present, np.arange(18.0), 0.0)[:, None]
    assert np.allclose(filled(values, present)[:, 0], np.arange(18))


def test_each_shot_is_tracked_by_itself(scene: Callable[..., Any]) -> None:
    frames = [*[scene(150, 150, 0.7)] * 8, *[EMPTY // 3] * 5, *[scene(240, 140, 0.6)] * 8, *[EMPTY // 3] * 2]
    shots = follow(frames, FPS, OPTIONS)
    assert [shot.start for shot in shots if shot.has_face] == [0, 13]
    shown_frames = []
    for number in (0, 1):
        options = TrackOptions(0.5, 0, number, 0.1, -1.0)
        track = make_track(shots, FPS, options).track
        assert track.num_frames == len(frames)
        shown_frames.append(np.flatnonzero(track.weights).tolist())
    assert shown_frames == [list(range(8)), list(range(13, 21))]
    with pytest.raises(ValueError, match="shot: 2, but shots 0 to 1 have faces"):
        make_track(shots, FPS, TrackOptions(0.5, 0, 2, 0.1, -1.0))


def test_what_cannot_be_tracked_is_one_message(scene: Callable[..., Any]) -> None:
    with pytest.raises(ValueError, match="video: no face was found in its 3 frames"):
        make_track(follow([EMPTY] * 3, FPS, OPTIONS), FPS, OPTIONS)
    second = TrackOptions(0.5, 1, 0, 0.1, -1.0)
    with pytest.raises(ValueError, match="video: no face 1 was found in its 3 frames"):
        make_track(follow([scene(200, 150, 0.7)] * 3, FPS, second), FPS, second)
    late = TrackOptions(0.5, 0, 0, 0.1, 9.0)
    with pytest.raises(ValueError, match=r"portrait_at: 9 s, but there is no face at that time.*0\.00 to 0\.12 s"):
        make_track(follow([scene(200, 150, 0.7)] * 3, FPS, late), FPS, late)


def test_of_several_faces_the_wanted_one_is_followed(scene: Callable[..., Any]) -> None:
    pair = np.concatenate((scene(200, 150, 0.6), scene(200, 150, 0.9)), axis=1)
    for index, side in ((0, 1), (1, 0)):
        options = TrackOptions(0.2, index, 0, 0.1, -1.0)
        tracked = make_track(follow([pair] * 3, FPS, options), FPS, options)
        assert tracked.shot.most_faces == 2 and (tracked.crop.x > WIDTH) == bool(side)


def test_smoothing_keeps_a_steady_motion() -> None:
    line = np.stack((np.arange(30.0), 5 - 2 * np.arange(30.0)), axis=1)
    assert np.allclose(smoothed(line, 3.0), line)
    noisy = line + np.random.default_rng(0).normal(0, 1, line.shape)
    assert np.abs(smoothed(noisy, 3.0) - line).mean() < 0.5 * np.abs(noisy - line).mean()
    assert smoothed(line[:1], 3.0).shape == (1, 2)


def track_of(placements: list[tuple[float, float, float]], color: float = 120.0, weight: float = 1.0) -> FaceTrack:
    squares = np.array(placements, np.float64)
    colors, weights = np.full((len(squares), 3), color), np.full(len(squares), weight)
    return FaceTrack(WIDTH, HEIGHT, FPS, squares, weights, colors, (0.25, 0.25, 0.75, 0.75))


def test_the_last_place_stays() -> None:
    track = track_of([(1.0, 2.0, 30.0), (3.0, 4.0, 40.0)])
    assert track.at(7) == track.at(1) == Placement(3.0, 4.0, 40.0, 1.0, (120.0, 120.0, 120.0))
