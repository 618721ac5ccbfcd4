"""The landmarks of a face: against MediaPipe's own program, and wherever the face is in its picture."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt
import pytest
import torch

from asymtalker.faces.detector import Face, find_faces
from asymtalker.faces.landmarks import find_landmarks
from asymtalker.models import landmarks
from asymtalker.models.face_mesh import face_mesh
from asymtalker.scripts._environment import ROOT

Picture = npt.NDArray[np.uint8]
Points = npt.NDArray[np.float64]

CPU = torch.device("cpu")

ASTRONAUT = ROOT / "tests" / "data" / "astronaut.jpg"
ASSETS = ROOT / "workflows" / "assets"

ORACLE = {
    33: (134.0, 101.0),
    133: (153.1, 103.8),
    362: (176.8, 105.1),
    263: (196.4, 104.4),
    159: (142.2, 97.7),
    145: (143.8, 104.4),
    386: (188.4, 100.1),
    374: (186.0, 106.7),
    1: (162.8, 131.5),
    61: (140.7, 138.9),
    291: (186.0, 141.5),
    13: (162.8, 142.3),
    14: (162.4, 149.7),
    152: (160.3, 176.5),
}
"""What `FaceMesh` of MediaPipe 0.10.21 answers for astronaut.jpg, shown twice as to a video."""

LIDS = (
    (landmarks.RIGHT_UPPER_LID, landmarks.RIGHT_LOWER_LID),
    (landmarks.LEFT_UPPER_LID, landmarks.LEFT_LOWER_LID),
)
BROWS = (landmarks.RIGHT_BROW, landmarks.LEFT_BROW)

TOLERANCE = 1.5
"""Pixels of astronaut.jpg, in which the eyes are 43 apart."""


def read(path: Path) -> Picture:
    with av.open(str(path)) as container:
        return next(container.decode(video=0)).to_ndarray(format="rgb24")


def found(picture: Picture) -> Points:
    points = find_landmarks(picture, find_faces(picture)[0])
    assert points is not None
    return points.numpy()


def test_network_takes_batches() -> None:
    with torch.no_grad():
        points, presence = face_mesh(CPU)(torch.rand(2, 3, 192, 192, generator=torch.Generator().manual_seed(0)))
    assert points.shape == (2, 468, 2) and presence.shape == (2,)
    assert {parameter.dtype for parameter in face_mesh(CPU).parameters()} == {torch.float32}


def test_points_are_those_of_mediapipe() -> None:
    points = found(read(ASTRONAUT))
    assert points.shape == (468, 2) and points.dtype == np.float64
    for index, point in ORACLE.items():
        assert np.linalg.norm(points[index] - point) < TOLERANCE, index


@pytest.mark.parametrize("name", [None, "asymtalker_portrait.png", "asymtalker_person.png", "asymtalker_painting.png"])
def test_lids_run_above_each_other_from_the_outer_corner(name: str | None) -> None:
    points = found(read(ASSETS / name if name else ASTRONAUT))
    for (upper, lower), brow, direction in zip(LIDS, BROWS, (1, -1), strict=True):
        assert (upper[0], upper[-1]) == (lower[0], lower[-1])
        assert (points[upper[1:-1], 1] < points[lower[1:-1], 1]).all()
        assert points[brow, 1].max() < points[upper[1:-1], 1].min()
        for line in (upper, lower, brow):
            assert (np.diff(points[line, 0]) * direction > 0).all()
    (upper_lip, lower_lip), (right, left) = points[landmarks.LIPS_MIDDLE, :], points[landmarks.MOUTH_CORNERS, :]
    # They may be closed.
    assert upper_lip[1] < lower_lip[1] + 0.5 and right[0] < upper_lip[0] < left[0]


TURNS: tuple[tuple[Callable[[Picture], Picture], Callable[[Points], Points]], ...] = (
    (lambda picture: np.rot90(picture), lambda points: np.stack((points[:, 1], 320 - points[:, 0]), axis=1)),
    (lambda picture: np.rot90(picture, 2), lambda points: 320 - points),
    (lambda picture: picture.repeat(8, 0).repeat(8, 1), lambda points: points * 8),
    (lambda picture: picture[::2, ::2], lambda points: points / 2),
    (lambda picture: np.pad(picture, ((900, 0), (0, 700), (0, 0))), lambda points: points + np.array((0, 900))),
    (lambda picture: picture[70:165, 125:200], lambda points: points - (125, 70)),
)


@pytest.mark.parametrize(
    ("changed", "expected"), TURNS, ids=["turned", "upside down", "larger", "smaller", "moved", "cut"]
)
def test_points_go_with_the_picture(
    changed: Callable[[Picture], Picture], expected: Callable[[Points], Points]
) -> None:
    picture = read(ASTRONAUT)
    (face,) = find_faces(picture)
    box = np.array(((face.x, face.y), (face.x + face.width, face.y + face.height)))
    # The detector does not find faces upside down: its answer is taken from the picture as it was.
    corners = expected(box)
    (x, y), (width, height) = corners.min(axis=0), np.ptp(corners, axis=0)
    known = tuple((px, py) for px, py in expected(np.array(face.landmarks)).tolist())
    points = find_landmarks(changed(picture), Face(x, y, width, height, face.score, known))
    assert points is not None
    wanted = expected(found(picture))
    scale = np.ptp(wanted, axis=0).max() / np.ptp(found(picture), axis=0).max()
    assert np.linalg.norm(points.numpy() - wanted, axis=1).mean() < TOLERANCE * scale


def test_the_box_need_not_be_exact() -> None:
    picture = read(ASTRONAUT)
    (face,) = find_faces(picture)
    wanted = found(picture)
    for x, y, scale in ((8, 0, 1.0), (0, -8, 1.0), (0, 0, 1.2), (0, 0, 0.85)):
        width, height = face.width * scale, face.height * scale
        moved = replace(
            face,
            x=face.x + x + (face.width - width) / 2,
            y=face.y + y + (face.height - height) / 2,
            width=width,
            height=height,
        )
        points = find_landmarks(picture, moved)
        assert points is not None
        assert np.linalg.norm(points.numpy() - wanted, axis=1).mean() < TOLERANCE


def test_views_and_read_only_pictures() -> None:
    picture = read(ASTRONAUT)
    picture.flags.writeable = False
    mirrored = found(picture[:, ::-1])
    for index, other in ((33, 263), (133, 362), (61, 291)):
        assert mirrored[index] == pytest.approx((320 - ORACLE[other][0], ORACLE[other][1]), abs=2 * TOLERANCE)


@pytest.mark.parametrize("shape", [(240, 320), (40, 30), (1, 1)])
def test_no_face(shape: tuple[int, int]) -> None:
    # The last box lies beyond every picture; the one before is a single point.
    noise = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    for x, y, size in ((100, 60, 100), (5, 5, 0), (9000, -9000, 50)):
        eyes = ((x + size / 3, y + size / 3), (x + size * 2 / 3, y + size / 3))
        face = Face(x, y, size, size, 1.0, (*eyes, eyes[0], eyes[0], eyes[1]))
        assert find_landmarks(noise, face) is None
        assert find_landmarks(np.full_like(noise, 128), face) is None
