"""Figures of the mouth's predicted motion."""

import pytest
import torch

from asymtalker.training.evaluation.mouth import mouth_figures


def test_figures_of_known_predictions() -> None:
    generator = torch.Generator().manual_seed(0)
    reference, truth = (torch.randn(1, 3, 5, 4, 4, generator=generator) for _ in range(2))
    weight = torch.zeros(1, 1, 5, 4, 4)
    weight[:, :, 1:, 2:, 1:3] = 1

    perfect = mouth_figures(truth, truth, reference, weight)
    assert (perfect.error, perfect.motion_error) == (0, 0) and perfect.gain == pytest.approx(1)

    still = mouth_figures(reference, truth, reference, weight)
    assert (still.error, still.motion_error, still.gain) == (pytest.approx(1), pytest.approx(1), 0)

    half = mouth_figures(reference + (truth - reference) / 2, truth, reference, weight)
    assert (half.error, half.motion_error, half.gain) == pytest.approx((0.25, 0.25, 0.5), abs=1e-6)

    elsewhere = torch.where(weight == 1, truth, reference + 9)
    assert mouth_figures(elsewhere, truth, reference, weight) == perfect
