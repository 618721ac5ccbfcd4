"""The face of a portrait: where it is found, that a drawn blink closes its eyes, and how far its mouth is open."""

from __future__ import annotations

from pathlib import Path

import av
import pytest
import torch
from torch import Tensor

from asymtalker.faces.detector import find_faces
from asymtalker.faces.landmarks import find_landmarks
from asymtalker.faces.portrait_face import openings, with_face
from asymtalker.models.draft import to_uint8
from asymtalker.models.eyelids import EYES, Eyelids
from asymtalker.models.reference import Reference, fit_portrait
from asymtalker.scripts._environment import ROOT

ASTRONAUT = ROOT / "tests" / "data" / "astronaut.jpg"
ASSETS = ROOT / "workflows" / "assets"
PICTURES = [ASTRONAUT, *(ASSETS / f"asymtalker_{name}.png" for name in ("person", "portrait", "painting"))]


def reference_of(picture: Path) -> Reference:
    with av.open(str(picture)) as container:
        pixels = torch.from_numpy(next(container.decode(video=0)).to_ndarray(format="rgb24"))
    portrait = fit_portrait(pixels[None].float() / 255, 320, 320)
    return with_face(Reference(torch.zeros(1, 48, 9, 1, 1), portrait, 33))


def eyes_of(pixels: Tensor) -> list[float]:
    """Height over width of both eyes of a picture [3, H, W] in [-1, 1], by landmarks."""
    picture = ((pixels.movedim(0, -1) + 1) * 127.5).round().clamp(0, 255).to(torch.uint8).numpy()
    points = find_landmarks(picture, find_faces(picture)[0])
    assert points is not None

    def distance(one: int, other: int) -> float:
        return float((points[one] - points[other]).norm())

    return [distance(upper[4], lower[4]) / distance(upper[0], upper[-1]) for upper, lower, _ in EYES]


@pytest.mark.parametrize("picture", PICTURES, ids=lambda path: path.stem)
def test_a_drawn_blink_is_read_as_one(picture: Path) -> None:
    reference = reference_of(picture)
    assert reference.face is not None
    eyelids = Eyelids(reference.portrait[:, :, 0], reference.face * 320)
    before, half, closed = (eyes_of(eyelids.closed(share)[0, :3]) for share in (0.0, 0.5, 1.0))
    for eye in range(2):
        assert closed[eye] < half[eye] < before[eye]
        # The landmarks follow closing lids only in part.
        assert closed[eye] < 0.9 * before[eye]


def test_landmarks_are_in_the_frame() -> None:
    face = reference_of(ASTRONAUT).face
    assert face is not None and face.shape == (468, 2) and face.dtype == torch.float32
    # The detector's eyes, in pixels of 320.
    centres = torch.stack([face[[*upper, *lower]].mean(dim=0) for upper, lower, _ in EYES]) * 320
    torch.testing.assert_close(centres, torch.tensor(((142.0, 104.0), (185.0, 105.0))), atol=3, rtol=0)


def test_a_smile_with_teeth_is_open_and_a_closed_mouth_is_not() -> None:
    for path, low, high in ((ASTRONAUT, 0.1, 0.25), (ASSETS / "asymtalker_person.png", 0.0, 0.05)):
        reference = reference_of(path)
        frame = to_uint8(reference.portrait)[0]
        generator = torch.Generator().manual_seed(0)
        noise = torch.randint(256, frame.shape, generator=generator, dtype=torch.uint8)
        seen = openings(torch.stack((frame, noise, frame)), reference)
        assert seen[1] == 0, "a frame without the face"
        assert low <= seen[0] == seen[2] <= high


def test_no_face() -> None:
    generator = torch.Generator().manual_seed(0)
    for portrait in (torch.zeros(1, 3, 1, 64, 64), torch.rand(1, 3, 1, 128, 96, generator=generator)):
        reference = Reference(torch.zeros(1, 48, 9, 1, 1), portrait, 33)
        assert with_face(reference) is reference
