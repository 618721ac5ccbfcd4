"""Random networks of the family, small enough for any machine."""

from __future__ import annotations

import torch
from torch import nn

from asymtalker.models.config import AudioConfig, DiTConfig
from asymtalker.models.dit import TalkingHeadDiT
from asymtalker.models.nano_vae import NanoVAE, NanoVAEConfig

TINY = DiTConfig(
    dim=48,
    ffn_dim=64,
    num_heads=2,
    num_layers=2,
    in_dim=8,
    out_dim=4,
    freq_dim=32,
    text_dim=8,
    vae_stride=(4, 16, 16),
    audio=AudioConfig(blocks=1, channels=6, intermediate_dim=16, context_tokens=3),
)


def randomise(module: nn.Module, seed: int, std: float) -> None:
    """Random values for every parameter, so that no zero initialisation switches a path off."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.normal_(std=std, generator=generator)


def tiny_dit() -> TalkingHeadDiT:
    network = TalkingHeadDiT(TINY)
    randomise(network, seed=1, std=0.2)
    return network.eval().requires_grad_(False)


def tiny_vae() -> NanoVAE:
    """A nano VAE with the latent channels of `TINY`."""
    vae = NanoVAE(NanoVAEConfig(latent_channels=4, width=16, encoder_blocks=1, decoder_blocks=1, latent_scale=0.5))
    randomise(vae, seed=2, std=0.2)
    return vae.eval().requires_grad_(False)


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))
