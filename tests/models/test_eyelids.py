"""Drawn lids: they close the eye, take their skin from above it, and leave everything else as it was."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from asymtalker.models.eyelids import EyeContours, Eyelids

SIZE = 256
BRIGHT, LASHES, SKIN = 1.0, -1.0, 0.2
"""Values of the drawn face: the eyes' white, the edge of the upper lid, and everything else."""


def contours(turned: float = 0.0, opening: float = 20.0) -> EyeContours:
    """Two eyes of 60 pixels, open by ``opening``, in a head that is ``turned`` by radians."""
    across = torch.linspace(-30, 30, 9)
    arc = (1 - (across / 30) ** 2) * opening / 2
    lines = [torch.stack((across, height), dim=-1) for height in (-arc, arc, torch.full((9,), -30.0))]
    lines[2] = lines[2][::2]
    cosine, sine = math.cos(turned), math.sin(turned)
    turn = torch.tensor(((cosine, sine), (-sine, cosine)))
    eyes = [[((line + torch.tensor((x, 0.0))) @ turn + 128) / SIZE for line in lines] for x in (-50.0, 50.0)]
    return EyeContours(*(torch.stack(pair) for pair in zip(*eyes, strict=True)))


def face(turned: float = 0.0) -> Tensor:
    """Skin, two bright eyes, and dark lashes at the upper lids: [1, 3, 256, 256]."""
    at = (torch.arange(SIZE) + 0.5 - 128).expand(SIZE, SIZE)
    x = at * math.cos(turned) + at.T * math.sin(turned)
    y = at.T * math.cos(turned) - at * math.sin(turned)
    picture = torch.full((SIZE, SIZE), SKIN)
    for centre in (-50, 50):
        edge = (1 - ((x - centre) / 30) ** 2).clamp_min(0) * 10
        picture[(y.abs() < edge)] = BRIGHT
        picture[((x - centre).abs() < 30) & ((y + edge).abs() < 1.5)] = LASHES
    return picture.expand(1, 3, -1, -1).clone()


def share_of(picture: Tensor, value: float) -> float:
    return (picture[:, :3] - value).abs().lt(0.1).float().mean().item()


@pytest.mark.parametrize("turned", [0.0, 0.35, -0.6])
def test_closed_lids_cover_the_eyes(turned: float) -> None:
    picture = face(turned)
    eyelids = Eyelids(picture, contours(turned))
    seen = [share_of(eyelids.closed(share), BRIGHT) for share in (0.0, 0.35, 0.6, 1.0)]
    assert seen[0] == pytest.approx(share_of(picture, BRIGHT), rel=0.02)
    assert seen == sorted(seen, reverse=True)
    assert seen[3] < 0.12 * seen[0]
    assert share_of(eyelids.closed(1.0), LASHES) > 0.35 * share_of(picture, LASHES)


def test_open_lids_are_the_portrait() -> None:
    picture = face()
    torch.testing.assert_close(Eyelids(picture, contours()).closed(0.0)[:, :3], picture, atol=1e-4, rtol=0)


def test_only_the_skin_above_the_lower_lid_changes() -> None:
    picture = face()
    closed = Eyelids(picture, contours()).closed(1.0)
    changed = (closed[:, :3] - picture).abs().amax(1)[0] > 1e-3
    rows = changed.any(dim=1).nonzero()
    assert rows.min() > 128 - 30 and rows.max() <= 128 + 10
    assert not changed[:, 124:132].any(), "the nose"
    assert not changed[closed[0, 3] == 0].any(), "what is drawn is in the mask"
    assert closed[0, 3].max() == 1


def test_an_eye_that_is_closed_already_stays_as_it_is() -> None:
    picture = face()
    closed = Eyelids(picture, contours(opening=2.0)).closed(1.0)
    assert torch.equal(closed[:, :3], picture) and not closed[:, 3].any()


def test_contours_are_one_tensor() -> None:
    eyes = contours()
    assert eyes.tensor().shape == (2, 9 + 9 + 5, 2)
    assert torch.equal(eyes.to(torch.device("cpu")).tensor(), eyes.tensor())
