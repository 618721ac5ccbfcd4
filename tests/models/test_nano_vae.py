"""nano's VAE: shapes, causality and errors."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from models.config import ConfigError
from models.nano_vae import NanoVAE
from tests.models.tiny import noise, tiny_vae

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
