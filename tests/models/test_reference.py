"""The portrait's fit, and Temporal Reference Encoding against the static baseline."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from asymtalker.models.reference import Reference, fit_portrait, static_reference, temporal_reference
from asymtalker.tests.models.tiny import noise, tiny_vae


def test_a_fitting_portrait_is_left_alone() -> None:
    image = noise(1, 24, 16, 3).sigmoid()
    torch.testing.assert_close(fit_portrait(image, 16, 24)[0, :, 0], image[0].movedim(-1, 0) * 2 - 1)


@pytest.mark.parametrize(("height", "width"), [(40, 90), (90, 40), (7, 5), (33, 32), (1, 1)])
def test_portrait_covers_the_frame(height: int, width: int) -> None:
    portrait = fit_portrait(noise(1, height, width, 3).sigmoid(), 32, 48)
    assert portrait.shape == (1, 3, 1, 48, 32)
    assert portrait.min() >= -1 and portrait.max() <= 1


def test_the_centre_is_cut() -> None:
    image = torch.zeros(1, 8, 24, 3)
    image[:, :, 8:16] = 1
    assert torch.equal(fit_portrait(image, 8, 8), torch.ones(1, 3, 1, 8, 8))


def test_temporal_reference_encodes_a_still_video() -> None:
    portrait = noise(1, 3, 1, 32, 32).tanh()
    seen: list[Tensor] = []

    def encode(pixels: Tensor) -> Tensor:
        seen.append(pixels)
        return tiny_vae().encode(pixels)

    latents = temporal_reference(encode, portrait, 9)
    assert latents.shape == (1, 4, 3, 2, 2)
    assert seen[0].shape == (1, 3, 9, 32, 32) and all(torch.equal(seen[0][:, :, i : i + 1], portrait) for i in range(9))


def test_static_reference_repeats_one_latent() -> None:
    portrait = noise(1, 3, 1, 32, 32).tanh()
    vae = tiny_vae()
    latents = static_reference(vae.encode, portrait, 3)
    assert latents.shape == temporal_reference(vae.encode, portrait, 9).shape
    assert all(torch.equal(latents[:, :, i], latents[:, :, 0]) for i in range(3))
    torch.testing.assert_close(latents[:, :, 0], temporal_reference(vae.encode, portrait, 9)[:, :, 0])


def test_size_is_width_then_height() -> None:
    assert Reference(noise(1, 4, 3, 2, 4), noise(1, 3, 1, 32, 64), 9).size == (64, 32)
