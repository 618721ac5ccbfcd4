"""Heads that follow speech: from the portrait, by the mouth alone, and back to rest."""

import numpy as np
import pytest

pytest.importorskip(
    "skia", reason="no Skia, or none of the libraries it draws with (libegl1, libgl1)", exc_type=ImportError
)

from asymtalker.models.rates import FPS
from asymtalker.training.corpus.clip import make_poses, make_speech, portrait_pose
from asymtalker.training.corpus.motion import POSE_FIELDS, Pose
from asymtalker.training.corpus.speech import Phoneme
from asymtalker.training.corpus.spoken import blinks_in_pauses, spoken_motion

YAW, PITCH, BLINK = (POSE_FIELDS.index(name) for name in ("yaw", "pitch", "blink"))

OPEN = np.zeros(200)


def mouth_track(frames: int) -> np.ndarray:
    """Speech-like for the first half, closed and silent for the second."""
    track = np.zeros((frames, 7), np.float32)
    time = np.arange(frames // 2) / FPS
    track[: frames // 2, 0] = 0.5 + 0.5 * np.sin(2 * np.pi * 3 * time)
    track[: frames // 2, 2] = time > 1
    return track


def test_begins_at_the_portrait_and_follows_the_mouth() -> None:
    portrait = Pose(yaw=2.0, pitch=-1.0)
    rows = spoken_motion(portrait, mouth_track(200), OPEN)
    assert (rows[0, YAW], rows[0, PITCH]) == (2.0, -1.0)
    assert rows[:100, PITCH].max() > 0
    assert np.ptp(rows[:100, YAW]) > 1
    np.testing.assert_array_equal(rows, spoken_motion(portrait, mouth_track(200), OPEN))


def test_comes_to_rest_in_silence() -> None:
    rows = spoken_motion(Pose(), mouth_track(400), np.zeros(400))
    assert np.abs(np.diff(rows[-25:, [YAW, PITCH]], axis=0)).max() < 0.01


def test_the_next_frame_follows_from_two_frames_and_the_mouth() -> None:
    """What makes the motion learnable from continuity frames: a spring has no memory but place and speed."""
    long, short = mouth_track(200), mouth_track(200)
    short[:60, 0] = 0.0
    a, b = (spoken_motion(Pose(), track, OPEN)[:, PITCH] for track in (long, short))
    gap = np.abs(a - b)
    assert gap[60] > 0.15
    assert gap[100] < 0.1 * gap[60]


def test_blinks_begin_in_pauses() -> None:
    phonemes = (Phoneme("a", 0.0, 1.0), Phoneme("", 1.0, 1.6), Phoneme("a", 1.6, 2.0), Phoneme("", 2.0, 2.1))
    closed = np.flatnonzero(blinks_in_pauses(phonemes, 60) > 0.9)
    assert closed.min() > 25
    assert closed.max() < 35


def test_most_short_clips_blink_at_any_time() -> None:
    speech = make_speech(3, 0, 33 / FPS)
    tracks = [make_poses(3, index, speech, 33, blinks="told")[:, BLINK] for index in range(20)]
    assert sum(track.max() == 1 for track in tracks) >= 12
    assert max(np.mean(track > 0.5) for track in tracks) < 0.3


def test_speech_moves_every_head() -> None:
    for index in range(3):
        poses = make_poses(3, index, make_speech(3, index, 6.0), 150)
        np.testing.assert_allclose(poses[0, 7:], portrait_pose(3, index).to_row()[7:], atol=1e-6)
        assert poses[:, YAW].std() > 0.1
        assert np.abs(poses[:, YAW]).max() < 18
