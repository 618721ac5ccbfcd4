"""Colours between the lips become those of a mouth, lips stay in the portrait's range, and nothing else changes."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from asymtalker.models.landmarks import (
    LOWER_INNER_LIP,
    LOWER_OUTER_LIP,
    RIGHT_LOWER_LID,
    RIGHT_UPPER_LID,
    UPPER_INNER_LIP,
    UPPER_OUTER_LIP,
)
from asymtalker.models.mouth_colors import MouthColors, white_of
from asymtalker.models.pictures import filled, pixel_places
from asymtalker.tests.models.test_skin import SIZE

SKIN = (0.5, 0.1, -0.1)


@pytest.fixture
def points() -> Tensor:
    """Landmarks of wide eyes and a round mouth; all others are cheeks."""
    face = torch.full((468, 2), 150.0)
    across = torch.linspace(0, 1, 11)
    arch = 20 * (4 * across * (1 - across))
    for lip, side in ((UPPER_INNER_LIP, -1), (LOWER_INNER_LIP, 1)):
        face[list(lip)] = torch.stack((120 + 80 * across, 220 + side * arch), dim=-1)
    for lip, side in ((UPPER_OUTER_LIP, -1), (LOWER_OUTER_LIP, 1)):
        face[list(lip)] = torch.stack((115 + 90 * across, 220 + side * 1.5 * arch), dim=-1)
    for lid, side in ((RIGHT_UPPER_LID, -1), (RIGHT_LOWER_LID, 1)):
        across = torch.linspace(0, 1, 9)
        face[list(lid)] = torch.stack((90 + 40 * across, 100 + side * 30 * across * (1 - across)), dim=-1)
    return face


@pytest.fixture
def portrait() -> Tensor:
    return torch.tensor(SKIN).view(1, 3, 1, 1).expand(1, 3, SIZE, SIZE).clone()


def shown(portrait: Tensor, points: Tensor, frame: Tensor, strength: float = 1.0) -> Tensor:
    result = frame.clone()
    MouthColors(portrait, points).apply(result, points[None], torch.tensor([strength]))
    return result


def mouth(points: Tensor) -> Tensor:
    contour = torch.cat((points[list(UPPER_INNER_LIP)], points[list(LOWER_INNER_LIP)].flip(0)))
    return filled(contour, pixel_places(SIZE, SIZE))[0, 0] > 0


def test_colours_become_those_of_a_mouth(portrait: Tensor, points: Tensor) -> None:
    frame = portrait.clone()
    inside = mouth(points)
    frame[..., inside] = -1.0
    teeth = slice(204, 214), slice(150, 170)
    frame[(..., *teeth)] = torch.tensor((0.6, 0.9, 1.0)).view(3, 1, 1)
    result = shown(portrait, points, frame)
    red, green, blue = result[0, :, 208, 160].tolist()
    assert red > green > blue and red > 0.3, "teeth are not blue"
    red, green, blue = result[0, :, 228, 160].tolist()
    assert -0.9 < red < -0.4 and red > green + 0.05 and red > blue + 0.05, "a throat is not black"
    outside = torch.nn.functional.max_pool2d(inside.float()[None], 61, 1, 30)[0] == 0
    assert torch.equal(result[..., outside], frame[..., outside])
    assert torch.equal(shown(portrait, points, frame, 0.0), frame)


def test_what_is_brighter_stays_brighter(portrait: Tensor, points: Tensor) -> None:
    portrait[..., 200:260, 110:140], portrait[..., 200:260, 140:210] = -1.0, 1.0
    frame = portrait.clone()
    frame[..., 120:200] = torch.linspace(-1, 1, 80)
    row = shown(portrait, points, frame)[0, :, 220, 126:194].mean(dim=0)
    assert (row.diff() >= 0).all() and row[-1] - row[0] > 0.5


def test_lips_stay_in_the_portraits_range(portrait: Tensor, points: Tensor) -> None:
    lip, darkest = (slice(243, 250), slice(130, 190)), (0.3, -0.3, -0.3)
    portrait[(..., *lip)] = torch.tensor(darkest).view(3, 1, 1)
    for color in (-1.0, 1.0):
        frame = portrait.clone()
        frame[(..., *lip)] = color
        changed = shown(portrait, points, frame)[0, :, 248, 160].tolist()
        limits = zip(changed, darkest, SKIN, strict=True)
        assert all(low - 0.01 <= value <= high + 0.01 for value, low, high in limits)
    assert torch.equal(shown(portrait, points, portrait)[(..., *lip)], portrait[(..., *lip)])


def test_lips_do_not_turn_blue(portrait: Tensor, points: Tensor) -> None:
    """Though their red, green and blue are each found somewhere around them."""
    lip, dark, bright = ((slice(top, top + 7), slice(130, 190)) for top in (243, 251, 185))
    for place, color in ((dark, -0.4), (bright, 0.9)):
        portrait[(..., *place)] = torch.tensor((color, color - 0.2, color - 0.3)).view(3, 1, 1)
    frame = portrait.clone()
    frame[(..., *lip)] = torch.tensor((0.1, 0.2, 0.5)).view(3, 1, 1)
    red, green, blue = shown(portrait, points, frame)[0, :, 246, 160].tolist()
    assert red - blue > 0.2
    assert 0.299 * red + 0.587 * green + 0.114 * blue == pytest.approx(0.204, abs=0.02), "as bright as before"


def test_closed_lips_stay_as_they_are(portrait: Tensor, points: Tensor) -> None:
    points[list(UPPER_INNER_LIP)] = points[list(LOWER_INNER_LIP)]
    frame = portrait - 0.002
    torch.testing.assert_close(shown(portrait, points, frame), portrait, atol=0.003, rtol=0)


def test_a_turned_mouth_is_found(portrait: Tensor, points: Tensor) -> None:
    angle = torch.tensor(0.5)
    turn = torch.stack((torch.stack((angle.cos(), -angle.sin())), torch.stack((angle.sin(), angle.cos()))))
    turned = (points - 160) @ turn.T + 160
    frame = portrait.clone()
    frame[..., mouth(turned)] = -1.0
    result = shown(portrait, turned, frame)
    assert ((result - frame)[0, 0, mouth(turned)] > 0.05).float().mean() > 0.8


def test_white_is_that_of_the_eyes(portrait: Tensor, points: Tensor) -> None:
    luma = torch.tensor((0.299, 0.587, 0.114))
    cheeks = 1.25 * float(luma @ (torch.tensor(SKIN) + 1) / 2)
    assert float(luma @ white_of(portrait[0], points)) == pytest.approx(cheeks, abs=0.02)
    for brightness, expected in ((0.95, 0.975), (-1.0, cheeks)):
        portrait[..., 90:110, 90:130] = brightness
        assert float(luma @ white_of(portrait[0], points)) == pytest.approx(expected, abs=0.02)
