"""Detail transfer gives back what a blur has taken, follows motion, and leaves alone what has changed."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from asymtalker.models import detail
from asymtalker.models.detail import DetailTransfer

SIZE = 256


def textured(seed: int = 0) -> Tensor:
    """A picture with edges of many sizes: [1, 3, 1, S, S] in [-1, 1]."""
    generator = torch.Generator().manual_seed(seed)
    picture = torch.zeros(1, 3, SIZE, SIZE)
    for cells in (8, 24, 64, 128):
        grid = torch.randn(1, 3, cells, cells, generator=generator)
        picture += 0.1 * functional.interpolate(grid, (SIZE, SIZE), mode="bicubic")
    return picture.clamp(-1, 1)[:, :, None]


def blurred(frames: Tensor) -> Tensor:
    """What stands for a VAE."""
    return detail._blurred(frames[0].movedim(1, 0), 1.5).movedim(0, 1)[None]


def moved(picture: Tensor, pixels: int) -> Tensor:
    return picture.roll((pixels, -pixels), dims=(-1, -2))


def error(frames: Tensor, truth: Tensor, edge: int = 24) -> float:
    """Root mean square, away from the border, over which pictures were rolled."""
    inside = slice(edge, -edge)
    return (frames - truth)[..., inside, inside].square().mean().sqrt().item()


@pytest.fixture
def portrait() -> Tensor:
    return textured()


@pytest.fixture
def transfer(portrait: Tensor) -> DetailTransfer:
    return DetailTransfer.of(portrait, blurred(portrait))


def test_the_round_trip_becomes_the_portrait(portrait: Tensor, transfer: DetailTransfer) -> None:
    assert error(blurred(portrait), portrait) > 0.04
    assert error(transfer.apply(blurred(portrait), 1.0), portrait, edge=1) < 1e-3


@pytest.mark.parametrize("pixels", [1, 4, 8])
def test_detail_follows_motion(portrait: Tensor, transfer: DetailTransfer, pixels: int) -> None:
    truth = moved(portrait, pixels)
    frame = blurred(truth)
    assert error(transfer.apply(frame, 1.0), truth) < 0.35 * error(frame, truth)


def test_the_flow_is_the_motion(portrait: Tensor, transfer: DetailTransfer) -> None:
    half = functional.avg_pool2d(blurred(moved(portrait, 4))[0].movedim(1, 0), 2)
    across, down = transfer.flow(half)[0, :, 6:-6, 6:-6].flatten(1).median(dim=1).values * SIZE / 2
    assert across.item() == pytest.approx(-4, abs=0.3) and down.item() == pytest.approx(4, abs=0.3)


def test_what_has_changed_is_left_alone(portrait: Tensor, transfer: DetailTransfer) -> None:
    frame = blurred(portrait)
    frame[..., 48:80, 40:88] = -0.9
    result = transfer.apply(frame, 1.0)
    inside = (..., slice(56, 72), slice(48, 80))
    assert (result[inside] - frame[inside]).abs().max() < 0.02
    outside = (..., slice(112, SIZE), slice(None))
    assert error(result[outside], portrait[outside]) < 0.3 * error(frame[outside], portrait[outside])


def test_strength_scales_the_change(portrait: Tensor) -> None:
    # Far from black and white, where the sum would be cut off.
    frame, portrait = 0.5 * blurred(moved(portrait, 1)), 0.5 * portrait
    transfer = DetailTransfer.of(portrait, blurred(portrait))
    whole, half = (transfer.apply(frame, strength) - frame for strength in (1.0, 0.5))
    assert whole.abs().max() > 0.02
    torch.testing.assert_close(half, whole / 2, atol=2e-3, rtol=0)


def test_frames_do_not_depend_on_their_neighbours(portrait: Tensor, transfer: DetailTransfer) -> None:
    frames = torch.cat([blurred(moved(portrait, n)) for n in range(6)], dim=2)
    together = transfer.apply(frames, 1.0)
    torch.testing.assert_close(together[:, :, 4:5], transfer.apply(frames[:, :, 4:5], 1.0), atol=1e-5, rtol=0)
    assert together.shape == frames.shape and together.abs().max() <= 1


def test_a_flat_picture_stays_as_it_is() -> None:
    flat = torch.full((1, 3, 1, SIZE, SIZE), 0.25)
    frames = flat.expand(-1, -1, 3, -1, -1)
    torch.testing.assert_close(DetailTransfer.of(flat, flat).apply(frames, 1.0), frames.contiguous())
