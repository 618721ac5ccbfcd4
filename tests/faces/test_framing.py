"""Which part of a portrait the video shows, what is said about the face, and the preview of the Reference node."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import av
import pytest
import torch

from asymtalker.tests.helpers import ROOT, Import

SIZE, SHARE = 256, 0.5


def read(path: Path) -> torch.Tensor:
    """IMAGE [1, H, W, 3]."""
    with av.open(str(path)) as container:
        picture = next(container.decode(video=0)).to_ndarray(format="rgb24")
    return torch.from_numpy(picture)[None] / 255.0


@pytest.fixture(scope="module")
def portrait() -> torch.Tensor:
    return read(ROOT / "workflows" / "assets" / "asymtalker_portrait.png")


@pytest.fixture(scope="module")
def wall() -> torch.Tensor:
    """A room with a painted face, right of the middle."""
    return read(ROOT / "workflows" / "assets" / "asymtalker_painting.png")[:, :, :900]


def test_a_portrait_that_is_framed_already_stays_as_it_is(pack: Import, portrait: torch.Tensor) -> None:
    shown, (note,) = pack("faces.framing").framed(portrait, SIZE, SIZE, SHARE, "face")
    assert shown is portrait and note == "the face is well framed: the middle of the picture is used"


@pytest.mark.parametrize("share", [0.5, 0.61])
def test_a_face_in_a_larger_picture_is_framed(pack: Import, wall: torch.Tensor, share: float) -> None:
    framing, detector = pack("faces.framing"), pack("faces.detector")
    shown, (note,) = framing.framed(wall, SIZE, SIZE, share, "face")
    assert shown.shape[1] == shown.shape[2] < 520 and note.startswith("framed the face: ")
    (face,) = detector.find_faces(framing.to_picture(shown))
    assert face.height / shown.shape[1] == pytest.approx(share, abs=0.06)
    assert (face.x + face.width / 2) / shown.shape[2] == pytest.approx(0.5, abs=0.06)


def test_the_frame_has_the_video_s_shape(pack: Import, wall: torch.Tensor) -> None:
    shown, _ = pack("faces.framing").framed(wall, 384, 256, SHARE, "face")
    assert shown.shape[2] / shown.shape[1] == pytest.approx(1.5, abs=0.01)


def test_the_middle_is_used_where_it_was_asked_for_and_where_there_is_no_face(pack: Import, wall: torch.Tensor) -> None:
    framed = pack("faces.framing").framed
    assert framed(wall, SIZE, SIZE, SHARE, "centre")[0] is wall
    nobody = torch.full((1, 200, 8000, 3), 0.3)
    shown, (note,) = framed(nobody, SIZE, SIZE, SHARE, "face")
    assert shown is nobody
    assert note.startswith("no face was detected") and note.endswith("the middle of the picture is used")


def test_small_and_missing_faces_are_told_with_their_remedy(pack: Import, portrait: torch.Tensor) -> None:
    framed = pack("faces.framing").framed
    small = torch.full((1, 1600, 1600, 3), 0.4)
    small[:, 500:1012, 500:1012] = portrait
    assert framed(small, SIZE, SIZE, SHARE, "centre")[1] == ["the face is small, 18% of the frame: set framing to face"]
    aside = torch.full((1, 512, 2400, 3), 0.4)
    aside[:, :, :512] = portrait
    assert framed(aside, SIZE, SIZE, SHARE, "centre")[1] == ["the face is outside the frame: set framing to face"]
    shown, notes = framed(aside, SIZE, SIZE, SHARE, "face")
    assert shown.shape[1] >= 0.8 * 512 and len(notes) == 1


@pytest.mark.parametrize(("nose_x", "is_told"), [(50.0, False), (30.0, True), (72.0, True)])
def test_a_turned_face_is_told(pack: Import, monkeypatch: pytest.MonkeyPatch, nose_x: float, is_told: bool) -> None:
    framing = pack("faces.framing")
    landmarks = ((30.0, 40.0), (70.0, 40.0), (nose_x, 60.0), (35.0, 80.0), (65.0, 80.0))
    face = pack("faces.detector").Face(20.0, 20.0, 60.0, 70.0, 0.9, landmarks)
    monkeypatch.setattr(framing, "find_faces", lambda picture: [face])
    _, notes = framing.framed(torch.zeros(1, 100, 100, 3), SIZE, SIZE, SHARE, "face")
    assert any("turned to the side" in note for note in notes) is is_told


def test_the_size_is_the_model_s_where_it_is_unset(pack: Import, scene: SimpleNamespace) -> None:
    host = pack("host.portrait")
    reference = host.encode_reference(scene.model, scene.vae, torch.rand(1, 80, 100, 3), 0, 0, "temporal", None)
    assert reference.size == (SIZE, SIZE)
    half = host.encode_reference(scene.model, scene.vae, torch.rand(1, 80, 100, 3), 64, 0, "temporal", None)
    assert half.size == (64, SIZE)
    shown = host.preview(half)
    assert shown.shape == (1, SIZE, 64, 3) and 0 <= float(shown.min()) < float(shown.max()) <= 1
