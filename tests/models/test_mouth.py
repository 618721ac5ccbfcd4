"""Where the mouth is in a portrait's latents."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from asymtalker.models.face_mesh import LANDMARKS
from asymtalker.models.landmarks import LIPS
from asymtalker.models.mouth import mouth_in_latents
from asymtalker.models.reference import Reference, Shift


def reference(x: float, y: float, shift: Shift = (0, 0), size: tuple[int, int] = (256, 256)) -> Reference:
    """A face whose lips are a small circle around (x, y), in 0..1 of the frame."""
    angle = torch.arange(len(LIPS)) * 2 * torch.pi / len(LIPS)
    face = torch.zeros(LANDMARKS, 2)
    face[list(LIPS)] = torch.stack((angle.cos(), angle.sin()), dim=-1) * 0.04 + torch.tensor((x, y))
    width, height = size
    portrait = torch.zeros(1, 3, 1, height, width)
    return Reference(torch.zeros(1, 48, 9, height // 16, width // 16), portrait, 33, face, shift)


def middle(mask: Tensor) -> tuple[float, float]:
    """(x, y) in 0..1 of where a mask [1, 1, 1, h, w] is."""
    weights = mask[0, 0, 0] / mask.sum()
    rows, columns = ((torch.arange(length) + 0.5) / length for length in weights.shape)
    return float((weights.sum(0) * columns).sum()), float((weights.sum(1) * rows).sum())


@pytest.mark.parametrize("size", [(256, 256), (256, 384), (512, 320)])
@pytest.mark.parametrize("shift", [(0, 0), (-12, 6)])
def test_it_is_where_the_lips_are(size: tuple[int, int], shift: Shift) -> None:
    mask = mouth_in_latents(reference(0.4, 0.6, shift, size))
    assert mask is not None and mask.shape == (1, 1, 1, size[1] // 16, size[0] // 16)
    assert mask.max() == 1 and mask.min() == 0 and 0.02 < mask.mean() < 0.25
    expected = 0.4 + shift[0] / size[0], 0.6 + shift[1] / size[1]
    assert middle(mask) == pytest.approx(expected, abs=0.02)


def test_no_face() -> None:
    assert mouth_in_latents(Reference(torch.zeros(1, 48, 9, 2, 2), torch.zeros(1, 3, 1, 32, 32), 33)) is None
