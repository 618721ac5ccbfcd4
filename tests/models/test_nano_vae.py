"""nano's VAE: shapes, causality and errors."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from asymtalker.models.config import ConfigError
from asymtalker.models.nano_vae import CausalMix, NanoVAE, as_images, as_sites, pointwise
from asymtalker.models.pictures import EVERYWHERE, Window
from asymtalker.tests.models.tiny import noise, tiny_vae

TOLERANCE: dict[str, Any] = {"atol": 1e-5, "rtol": 1e-5}


@pytest.mark.parametrize(("frames", "latents"), [(1, 1), (5, 2), (9, 3), (33, 9)])
def test_shapes(frames: int, latents: int) -> None:
    vae = tiny_vae()
    z = vae.encode(noise(2, 3, frames, 32, 48))
    assert z.shape == (2, 4, latents, 2, 3)
    assert vae.decode(z).shape == (2, 3, frames, 32, 48)


def test_encoding_is_causal() -> None:
    vae, pixels = tiny_vae(), noise(1, 3, 33, 32, 32)
    z = vae.encode(pixels)
    torch.testing.assert_close(vae.encode(pixels[:, :, :1]), z[:, :, :1], **TOLERANCE)
    torch.testing.assert_close(vae.encode(pixels[:, :, :5]), z[:, :, :2], **TOLERANCE)


def test_decoding_is_causal() -> None:
    vae, z = tiny_vae(), noise(1, 4, 9, 2, 2)
    pixels = vae.decode(z)
    torch.testing.assert_close(vae.decode(z[:, :, :1]), pixels[:, :, :1], **TOLERANCE)
    torch.testing.assert_close(vae.decode(z[:, :, :3]), pixels[:, :, :9], **TOLERANCE)


@pytest.mark.parametrize(("first", "stop", "frames"), [(0, 9, slice(0, 33)), (0, 1, slice(0, 1)), (2, 5, slice(5, 17))])
def test_a_part_is_decoded_as_in_the_whole(first: int, stop: int, frames: slice) -> None:
    vae, z = tiny_vae(), noise(1, 4, 9, 2, 2)
    assert torch.equal(vae.decode_parts(z)(first, stop), vae.decode(z)[:, :, frames])
    assert vae.decode_parts(z)(4, 4).shape == (1, 3, 0, 32, 32)


WINDOWS = [(slice(8, 20), slice(4, 32)), (slice(5, 6), slice(0, 31)), (slice(8, 8), slice(0, 4)), EVERYWHERE]


@pytest.mark.parametrize("window", WINDOWS, ids=["whole patches", "any pixels", "nothing", "everything"])
@pytest.mark.parametrize(
    ("first", "stop", "frames", "shown"), [(0, 3, slice(0, 9), [0, 3, 7]), (2, 4, slice(5, 13), [7, 11])]
)
def test_a_window_is_decoded_as_in_the_whole(
    first: int, stop: int, frames: slice, shown: list[int], window: Window
) -> None:
    vae, z = tiny_vae(), noise(1, 4, 9, 2, 2)
    with torch.no_grad():
        part, whole = vae.decode_parts(z).views(first, stop, window, 2)
        pixels = vae.decode(z)
    torch.testing.assert_close(part, pixels[:, :, frames][(..., *window)], **TOLERANCE)
    torch.testing.assert_close(whole, pixels[:, :, shown], **TOLERANCE)


def test_later_frames_know_earlier_ones() -> None:
    vae, pixels = tiny_vae(), noise(1, 3, 9, 32, 32)
    changed = pixels.clone()
    changed[:, :, 0] += 1
    difference = (vae.encode(changed) - vae.encode(pixels)).abs().amax(dim=(0, 1, 3, 4))
    assert difference[0] > 0 and difference[1] > 0


def test_clips_of_a_batch_do_not_mix() -> None:
    vae, pixels = tiny_vae(), noise(2, 3, 9, 32, 32)
    torch.testing.assert_close(vae.encode(pixels)[1:], vae.encode(pixels[1:]), **TOLERANCE)


@pytest.mark.parametrize("shape", [(1, 3, 4, 32, 32), (1, 3, 5, 30, 32), (1, 3, 5, 32, 40)])
def test_wrong_sizes_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=f"got {shape[2]} frames of {shape[4]}x{shape[3]}"):
        tiny_vae().encode(torch.zeros(shape))


def test_checkpoint_round_trip() -> None:
    vae, pixels = tiny_vae(), noise(1, 3, 5, 32, 32)
    copy = NanoVAE.from_checkpoint(vae.state_dict(), vae.config.to_metadata())
    assert copy.config == vae.config and torch.equal(copy.encode(pixels), vae.encode(pixels))


def test_another_vae_is_refused() -> None:
    with pytest.raises(ConfigError, match="not a nano VAE"):
        NanoVAE.from_checkpoint({}, {"config": "{}"})


def test_pointwise_is_the_1x1_convolution() -> None:
    convolution, x = torch.nn.Conv2d(6, 10, 1), noise(2, 6, 3, 5)
    found = as_images(pointwise(convolution, as_sites(x)))
    torch.testing.assert_close(found, convolution(x), **TOLERANCE)


def test_a_mix_sees_the_frame_before_in_its_own_clip() -> None:
    mix = CausalMix(4)
    torch.nn.init.normal_(mix.past.weight)
    frames = noise(2, 3, 4, 2, 2)
    past = torch.nn.functional.silu(mix.past(frames.flatten(0, 1))).unflatten(0, (2, 3))
    expected = frames.clone()
    expected[:, 1:] += past[:, :-1]
    found = as_images(mix(as_sites(frames.flatten(0, 1)), 3)).unflatten(0, (2, 3))
    torch.testing.assert_close(found, expected, **TOLERANCE)


@pytest.mark.parametrize("latents", [1, 3])
@pytest.mark.parametrize("gradient", [False, True])
def test_every_decoded_pixel_is_where_pixel_shuffle_puts_it(latents: int, gradient: bool) -> None:
    """What the heads give for each latent frame, unfolded in space and, but for the first, in time."""
    decoder = tiny_vae().decoder.requires_grad_(gradient)
    seen: dict[str, list[torch.Tensor]] = {"first": [], "later": []}
    for name, outputs in seen.items():
        getattr(decoder, name).register_forward_hook(lambda _, __, output, outputs=outputs: outputs.append(output))
    pixels = decoder(noise(2, 4, latents, 2, 3))
    shuffle = torch.nn.functional.pixel_shuffle
    assert torch.equal(pixels[:, :, 0], shuffle(seen["first"][0], 4))
    if latents > 1:
        assert len(seen["later"]) == (1 if gradient else latents - 1)
        later = torch.cat([shuffle(output, 4).unflatten(0, (2, -1)) for output in seen["later"]], dim=1)
        assert torch.equal(pixels[:, :, 1:], later.unflatten(2, (4, 3)).permute(0, 3, 1, 2, 4, 5).flatten(2, 3))


def test_the_gradient_of_decoding_is_that_of_a_finite_difference() -> None:
    vae, z = tiny_vae().double(), noise(2, 4, 3, 1, 1).double().requires_grad_()
    weights, direction = noise(2, 3, 9, 16, 16, seed=1).double(), noise(*z.shape, seed=2).double()
    (gradient,) = torch.autograd.grad((vae.decode(z) * weights).sum(), z)
    ahead, behind = (((vae.decode(z + step * direction)) * weights).sum() for step in (1e-5, -1e-5))
    torch.testing.assert_close((gradient * direction).sum(), (ahead - behind) / 2e-5, atol=0, rtol=1e-6)
