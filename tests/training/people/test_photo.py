"""Looks of photographs: neutral ones change nothing, all are repeatable, boxes follow the crop."""

from dataclasses import replace

import numpy as np
import pytest

from training.people.photo import STYLES, Look, compress, crop_boxes, develop, sample_look


def picture(frames: int = 1, size: int = 64) -> np.ndarray:
    rng = np.random.default_rng(0)
    y, x = np.mgrid[0:size, 0:size] / size
    base = np.stack([x, y, 0.5 * (x + y)], axis=-1)[None] * 170 + 20
    return np.clip(base + rng.normal(0, 4, (frames, size, size, 3)), 0, 200).astype(np.uint8)


def rng() -> np.random.Generator:
    return np.random.default_rng(5)


def test_neutral_look_leaves_a_picture_as_it_is() -> None:
    np.testing.assert_array_equal(develop(picture(), Look(), rng()), picture())


def test_highlights_are_kept_apart() -> None:
    bright = np.repeat(np.arange(0, 256, 4, dtype=np.uint8), 64 * 3).reshape(1, 64, 64, 3)
    out = develop(bright, Look(exposure=1.3), rng())[0, :, 0, 0].astype(int)
    assert (np.diff(out) >= 0).all()
    assert out[-1] > out[-8] > 200


@pytest.mark.parametrize("style", STYLES)
def test_styles_keep_the_picture_recognisable(style: str) -> None:
    out = develop(picture(), Look(style=style), rng())
    assert out.shape == picture().shape
    assert np.abs(out.astype(float).mean(axis=-1) - picture().mean(axis=-1)).mean() < 14
    if style == "grey":
        assert np.ptp(out.astype(int), axis=-1).max() <= 1
    if style != "none":
        assert (out != picture()).any()


@pytest.mark.parametrize("seed", range(12))
def test_drawn_looks_are_repeatable(seed: int) -> None:
    look = sample_look(np.random.default_rng(seed), crops=True)
    assert look == sample_look(np.random.default_rng(seed), crops=True)
    first, second = (develop(picture(3), look, np.random.default_rng(seed)) for _ in range(2))
    np.testing.assert_array_equal(first, second)
    assert first.shape == picture(3).shape


def test_frames_and_portrait_have_one_look() -> None:
    look = replace(sample_look(rng()), noise=0.0, colour_noise=0.0, crf=0)
    frames = develop(np.repeat(picture(), 2, axis=0), look, rng())
    portrait = develop(picture(), look, rng(), video=False)[0]
    np.testing.assert_array_equal(frames[1], portrait)


def test_crop_enlarges_and_boxes_follow() -> None:
    frame = np.zeros((1, 64, 64, 3), np.uint8)
    frame[0, 24:32, 20:36] = 255
    look = Look(crop=0.75, crop_at=(0.5, 0.25))
    out = develop(frame, look, rng())[0, :, :, 0]
    x0, y0, x1, y1 = crop_boxes(look, np.array([[20, 24, 36, 32]]), 64)[0]
    rows, columns = np.nonzero(out > 128)
    assert abs(rows.min() - y0) <= 1
    assert abs(rows.max() + 1 - y1) <= 1
    assert abs(columns.min() - x0) <= 1
    assert abs(columns.max() + 1 - x1) <= 1


def test_boxes_stay_in_the_picture() -> None:
    boxes = crop_boxes(Look(crop=0.74, crop_at=(1.0, 0.0)), np.array([[-3, 0, 256, 256]]), 256)
    assert boxes.min() >= 0
    assert boxes.max() <= 256


def test_video_loses_more_at_a_higher_rate_factor() -> None:
    frames = picture(6)
    errors = [np.abs(compress(frames, crf).astype(float) - frames).mean() for crf in (18, 34)]
    assert compress(frames, 28).shape == frames.shape
    assert errors[0] < errors[1] < 12
