"""The drawn faces: the same people again, mouths that open and close, boxes that hold them."""

import time

import numpy as np
import pytest

pytest.importorskip(
    "skia", reason="no Skia, or none of the libraries it draws with (libegl1, libgl1)", exc_type=ImportError
)

from asymtalker.training.corpus.identity import Identity, sample_identity
from asymtalker.training.corpus.motion import POSE_FIELDS, Pose, sample_pose
from asymtalker.training.corpus.render import mouth_box, opening, render


def person(index: int) -> Identity:
    return sample_identity(np.random.default_rng([11, index]))


def mouth_pixels(index: int, pose: Pose) -> np.ndarray:
    x0, y0, x1, y1 = mouth_box(person(index), pose)
    return render(person(index), pose)[y0:y1, x0:x1].astype(np.float32)


def test_same_seed_gives_the_same_picture_and_another_index_another() -> None:
    pose = sample_pose(np.random.default_rng([11, 3]))
    first = render(person(3), pose)
    assert first.shape == (256, 256, 3)
    assert first.dtype == np.uint8
    np.testing.assert_array_equal(first, render(person(3), pose))
    assert np.abs(first.astype(int) - render(person(4), pose)).mean() > 5


def test_pose_survives_its_row() -> None:
    pose = sample_pose(np.random.default_rng(0))
    row = pose.to_row()
    assert row.shape == (len(POSE_FIELDS),)
    np.testing.assert_array_equal(Pose.from_row(row).to_row(), row)


@pytest.mark.parametrize("index", range(6))
def test_open_mouth_is_dark_inside_its_box(index: int) -> None:
    pose = Pose(jaw=1.0)
    x0, y0, x1, y1 = mouth_box(person(index), pose)
    assert 40 <= x1 - x0 <= 90
    assert 35 <= y1 - y0 <= 75
    luma = mouth_pixels(index, pose).mean(axis=-1)
    closed = mouth_pixels(index, Pose()).mean(axis=-1)
    assert (luma < 40).mean() > (closed < 40).mean() + 0.08


@pytest.mark.parametrize(
    "pose",
    [Pose(jaw=0.8, press=1.0), Pose(jaw=0.8, press=1.0, tuck=1.0), Pose(jaw=0.0), Pose(rounding=1.0)],
)
def test_pressed_or_resting_lips_leave_no_gap(pose: Pose) -> None:
    assert opening(pose) == 0.0


def test_mouth_box_follows_the_head() -> None:
    left, _, right, _ = mouth_box(person(0), Pose())
    turned = mouth_box(person(0), Pose(yaw=15.0))
    assert turned[0] + turned[2] > left + right + 12
    assert mouth_box(person(0), Pose(), 512)[0] == pytest.approx(2 * left, abs=2)


def test_sizes_show_the_same_picture() -> None:
    large = render(person(2), Pose(jaw=0.5), 512).astype(np.float32)
    small = large.reshape(256, 2, 256, 2, 3).mean(axis=(1, 3))
    assert np.abs(small - render(person(2), Pose(jaw=0.5))).mean() < 3.0


def test_speed_is_reported(capsys: pytest.CaptureFixture[str]) -> None:
    render(person(1), Pose())
    start = time.process_time()
    for i in range(20):
        render(person(1), Pose(jaw=i / 20))
    with capsys.disabled():
        print(f"\nrender: {50 * (time.process_time() - start):.1f} ms of CPU per 256x256 frame")
