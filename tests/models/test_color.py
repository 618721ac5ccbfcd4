"""Lab conversion against known colours, and what colour correction keeps and changes."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from asymtalker.models import color
from asymtalker.models.color import D65_WHITE, DELTA, RGB_TO_XYZ, lab_to_rgb, match_color, rgb_to_lab
from asymtalker.tests.models.tiny import noise

# sRGB and CIE Lab (D65, 2 degrees) as colour tables give them.
KNOWN = [
    ((1, 1, 1), (100, 0, 0)),
    ((0, 0, 0), (0, 0, 0)),
    ((1, 0, 0), (53.24, 80.09, 67.20)),
    ((0, 1, 0), (87.73, -86.18, 83.18)),
    ((0, 0, 1), (32.30, 79.19, -107.86)),
]


def lab_by_definition(rgb: Tensor) -> Tensor:
    """IEC 61966-2-1 and CIE 15 as they are written, in float64: rgb [3, N] -> Lab [3, N]."""
    rgb = rgb.double()
    linear = torch.where(rgb > 0.04045, ((rgb + 0.055) / 1.055).pow(2.4), rgb / 12.92)
    xyz = torch.tensor(RGB_TO_XYZ, dtype=torch.float64) @ linear / torch.tensor(D65_WHITE, dtype=torch.float64)[:, None]
    x, y, z = torch.where(xyz > DELTA**3, xyz.pow(1 / 3), xyz / (3 * DELTA**2) + 4 / 29)
    return torch.stack((116 * y - 16, 500 * (x - y), 200 * (y - z)))


def rgb_by_definition(lab: Tensor) -> Tensor:
    """The inverse, with f(z) held at 0 and the result clipped, as the checkpoints' pipeline does: [3, N] -> [3, N]."""
    lightness, a, b = lab.double()
    y = (lightness + 16) / 116
    f = torch.stack((y + a / 500, y, (y - b / 200).clamp_min(0)))
    xyz = torch.where(f > DELTA, f.pow(3), 3 * DELTA**2 * (f - 4 / 29))
    linear = torch.linalg.solve(
        torch.tensor(RGB_TO_XYZ, dtype=torch.float64), xyz * torch.tensor(D65_WHITE, dtype=torch.float64)[:, None]
    )
    rgb = torch.where(linear > 0.0031308, 1.055 * linear.clamp_min(0).pow(1 / 2.4) - 0.055, 12.92 * linear)
    return rgb.clamp(0, 1)


def cube() -> Tensor:
    """Colours [3, N] all over the cube, most of them dark, where the curves go over into lines."""
    steps = torch.linspace(0, 1, 24) ** 3
    return torch.cartesian_prod(steps, steps, steps).T.contiguous()


def test_lab_is_as_defined() -> None:
    found = rgb_to_lab(cube()[None])[0]
    torch.testing.assert_close(found.double(), lab_by_definition(cube()), atol=1e-4, rtol=0)


def test_rgb_is_as_defined() -> None:
    """Also out of gamut, and below black, where only the lines are left."""
    lab = rgb_to_lab(cube()[None])[0]
    for stretched in (lab, 1.4 * lab - torch.tensor([[25.0], [3.0], [-3.0]])):
        torch.testing.assert_close(
            lab_to_rgb(stretched[None])[0].double(), rgb_by_definition(stretched), atol=1e-5, rtol=0
        )


def test_correction_is_as_defined() -> None:
    frames, portrait = 0.7 * noise(1, 3, 3, 16, 24).tanh(), 0.6 * noise(1, 3, 1, 24, 16, seed=1).tanh() - 0.2
    target = lab_by_definition((portrait[0].flatten(1) + 1) / 2)
    for frame, found in zip(frames[0].unbind(1), match_color(frames, portrait, 1.0)[0].unbind(1), strict=True):
        lab = lab_by_definition((frame.flatten(1) + 1) / 2)
        gain = target.std(dim=1, keepdim=True) / lab.std(dim=1, keepdim=True)
        matched = (lab - lab.mean(dim=1, keepdim=True)) * gain + target.mean(dim=1, keepdim=True)
        torch.testing.assert_close(found.flatten(1).double(), rgb_by_definition(matched) * 2 - 1, atol=1e-5, rtol=0)


@pytest.mark.parametrize(("rgb", "lab"), KNOWN)
def test_known_colours(rgb: tuple[float, ...], lab: tuple[float, ...]) -> None:
    found = rgb_to_lab(torch.tensor(rgb, dtype=torch.float32).view(1, 3, 1, 1, 1)).flatten()
    torch.testing.assert_close(found, torch.tensor(lab, dtype=torch.float32), atol=0.02, rtol=0)


def test_what_decoders_overshoot_is_no_brighter_than_white() -> None:
    white, black, red = ((1.2, 1.3, 1.1), (-0.2, -0.1, -0.3), (1.05, -0.01, 0.2))
    lab = rgb_to_lab(torch.tensor([white, black, red]).T[None, :, :, None])[0, :, :, 0].T
    torch.testing.assert_close(lab[:2, 0], torch.tensor([100.0, 0.0]), atol=0.02, rtol=0)
    # One channel alone may overshoot: it counts as much as its curve says.
    clipped = rgb_to_lab(torch.tensor([1.0, 0.0, 0.2])[None, :, None, None])[0, :, 0, 0]
    assert lab[2, 0] > clipped[0] + 1 and lab[2, 1] > clipped[1] + 1


@pytest.mark.parametrize("values", [(0.0, 1.0), (0.2, 0.7)])
def test_colours_in_the_range_are_not_clipped(monkeypatch: pytest.MonkeyPatch, values: tuple[float, float]) -> None:
    """Not even by a rounding: what was generated before the clipping came stays bit-identical."""
    rgb = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0)).mul(2).sub(0.5).clamp(*values)
    clipped = rgb_to_lab(rgb)
    monkeypatch.setattr(color, "DARKEST", -1.0)
    monkeypatch.setattr(color, "BRIGHTEST", 2.0)
    assert torch.equal(rgb_to_lab(rgb), clipped)


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


@pytest.mark.parametrize("size", [(16, 16), (48, 80), (256, 256)])
def test_a_flat_frame_becomes_the_portraits_mean(size: tuple[int, int]) -> None:
    """Rounding is all that a flat frame has of contrast, and is not scaled up."""
    portrait = 0.3 * noise(1, 3, 1, 8, 8).tanh()
    flat = torch.tensor([0.3, -0.41, 0.77]).view(1, 3, 1, 1, 1).expand(1, 3, 2, *size)
    mean = lab_by_definition((portrait[0].flatten(1) + 1) / 2).mean(dim=1, keepdim=True)
    expected = (rgb_by_definition(mean) * 2 - 1).view(1, 3, 1, 1, 1).expand(flat.shape)
    torch.testing.assert_close(match_color(flat, portrait, 1.0).double(), expected, atol=5e-6, rtol=0)


@pytest.mark.parametrize("strength", [0.0, 0.5, 1.0])
def test_in_place_gives_the_same(strength: float) -> None:
    frames, portrait = noise(1, 3, 4, 16, 24).tanh(), noise(1, 3, 1, 8, 8, seed=1).tanh()
    expected = match_color(frames, portrait, strength)
    given = frames.clone()
    assert match_color(given, portrait, strength, in_place=True) is given
    assert torch.equal(given, expected)


@pytest.mark.parametrize("strength", [1.0, 0.4])
def test_a_part_is_corrected_as_in_the_whole(strength: float) -> None:
    smooth = torch.nn.functional.interpolate(noise(1, 3, 1, 5, 6), (1, 160, 192), mode="trilinear").tanh()
    portrait, window = noise(1, 3, 1, 20, 20, seed=1).tanh(), (..., slice(8, 90), slice(10, 140))
    whole = match_color(smooth, portrait, strength)[window]
    given = smooth[window].expand(-1, -1, 3, -1, -1).clone()
    part = match_color(given, portrait, strength, in_place=True, measured=smooth[..., ::2, ::2])
    assert part is given
    assert (part - whole).abs().mean() < 0.03 * (smooth[window] - whole).abs().mean()


def test_a_part_of_a_flat_frame_becomes_the_portraits_mean() -> None:
    flat, portrait = torch.full((1, 3, 1, 32, 32), 0.3), noise(1, 3, 1, 16, 16).tanh()
    part = match_color(flat[..., 4:20, :], portrait, 1.0, measured=flat)
    torch.testing.assert_close(part, match_color(flat, portrait, 1.0)[..., 4:20, :])
