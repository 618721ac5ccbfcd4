"""Lab conversion against known colours, and what colour correction keeps and changes."""

from __future__ import annotations

import pytest
import torch

from models.color import lab_to_rgb, match_color, rgb_to_lab
from tests.models.tiny import noise

# sRGB and CIE Lab (D65, 2 degrees) as colour tables give them.
KNOWN = [
    ((1, 1, 1), (100, 0, 0)),
    ((0, 0, 0), (0, 0, 0)),
    ((1, 0, 0), (53.24, 80.09, 67.20)),
    ((0, 1, 0), (87.73, -86.18, 83.18)),
    ((0, 0, 1), (32.30, 79.19, -107.86)),
]


@pytest.mark.parametrize(("rgb", "lab"), KNOWN)
def test_known_colours(rgb: tuple[float, ...], lab: tuple[float, ...]) -> None:
    found = rgb_to_lab(torch.tensor(rgb, dtype=torch.float32).view(1, 3, 1, 1, 1)).flatten()
    torch.testing.assert_close(found, torch.tensor(lab, dtype=torch.float32), atol=0.02, rtol=0)


def test_round_trip() -> None:
    rgb = torch.rand((2, 3, 2, 8, 8), generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(lab_to_rgb(rgb_to_lab(rgb)), rgb, atol=1e-4, rtol=0)


def test_strength_zero_changes_nothing() -> None:
    frames = noise(1, 3, 2, 8, 8).tanh()
    assert torch.equal(match_color(frames, noise(1, 3, 1, 8, 8, seed=1).tanh(), 0.0), frames)


def test_the_portrait_itself_is_kept() -> None:
    portrait = 0.8 * noise(1, 3, 1, 16, 16).tanh()
    torch.testing.assert_close(
        match_color(portrait.expand(-1, -1, 3, -1, -1), portrait, 1.0)[:, :, 2:], portrait, atol=1e-3, rtol=0
    )


def test_statistics_become_the_portraits() -> None:
    """Mild colours, so that nothing is clipped; sizes may differ."""
    frames, portrait = 0.1 * noise(1, 3, 3, 16, 16).tanh() + 0.2, 0.15 * noise(1, 3, 1, 8, 12, seed=1).tanh() - 0.1
    matched = rgb_to_lab((match_color(frames, portrait, 1.0) + 1) / 2)
    target = rgb_to_lab((portrait + 1) / 2)
    for frame in range(3):
        for statistic in (torch.mean, torch.std):
            found = statistic(matched[:, :, frame], dim=(-2, -1))
            torch.testing.assert_close(found, statistic(target[:, :, 0], dim=(-2, -1)), atol=0.02, rtol=0)


def test_strength_blends() -> None:
    frames, portrait = 0.3 * noise(1, 3, 2, 8, 8).tanh(), 0.3 * noise(1, 3, 1, 8, 8, seed=1).tanh()
    half, full = (match_color(frames, portrait, strength) for strength in (0.5, 1.0))
    torch.testing.assert_close(half, (frames + full) / 2)


def test_a_flat_frame_stays_finite() -> None:
    assert torch.isfinite(match_color(torch.zeros(1, 3, 1, 8, 8), noise(1, 3, 1, 8, 8).tanh(), 1.0)).all()
