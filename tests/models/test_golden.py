"""Golden data of the checkpoint family: forward passes, three chunks in a row, colour correction."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional as F

from asymtalker.models.checkpoint import read_checkpoint
from asymtalker.models.color import match_color
from asymtalker.models.config import DiTConfig
from asymtalker.models.dit import TalkingHeadDiT
from asymtalker.models.flow import sample_chunk, schedule

FORWARD_TOLERANCE = 2e-5
ROLLOUT_TOLERANCE = 2e-4

GoldenFile = Callable[[str], Path]


def load_network(path: Path) -> TalkingHeadDiT:
    weights, metadata = read_checkpoint(path)
    network = TalkingHeadDiT(DiTConfig.from_state_dict(weights, metadata))
    network.load_state_dict(weights)
    return network.eval().requires_grad_(False)


def error(found: Tensor, expected: Tensor) -> float:
    assert found.shape == expected.shape
    return (found - expected).abs().max().item()


@pytest.mark.parametrize("family", ["pro", "lite"])
def test_forward(golden_file: GoldenFile, family: str) -> None:
    network = load_network(golden_file(f"dit_{family}_open.weights.safetensors"))
    cases = load_file(golden_file(f"dit_{family}_open.cases.safetensors"))
    names = sorted({name.split(".")[0] for name in cases})
    assert names
    for name in names:
        tokens = network.encode_audio(cases[f"{name}.audio"])
        flow = network(cases[f"{name}.x"], cases[f"{name}.timestep"], tokens, cases[f"{name}.reference"])
        assert error(flow, cases[f"{name}.flow"]) <= FORWARD_TOLERANCE, name


class ToyVAE:
    """The linear VAE of the golden rollouts."""

    def __init__(self, latent_to_rgb: Tensor, rgb_to_latent: Tensor, stride: tuple[int, int, int]) -> None:
        self.latent_to_rgb, self.rgb_to_latent, self.stride = latent_to_rgb, rgb_to_latent, stride

    def decode(self, latents: Tensor) -> Tensor:
        t, h, w = self.stride
        pixels = torch.einsum("bcthw,cd->bdthw", latents, self.latent_to_rgb)
        pixels = torch.cat((pixels[:, :, :1], pixels[:, :, 1:].repeat_interleave(t, 2)), dim=2)
        return torch.tanh(pixels.repeat_interleave(h, 3).repeat_interleave(w, 4))

    def encode(self, pixels: Tensor) -> Tensor:
        t, h, w = self.stride
        pixels = F.avg_pool3d(torch.atanh(pixels.clamp(-0.999, 0.999)), (1, h, w))
        pixels = torch.cat((pixels[:, :, :1], F.avg_pool3d(pixels[:, :, 1:], (t, 1, 1))), dim=2)
        return torch.einsum("bdthw,dc->bcthw", pixels, self.rgb_to_latent)


@pytest.mark.parametrize("family", ["pro", "lite"])
def test_three_chunks(golden_file: GoldenFile, family: str) -> None:
    cases_file = golden_file(f"rollout_{family}_open.cases.safetensors")
    network = load_network(golden_file(f"rollout_{family}_open.weights.safetensors"))
    cases = load_file(cases_file)
    with safe_open(cases_file, framework="pt") as file:
        tail = int(file.metadata()["continuity_frames"])
    vae = ToyVAE(cases["latent_to_rgb"], cases["rgb_to_latent"], network.config.vae_stride)
    reference = cases["reference_latent"][None]
    levels = schedule(4, 5.0)
    assert error(levels, cases["timesteps"] / 1000) <= 1e-6
    continuity = reference[:, :, :1]
    for chunk in range(3):
        prefix = f"chunk{chunk}"
        assert error(continuity[0], cases[f"{prefix}.continuity_latent_in"]) <= ROLLOUT_TOLERANCE
        audio_kv = network.audio_keys_values(network.encode_audio(cases[f"{prefix}.audio"]))

        def denoise(x: Tensor, u: Tensor, audio_kv: list[tuple[Tensor, Tensor]] = audio_kv) -> Tensor:
            return x - u * network.velocity(x, 1000 * u[None], audio_kv, reference)

        noise = [cases[f"{prefix}.noise{draw}"][None] for draw in range(5)]
        latents = sample_chunk(denoise, levels, continuity, noise)
        frames = match_color(vae.decode(latents), cases["portrait"], 1.0)
        continuity = vae.encode(frames[:, :, -tail:])
        assert error(latents[0], cases[f"{prefix}.latent_out"]) <= ROLLOUT_TOLERANCE
        assert error(frames[0], cases[f"{prefix}.frames"]) <= ROLLOUT_TOLERANCE
        # From the golden frames: the toy VAE's atanh makes up to 500 of a float's last digit where a colour saturates.
        encoded = vae.encode(cases[f"{prefix}.frames"][None, :, -tail:])
        assert error(encoded[0], cases[f"{prefix}.continuity_latent_out"]) <= FORWARD_TOLERANCE


def test_color(golden_file: GoldenFile) -> None:
    cases = load_file(golden_file("color_open.safetensors"))
    names = sorted({name.split(".")[0] for name in cases})
    assert names
    for name in names:
        corrected = match_color(cases[f"{name}.frames"], cases[f"{name}.portrait"], cases[f"{name}.strength"].item())
        assert error(corrected, cases[f"{name}.corrected"]) <= FORWARD_TOLERANCE, name
