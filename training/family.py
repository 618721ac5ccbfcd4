"""The published geometries (SoulX-FlashHead 1.3B), for training and for what is prepared for it."""

from __future__ import annotations

import dataclasses

from models.config import FAMILY_VAE_STRIDES, DiTConfig

PRO = DiTConfig(
    dim=1536,
    ffn_dim=8960,
    num_heads=12,
    num_layers=30,
    in_dim=32,
    out_dim=16,
    vae_stride=FAMILY_VAE_STRIDES[16],
    has_audio_emb=True,
)
LITE = dataclasses.replace(PRO, in_dim=256, out_dim=128, vae_stride=FAMILY_VAE_STRIDES[128], patch_size=(1, 1, 1))
GEOMETRIES = {"pro": PRO, "lite": LITE}
