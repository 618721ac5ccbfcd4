"""Figures on drift and the limits of a collapsed chunk, on pictures whose figures are known."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from asymtalker.models.drift import NOT_FINITE, ChunkFigures, DriftMeter, collapse, color_distance, sample_of, seam
from asymtalker.models.reference import Reference
from asymtalker.tests.models.tiny import noise

PORTRAIT = noise(1, 3, 1, 32, 32, seed=1).mul(0.2)
LATENTS = noise(1, 4, 3, 2, 2, seed=2)
REFERENCE = Reference(LATENTS, PORTRAIT, 9)
STILL = PORTRAIT.expand(-1, -1, 9, -1, -1)


def measure(latents: Tensor, pixels: Tensor, reference: Reference = REFERENCE) -> ChunkFigures:
    meter = DriftMeter(reference)
    decoded = meter.decoded(latents, sample_of(pixels))
    return ChunkFigures(*decoded.tolist(), *meter.corrected(pixels, pixels).tolist())


def problem(latents: Tensor, pixels: Tensor, reference: Reference = REFERENCE) -> str | None:
    return collapse(measure(latents, pixels, reference), DriftMeter(reference).portrait_contrast)


def changed(tensor: Tensor, value: float) -> Tensor:
    copy = tensor.clone()
    copy[:, :, -1] = value
    return copy


def test_a_still_portrait_has_not_drifted() -> None:
    assert problem(LATENTS, STILL) is None
    assert color_distance(STILL, PORTRAIT) == 0
    unmoved = {"color_distance": 0, "reference_distance": 0, "sharpness": 1, "motion": 0}
    assert measure(LATENTS, STILL).statistics() == unmoved


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_values_that_are_not_finite_are_a_collapse(value: float) -> None:
    assert problem(changed(LATENTS, value), STILL) == NOT_FINITE
    assert problem(LATENTS, changed(STILL, value)) == NOT_FINITE


@pytest.mark.parametrize("value", [-1.0, 0.3])
def test_one_frame_without_contrast_is_a_collapse(value: float) -> None:
    assert "without contrast" in (problem(LATENTS, changed(STILL, value)) or "")


def test_a_flat_portrait_may_have_flat_frames() -> None:
    flat = torch.zeros(1, 3, 1, 32, 32)
    assert problem(LATENTS, flat.expand(-1, -1, 9, -1, -1), Reference(LATENTS, flat, 9)) is None


def test_latents_off_the_scale_are_a_collapse() -> None:
    assert problem(noise(1, 4, 3, 2, 2, seed=3), STILL) is None
    assert "far from the portrait" in (problem(20 * LATENTS, STILL) or "")


def test_color_distance_of_greys() -> None:
    """sRGB 0.5 is L* 53.39, 0.6 is L* 63.22 (CIE 15)."""
    greys = [torch.full((1, 3, frames, 8, 8), 2 * grey - 1) for grey, frames in ((0.6, 9), (0.5, 1))]
    assert color_distance(*greys) == pytest.approx(63.22 - 53.39, abs=0.02)


def test_blur_lowers_sharpness() -> None:
    blurred = torch.nn.functional.avg_pool2d(PORTRAIT[:, :, 0], 3, stride=1, padding=1)[:, :, None]
    stats = measure(LATENTS, blurred.expand(-1, -1, 9, -1, -1)).statistics()
    assert stats["sharpness"] < 0.2


def test_seam_of_steady_motion_is_one() -> None:
    ramp = torch.linspace(-0.9, 0.9, 10)[None, None, :, None, None]
    pixels = ramp + noise(1, 3, 1, 32, 32).clamp(-1, 1) * 0.05
    frames = ((pixels[0] + 1) * 127.5).round().to(torch.uint8).permute(1, 2, 3, 0)
    motion = measure(LATENTS, pixels[:, :, 1:]).motion
    assert motion == pytest.approx(0.1, abs=1e-4)
    assert seam(frames[0], frames[1], motion) == pytest.approx(1, abs=0.01)
    assert seam(frames[0], frames[4], motion) == pytest.approx(4, abs=0.04)
