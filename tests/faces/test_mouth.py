"""How far a mouth is open, by landmarks."""

from __future__ import annotations

import av
import numpy as np
import pytest
import torch

from asymtalker.faces.mouth import face_of, openings
from asymtalker.scripts._environment import ROOT

ASTRONAUT = ROOT / "tests" / "data" / "astronaut.jpg"
EXAMPLE = ROOT / "workflows" / "assets" / "asymtalker_person.png"


def test_a_smile_with_teeth_is_open_and_a_closed_mouth_is_not() -> None:
    for path, low, high in ((ASTRONAUT, 0.1, 0.25), (EXAMPLE, 0.0, 0.05)):
        with av.open(str(path)) as container:
            picture = next(container.decode(video=0)).to_ndarray(format="rgb24")
        portrait = torch.from_numpy(picture).movedim(-1, 0)[None, :, None] / 127.5 - 1
        face = face_of(portrait)
        assert face is not None
        noise = np.random.default_rng(0).integers(0, 256, picture.shape, np.uint8)
        seen = openings((picture, noise, picture), face)
        assert len(seen) == 2, "a frame without the face is left out"
        assert seen[0] == seen[1] == pytest.approx(seen[0]) and low <= seen[0] <= high


def test_no_face() -> None:
    assert face_of(torch.zeros(1, 3, 1, 64, 64)) is None
