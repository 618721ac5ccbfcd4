"""Drawn lids: they close the eye, take their skin from above it, and leave everything else as it was."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from asymtalker.models.eyelids import EYES, Eyelids
from asymtalker.models.face_mesh import LANDMARKS

SIZE = 256
BRIGHT, LASHES, SKIN = 1.0, -1.0, 0.2
"""Values of the drawn face: the eyes' white, the edge of the upper lid, and everything else."""


def points(turned: float = 0.0, opening: float = 20.0) -> Tensor:
    """Landmarks with two eyes of 60 pixels, open by ``opening``, in a head that is ``turned`` by radians."""
    cosine, sine = math.cos(turned), math.sin(turned)
    turn = torch.tensor(((cosine, sine), (-sine, cosine)))
    found = torch.zeros(LANDMARKS, 2)
    for (upper, lower, brow), x, outwards in zip(EYES, (-50.0, 50.0), (-1, 1), strict=True):
        # From the outer corner to the inner one.
        across = torch.linspace(30, -30, 9) * outwards
        arc = (1 - (across / 30) ** 2) * opening / 2
        for line, down in ((upper, -arc), (lower, arc)):
            found[list(line)] = torch.stack((across + x, down), dim=-1)
        found[list(brow)] = torch.stack((across[::2] + x, torch.full((5,), -30.0)), dim=-1)
    return found @ turn + 128


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
    eyelids = Eyelids(picture, points(turned))
    seen = [share_of(eyelids.closed(share), BRIGHT) for share in (0.0, 0.35, 0.6, 1.0)]
    assert seen[0] == pytest.approx(share_of(picture, BRIGHT), rel=0.02)
    assert seen == sorted(seen, reverse=True)
    assert seen[3] < 0.12 * seen[0]
    assert share_of(eyelids.closed(1.0), LASHES) > 0.35 * share_of(picture, LASHES)


def test_open_lids_are_the_portrait() -> None:
    picture = face()
    torch.testing.assert_close(Eyelids(picture, points()).closed(0.0)[:, :3], picture, atol=1e-4, rtol=0)


def test_only_the_skin_above_the_lower_lid_changes() -> None:
    picture = face()
    closed = Eyelids(picture, points()).closed(1.0)
    changed = (closed[:, :3] - picture).abs().amax(1)[0] > 1e-3
    rows = changed.any(dim=1).nonzero()
    assert rows.min() > 128 - 30 and rows.max() <= 128 + 10
    assert not changed[:, 124:132].any(), "the nose"
    assert not changed[closed[0, 3] == 0].any(), "what is drawn is in the mask"
    assert closed[0, 3].max() == 1


def test_an_eye_that_is_closed_already_stays_as_it_is() -> None:
    picture = face()
    closed = Eyelids(picture, points(opening=2.0)).closed(1.0)
    assert torch.equal(closed[:, :3], picture) and not closed[:, 3].any()


def test_eyes_in_profile_or_in_one_point_stay_open() -> None:
    picture = face()
    for flat in (torch.zeros(LANDMARKS, 2), points() * torch.tensor((0.04, 1.0)), points() * 1e-4):
        closed = Eyelids(picture, flat).closed(1.0)
        assert torch.equal(closed[:, :3], picture) and not closed[:, 3].any()


def test_eyes_beyond_the_frame_draw_nothing_wrong() -> None:
    picture = face()
    for moved in (points() + 400, points() - 90, points() * 3):
        assert Eyelids(picture, moved).closed(1.0).isfinite().all()
