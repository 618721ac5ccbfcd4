"""The shape of a nano network in its trainers' configurations."""

from __future__ import annotations

from dataclasses import dataclass

from ...models.audio import MEL_CHANNELS
from ...models.config import AudioConfig, DiTConfig


@dataclass(frozen=True, kw_only=True)
class NanoNetwork:
    """Width, depth and heads of the transformer, what its VAE makes, and the size of its audio projection.

    ``audio_lids`` is ``AudioConfig.lids``; ``prediction`` is as in ``DiTConfig``.
    """

    dim: int
    layers: int
    heads: int
    latent_channels: int
    vae_stride: list[int]
    patch_size: list[int]
    audio_hidden: int
    audio_tokens: int
    audio_context_layers: int
    audio_context_dim: int
    audio_lids: bool = False
    prediction: str = "reference_residual"

    def network(self) -> DiTConfig:
        t, h, w = self.vae_stride
        pt, ph, pw = self.patch_size
        return DiTConfig(
            dim=self.dim,
            ffn_dim=4 * self.dim,
            num_heads=self.heads,
            num_layers=self.layers,
            in_dim=2 * self.latent_channels,
            out_dim=self.latent_channels,
            text_dim=8,
            vae_stride=(t, h, w),
            patch_size=(pt, ph, pw),
            prediction=self.prediction,
            audio=AudioConfig(
                blocks=1,
                channels=MEL_CHANNELS,
                intermediate_dim=self.audio_hidden,
                context_tokens=self.audio_tokens,
                context_layers=self.audio_context_layers,
                context_dim=self.audio_context_dim,
                lids=self.audio_lids,
            ),
        )
