"""Detail transfer gives back what a blur has taken, follows motion, and leaves alone what has changed."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from asymtalker.models.detail import DetailTransfer, frames_of_poses
from asymtalker.models.face_mesh import LANDMARKS
from asymtalker.models.landmarks import JAW, UNDER_EYES
from asymtalker.models.optical_flow import luma_pyramid, optical_flow
from asymtalker.models.pictures import EVERYWHERE
from asymtalker.models.pictures import blurred as blurred_by
from asymtalker.models.placing import kept

SIZE = 256


def textured(height: int = SIZE, width: int = SIZE) -> Tensor:
    """A picture with edges of many sizes: [3, H, W] in [-1, 1]."""
    generator = torch.Generator().manual_seed(0)
    picture = torch.zeros(1, 3, height, width)
    for cells in (3, 8, 24, 64, 128):
        grid = torch.randn(1, 3, cells, cells, generator=generator)
        picture += 0.1 * functional.interpolate(grid, (height, width), mode="bicubic")
    return picture.clamp(-1, 1)[0]


def blurred(picture: Tensor, sigma: float = 1.5) -> Tensor:
    """What stands for a VAE."""
    return blurred_by(picture[None], sigma)[0]


def moved(picture: Tensor, pixels: int) -> Tensor:
    return picture.roll((pixels, -pixels), dims=(-1, -2))


def low_face() -> Tensor:
    """Landmarks of a face in the lower half of a picture."""
    angle = torch.arange(21) / 20 * torch.pi
    face = torch.full((LANDMARKS, 2), 0.5)
    face[list(JAW)] = torch.stack((0.5 + 0.2 * angle.cos(), 0.5 + 0.3 * angle.sin()), dim=-1)
    face[list(UNDER_EYES)] = torch.stack((torch.linspace(0.3, 0.7, 5), torch.full((5,), 0.5)), dim=-1)
    return face


def with_detail(transfer: DetailTransfer, frames: Tensor, strength: float = 1.0, before: int = 0) -> Tensor:
    """Frames [3, T, H, W], of which the first ``before`` are known only for their pose."""
    part = frames[:, before:][(..., *transfer.shown(strength))]
    return transfer.apply(part, frames[:, :: transfer.stride], strength)


def applied(transfer: DetailTransfer, picture: Tensor, strength: float = 1.0) -> Tensor:
    return with_detail(transfer, picture[:, None], strength)[:, 0]


def error(picture: Tensor, truth: Tensor, edge: int = 24) -> float:
    """Root mean square, away from the border, over which pictures were rolled."""
    inside = slice(edge, -edge)
    return (picture - truth)[..., inside, inside].square().mean().sqrt().item()


@pytest.fixture
def portrait() -> Tensor:
    return textured()


@pytest.fixture
def transfer(portrait: Tensor) -> DetailTransfer:
    return DetailTransfer.of(portrait, blurred(portrait))


def test_blur_keeps_the_mean_and_spreads_like_a_gaussian() -> None:
    impulse = torch.zeros(1, 1, 33, 33)
    impulse[..., 16, 16] = 1
    spread = blurred_by(impulse, 2.0)[0, 0]
    at = torch.arange(33.0) - 16
    assert spread.sum().item() == pytest.approx(1)
    assert (spread.sum(0) * at**2).sum().item() == pytest.approx(4, rel=0.03)
    flat = torch.full((2, 3, 7, 9), 0.3)
    torch.testing.assert_close(blurred_by(flat, 2.5), flat)


@pytest.mark.parametrize("size", [(SIZE, SIZE), (16, 16), (32, 48), (512, 320), (200, 333)])
def test_the_round_trip_becomes_the_portrait(size: tuple[int, int]) -> None:
    portrait = textured(*size)
    frame = blurred(portrait)
    transfer = DetailTransfer.of(portrait, frame)
    assert error(frame, portrait, edge=1) > 0.03
    assert error(applied(transfer, frame), portrait, edge=1) < 1e-3


@pytest.mark.parametrize("pixels", [1, 4, 8, 12])
def test_detail_follows_motion(portrait: Tensor, transfer: DetailTransfer, pixels: int) -> None:
    truth = moved(portrait, pixels)
    frame = blurred(truth)
    assert error(applied(transfer, frame), truth, edge=48) < 0.4 * error(frame, truth, edge=48)


@pytest.mark.parametrize("size", [SIZE, 2 * SIZE])
def test_larger_frames_move_as_far(size: int) -> None:
    """A shift of 5 % of the picture."""
    portrait = textured(size, size)
    transfer = DetailTransfer.of(portrait, blurred(portrait, size / 170))
    truth = moved(portrait, size // 20)
    frame = blurred(truth, size / 170)
    assert error(applied(transfer, frame), truth, edge=size // 5) < 0.4 * error(frame, truth, edge=size // 5)


@pytest.mark.parametrize("pixels", [4, 12])
def test_the_flow_is_the_motion(portrait: Tensor, pixels: int) -> None:
    still, frame = (functional.avg_pool2d(blurred(moved(portrait, by))[None], 4) for by in (0, pixels))
    x, y = optical_flow(luma_pyramid(still), frame)[0, :, 6:-6, 6:-6].flatten(1).median(dim=1).values * SIZE / 2
    assert x.item() == pytest.approx(-pixels, abs=0.3) and y.item() == pytest.approx(pixels, abs=0.3)


def test_what_has_changed_is_left_alone(portrait: Tensor, transfer: DetailTransfer) -> None:
    frame = blurred(portrait)
    frame[..., 48:80, 40:88] = -0.9
    result = applied(transfer, frame)
    inside = (..., slice(56, 72), slice(48, 80))
    assert (result[inside] - frame[inside]).abs().max() < 0.02
    elsewhere = (..., slice(112, SIZE), slice(None))
    assert error(result[elsewhere], portrait[elsewhere]) < 0.3 * error(frame[elsewhere], portrait[elsewhere])


def test_strength_scales_the_change(portrait: Tensor, transfer: DetailTransfer) -> None:
    frame = blurred(moved(portrait, 1))
    whole, half = (applied(transfer, frame, strength) - frame for strength in (1.0, 0.5))
    assert whole.abs().max() > 0.02
    torch.testing.assert_close(half, whole / 2, atol=2e-3, rtol=0)


def test_frames_do_not_depend_on_their_neighbours(portrait: Tensor, transfer: DetailTransfer) -> None:
    frames = torch.stack([blurred(moved(portrait, n)) for n in range(6)], dim=1)
    given = frames.clone()
    together = with_detail(transfer, frames)
    torch.testing.assert_close(together[:, 4:5], with_detail(transfer, frames[:, 4:5]), atol=1e-5, rtol=0)
    assert together.shape == frames.shape and together.abs().max() <= 1 and torch.equal(frames, given)
    frames[:, 1] = float("nan")
    others = [0, 2, 3, 4, 5]
    torch.testing.assert_close(with_detail(transfer, frames)[:, others], together[:, others], atol=1e-5, rtol=0)


def test_the_type_of_the_frames_is_kept(portrait: Tensor, transfer: DetailTransfer) -> None:
    frame = blurred(portrait)[:, None]
    result = with_detail(transfer, frame.half())
    assert result.dtype == torch.float16
    torch.testing.assert_close(result.float(), with_detail(transfer, frame), atol=5e-3, rtol=0)


def test_a_flat_picture_stays_as_it_is() -> None:
    flat = torch.full((3, SIZE, SIZE), 0.25)
    frames = flat[:, None].expand(-1, 3, -1, -1)
    torch.testing.assert_close(with_detail(DetailTransfer.of(flat, flat), frames), frames.contiguous())


@pytest.mark.parametrize("shift", [(12, 0), (-6, 6), (0, -12)])
def test_what_a_shift_loses_moves_with_the_rest(portrait: Tensor, shift: tuple[int, int]) -> None:
    truth = moved(portrait, 4)
    frame = blurred(truth)
    rows, columns = kept(shift, SIZE, SIZE)
    lost = torch.ones(SIZE, SIZE, dtype=torch.bool)
    lost[rows, columns] = False
    frame[:, lost] = portrait[:, lost]
    frames = {
        used: applied(DetailTransfer.of(portrait, blurred(portrait), shift=used), frame) for used in (shift, (0, 0))
    }
    # Away from the border of the picture, over which it was rolled.
    lost[:5] = lost[-5:] = lost[:, :5] = lost[:, -5:] = False
    errors = {used: (picture - truth)[:, lost].square().mean().sqrt() for used, picture in frames.items()}
    assert errors[shift] < 0.5 * errors[0, 0]
    assert error(frames[shift], truth) < 0.5 * error(frame, truth)


def test_a_head_that_moves_in_steps_moves_evenly(portrait: Tensor) -> None:
    """Half a step later; and what is seen before the first frame counts."""
    steps = [0] * 4 + [4] * 4 + [8] * 4
    frames = torch.stack([blurred(moved(portrait, pixels)) for pixels in steps], dim=1)
    transfer = DetailTransfer.of(portrait, blurred(portrait), low_face(), stride=4, mouth_alone=True)
    # Its mouth is no mouth, which the skin would follow.
    transfer = replace(transfer, lower_face=None)
    shown = with_detail(transfer, frames, before=4)
    assert shown.shape[1] == 8
    for frame, pixels in enumerate((1, 2, 3, 4, 5, 6, 7, 8)):
        even, stepped = (error(shown[:, frame], moved(portrait, at), 64) for at in (pixels, steps[frame + 4]))
        assert even < 0.04
        assert even < 0.5 * stepped or pixels == steps[frame + 4]
    faceless = with_detail(DetailTransfer.of(portrait, blurred(portrait), stride=4), frames)
    assert error(faceless[:, 4], moved(portrait, 4), 64) < 0.04, "nothing is steadied"


def test_frames_of_the_round_trip_stay_where_they_are(portrait: Tensor) -> None:
    frames = torch.stack([blurred(portrait)] * 5, dim=1)
    transfer = DetailTransfer.of(portrait, blurred(portrait), low_face(), stride=4, mouth_alone=True)
    shown = with_detail(replace(transfer, lower_face=None), frames)
    assert max(error(shown[:, frame], portrait, edge=1) for frame in range(5)) < 1e-3


def test_where_nothing_but_the_head_moves_the_portrait_is_shown(portrait: Tensor) -> None:
    """Blotches beside the head and on it go, those at the mouth are the network's."""
    face = low_face()
    frame = blurred(portrait)
    hair, mouth = (slice(20, 40), slice(100, 140)), (slice(150, 170), slice(118, 138))
    for spot in (hair, mouth):
        frame[(slice(None), *spot)] = 1.0
    as_it_is, shown = (
        applied(DetailTransfer.of(portrait, blurred(portrait), face, stride=4, mouth_alone=alone), frame)
        for alone in (False, True)
    )

    def wrong(picture: Tensor, spot: tuple[slice, slice]) -> float:
        return (picture - portrait)[(slice(None), *spot)].abs().mean().item()

    assert wrong(shown, hair) < 0.4 * wrong(as_it_is, hair)
    assert wrong(shown, mouth) == pytest.approx(wrong(as_it_is, mouth), rel=0.05)


@pytest.mark.parametrize(
    ("frames", "poses", "groups"),
    [
        (9, 3, [(0, 1), (1, 5), (5, 9)]),
        (8, 3, [(0, 0), (0, 4), (4, 8)]),
        (1, 1, [(0, 1)]),
    ],
)
def test_frames_are_grouped_by_the_pose_of_the_head(frames: int, poses: int, groups: list[tuple[int, int]]) -> None:
    assert [(group.start, group.stop) for group in frames_of_poses(frames, poses, 4)] == groups


@pytest.mark.parametrize("place", [2.0, float("nan")])
def test_a_lower_face_outside_the_picture_leaves_all_to_the_frames(portrait: Tensor, place: float) -> None:
    face = torch.full((LANDMARKS, 2), place)
    transfer = DetailTransfer.of(portrait, blurred(portrait), face, stride=4, mouth_alone=True)
    assert transfer.shown(1.0) == EVERYWHERE and transfer.stride == 1
    frame = blurred(portrait)
    if place == 2.0:
        assert error(applied(transfer, frame), portrait) < 0.3 * error(frame, portrait)
