"""The eyes of a portrait: where they are found, and that a drawn blink closes them."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest
import torch
from torch import Tensor

from asymtalker.faces import landmarks
from asymtalker.faces.detector import find_faces
from asymtalker.faces.eyes import with_eyes
from asymtalker.models.eyelids import Eyelids
from asymtalker.models.reference import Reference, fit_portrait
from asymtalker.scripts._environment import ROOT

ASTRONAUT = ROOT / "tests" / "data" / "astronaut.jpg"
ASSETS = ROOT / "workflows" / "assets"
PICTURES = [ASTRONAUT, *(ASSETS / f"asymtalker_{name}.png" for name in ("person", "portrait", "painting"))]


def reference_of(picture: Path) -> Reference:
    with av.open(str(picture)) as container:
        pixels = torch.from_numpy(next(container.decode(video=0)).to_ndarray(format="rgb24"))
    portrait = fit_portrait(pixels[None].float() / 255, 320, 320)
    return with_eyes(Reference(torch.zeros(1, 48, 9, 1, 1), portrait, 33))


def openings(pixels: Tensor) -> list[float]:
    """Height over width of both eyes of a picture [3, H, W] in [-1, 1], by landmarks."""
    picture = ((pixels.movedim(0, -1) + 1) * 127.5).round().clamp(0, 255).to(torch.uint8).numpy()
    points = landmarks.find_landmarks(picture, find_faces(picture)[0])
    assert points is not None
    eyes = (
        (landmarks.RIGHT_UPPER_LID, landmarks.RIGHT_LOWER_LID),
        (landmarks.LEFT_UPPER_LID, landmarks.LEFT_LOWER_LID),
    )

    def distance(one: int, other: int) -> float:
        return float(np.linalg.norm(points[one] - points[other]))

    return [distance(upper[4], lower[4]) / distance(upper[0], upper[-1]) for upper, lower in eyes]


@pytest.mark.parametrize("picture", PICTURES, ids=lambda path: path.stem)
def test_a_drawn_blink_is_read_as_one(picture: Path) -> None:
    reference = reference_of(picture)
    assert reference.eyes is not None
    eyelids = Eyelids(reference.portrait[:, :, 0], reference.eyes)
    before, half, closed = (openings(eyelids.closed(share)[0, :3]) for share in (0.0, 0.5, 1.0))
    for eye in range(2):
        assert closed[eye] < half[eye] < before[eye]
        # The landmarks follow closing lids only in part.
        assert closed[eye] < 0.9 * before[eye]


def test_eyes_are_in_the_frame() -> None:
    eyes = reference_of(ASTRONAUT).eyes
    assert eyes is not None and eyes.tensor().shape == (2, 23, 2)
    # The detector's eyes, in pixels of 320.
    centres = (eyes.upper + eyes.lower).mean(dim=1) / 2 * 320
    torch.testing.assert_close(centres, torch.tensor(((142.0, 104.0), (185.0, 105.0))), atol=3, rtol=0)


def test_no_face_has_no_eyes() -> None:
    generator = torch.Generator().manual_seed(0)
    for portrait in (torch.zeros(1, 3, 1, 64, 64), torch.rand(1, 3, 1, 128, 96, generator=generator)):
        reference = Reference(torch.zeros(1, 48, 9, 1, 1), portrait, 33)
        assert with_eyes(reference) is reference
