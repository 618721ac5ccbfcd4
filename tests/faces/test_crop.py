"""Squares cut out of pictures and pasted back."""

from __future__ import annotations

import numpy as np
import pytest

from asymtalker.faces.crop import Crop, feather_mask, paste_into, square_around

SIDE = 40


def noise(height: int, width: int, seed: int = 0) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize(
    ("box", "margin", "expected"),
    [
        ((100, 80, 40, 60), 0.0, (90, 80, 60)),
        ((100, 80, 40, 60), 0.5, (60, 50, 120)),
        ((-10, -10, 40, 40), 0.5, (0, 0, 80)),
        ((280, 180, 40, 40), 0.5, (240, 160, 80)),
        ((100, 80, 40, 60), 3.0, (0, 0, 240)),
        ((10.4, 20.6, 0.2, 0.2), 0.0, (10, 20, 1)),
    ],
)
def test_the_square_stays_in_the_picture(
    box: tuple[float, float, float, float], margin: float, expected: tuple[int, int, int]
) -> None:
    assert square_around(box, 320, 240, margin) == Crop(*expected, 320, 240)


def test_without_feather_the_frame_is_exact_and_the_rest_untouched() -> None:
    picture, frame = noise(120, 160), noise(SIDE, SIDE, 1)
    result = paste_into(Crop(30, 50, SIDE, 160, 120), 0.0)(picture, frame, 1.0)
    assert np.array_equal(result[50:90, 30:70], frame)
    result[50:90, 30:70] = picture[50:90, 30:70]
    assert np.array_equal(result, picture)


def test_feathered_edges_run_from_picture_to_frame() -> None:
    picture, frame = np.zeros((120, 160, 3), np.uint8), np.full((SIDE, SIDE, 3), 200, np.uint8)
    result = paste_into(Crop(30, 50, SIDE, 160, 120), 0.25)(picture, frame, 1.0)
    row = result[50 + SIDE // 2, 30 : 30 + SIDE, 0].astype(int)
    assert row[0] <= 2 and row[-1] <= 2
    assert (row[10:30] == 200).all()
    assert (np.diff(row[:11]) > 0).all() and np.array_equal(row, row[::-1])


def test_edges_on_the_picture_s_border_are_hard() -> None:
    mask = feather_mask(Crop(0, 80, SIDE, 160, 120), 0.25)[..., 0]
    assert (mask[SIDE // 2, :20] == 256).all() and mask[SIDE // 2, -1] < 10
    assert (mask[20:, 10] == 256).all() and mask[0, 10] < 10


def test_the_whole_picture_is_replaced_by_a_crop_of_it_all() -> None:
    frame = noise(SIDE, SIDE, 1)
    result = paste_into(Crop(0, 0, SIDE, SIDE, SIDE), 0.5)(noise(SIDE, SIDE), frame, 1.0)
    assert np.array_equal(result, frame)


@pytest.mark.parametrize("size", [16, 40, 97])
def test_frames_are_scaled_to_the_crop(size: int) -> None:
    columns = np.linspace(20, 220, size).astype(np.uint8)
    frame = np.broadcast_to(columns[None, :, None], (size, size, 3))
    result = paste_into(Crop(30, 50, SIDE, 160, 120), 0.0)(noise(120, 160), frame, 1.0)
    expected = np.linspace(20, 220, SIDE)
    assert np.abs(result[70, 30:70, 1] - expected)[3:-3].max() < 6


def test_half_the_weight_is_halfway() -> None:
    picture, frame = np.zeros((120, 160, 3), np.uint8), np.full((SIDE, SIDE, 3), 200, np.uint8)
    result = paste_into(Crop(30, 50, SIDE, 160, 120), 0.0)(picture, frame, 0.5)
    assert (result[50:90, 30:70] == 100).all()
