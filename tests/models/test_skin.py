"""The portrait's skin around a mouth: moved as landmarks move, and nowhere else."""

from __future__ import annotations

import av
import pytest
import torch
from torch import Tensor

from asymtalker.faces.portrait_face import with_face
from asymtalker.models.landmarks import LIPS, MOUTH_CORNERS, UNDER_EYES, FaceTracker
from asymtalker.models.lower_face import LowerFace
from asymtalker.models.pictures import filled, pixel_places, sampled
from asymtalker.models.reference import Reference
from asymtalker.models.skin import MovedSkin, _window
from asymtalker.scripts._environment import ROOT

ASTRONAUT = ROOT / "tests" / "data" / "astronaut.jpg"
SIZE = 320
CHIN, LOWER_LIP = 152, 17


@pytest.fixture(scope="module")
def portrait() -> Tensor:
    """[1, 3, 320, 320] in [-1, 1]."""
    with av.open(str(ASTRONAUT)) as container:
        picture = torch.from_numpy(next(container.decode(video=0)).to_ndarray(format="rgb24"))
    return picture.movedim(-1, 0)[None] / 127.5 - 1


@pytest.fixture(scope="module")
def points(portrait: Tensor) -> Tensor:
    """Its landmarks in pixels."""
    face = with_face(Reference(torch.zeros(1, 48, 9, 1, 1), portrait[:, :, None], 33)).face
    assert face is not None
    return face * SIZE


def applied(portrait: Tensor, points: Tensor, frames: Tensor, strength: float = 1.0) -> Tensor:
    shown = frames.clone()
    LowerFace(portrait, points, is_guided=False).apply(shown, strength)
    return shown


def test_the_tracker_follows_a_face(portrait: Tensor, points: Tensor) -> None:
    tracker = FaceTracker(points, SIZE, SIZE, torch.device("cpu"))
    moved = portrait.roll((5, -3), dims=(-1, -2))
    noise = torch.rand(portrait.shape, generator=torch.Generator().manual_seed(0)) * 2 - 1
    with torch.no_grad():
        found, is_seen = tracker.read(torch.cat((portrait, moved, noise)))
    assert is_seen.tolist() == [True, True, False]
    assert (found[0] - points).norm(dim=-1).mean() < 0.5
    assert (found[1] - points - torch.tensor((5.0, -3.0))).norm(dim=-1).mean() < 1.5


def test_contours_are_filled() -> None:
    places = pixel_places(20, 30)
    square = torch.tensor(((5.0, 4.0), (15.0, 4.0), (15.0, 12.0), (5.0, 12.0)))
    inside = filled(square, places)[0, 0]
    assert inside.sum() == 10 * 8 and inside[4:12, 5:15].all()


def test_smears_beside_the_mouth_are_replaced(portrait: Tensor, points: Tensor) -> None:
    """And lips, eyes and background stay as they are."""
    frame = portrait.clone()
    x, y = points[CHIN].round().int().tolist()
    smear = slice(y - 18, y - 6), slice(x - 12, x + 12)
    frame[(..., *smear)] = 1.0
    with torch.no_grad():
        shown, untouched = (applied(portrait, points, frame, strength) for strength in (1.0, 0.0))
    torch.testing.assert_close(untouched, frame)
    before, after = ((picture - portrait)[(..., *smear)].abs().mean() for picture in (frame, shown))
    assert after < 0.25 * before
    lips = points[list(LIPS)]
    low, high = lips.amin(0).round().int().tolist(), lips.amax(0).round().int().tolist()
    middle = slice((low[1] + high[1]) // 2 - 3, (low[1] + high[1]) // 2 + 3), slice(low[0] + 8, high[0] - 8)
    for same in (middle, (slice(0, int(points[list(UNDER_EYES), 1].min()) - 20), slice(None))):
        torch.testing.assert_close(shown[(..., *same)], frame[(..., *same)], atol=0.02, rtol=0)


@pytest.mark.parametrize("corner", MOUTH_CORNERS)
def test_spots_are_replaced_close_to_the_lips(portrait: Tensor, points: Tensor, corner: int) -> None:
    """Beside a corner of the mouth, not on the lips."""
    x, y = points[corner].round().int().tolist()
    outwards = 1 if x > float(points[list(LIPS), 0].mean()) else -1
    left = []
    for near, far in ((2, 5), (-14, -10)):
        start, stop = sorted((x + outwards * near, x + outwards * far))
        spot = (..., slice(y - 2, y + 2), slice(start, stop))
        frame = portrait.clone()
        frame[spot] = 1.0
        before = (frame - portrait)[spot].abs().mean()
        MovedSkin(portrait, points).apply(frame, points[None], torch.ones(1))
        left.append(float((frame - portrait)[spot].abs().mean() / before))
    beside, on_lips = left
    assert beside < 0.3 and on_lips > 0.9


def test_the_chin_goes_where_its_landmarks_go(portrait: Tensor, points: Tensor) -> None:
    skin = MovedSkin(portrait, points)
    opened = points.clone()
    opened[:, 1] += 9 * ((points[:, 1] - points[LOWER_LIP, 1]) / 20 + 1).clamp(0, 1)
    with torch.no_grad():
        distances = skin._distances(opened[None][:, skin._lower_face])
    rows, columns = skin._window
    assert (rows.stop - rows.start) * (columns.stop - columns.start) < 0.4 * SIZE**2
    x, y = (opened[CHIN].round().int() - torch.tensor((columns.start, rows.start))).tolist()
    in_pixels = distances[0, :, y, x] * torch.tensor((columns.stop - columns.start, rows.stop - rows.start)) / 2
    torch.testing.assert_close(in_pixels, torch.tensor((0.0, -9.0)), atol=1.5, rtol=0)
    mask = sampled(skin._layers[:, 3:], distances)
    assert mask[0, 0, y - 4, x] > 0.9, "the chin's own place in the frame"
    # Nothing ends abruptly at the edges of what is moved.
    edges = (mask[0, 0, 0], mask[0, 0, -1], mask[0, 0, :, 0], mask[0, 0, :, -1])
    assert all(edge.max() < 0.1 for edge in edges)


def test_a_frame_without_a_face_stays_as_it_is(portrait: Tensor, points: Tensor) -> None:
    noise = torch.rand(portrait.shape, generator=torch.Generator().manual_seed(0)) * 2 - 1
    with torch.no_grad():
        assert torch.equal(applied(portrait, points, noise), noise)


@pytest.mark.parametrize("length", [64, 96, 256])
@pytest.mark.parametrize(("first", "last"), [(0, 63), (5, 9), (60, 63), (30, 50)])
def test_the_window_holds_all_of_the_mask(length: int, first: int, last: int) -> None:
    mask = torch.zeros(length, 80)
    mask[first : last + 1, 70:80] = 1
    rows, columns = _window(mask, 3)
    assert mask[rows, columns].sum() == mask.sum()
    assert (rows.stop - rows.start) % 8 == (columns.stop - columns.start) % 8 == 0 and rows.start >= 0


@pytest.mark.parametrize("scale", [0.0, 1e-3, 3.0])
def test_odd_faces_give_finite_pictures(portrait: Tensor, points: Tensor, scale: float) -> None:
    with torch.no_grad():
        shown = portrait.clone()
        LowerFace(portrait, (points - 100) * scale + 40, is_guided=True).apply(shown, 1.0)
    assert shown.isfinite().all()
