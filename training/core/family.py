"""The published geometries (SoulX-FlashHead 1.3B), for training and for what is prepared for it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from ...models.config import FAMILY_VAE_STRIDES, DiTConfig
from .config import TrainingError

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


def geometry(model: str, changes: Mapping[str, Any]) -> DiTConfig:
    """``model``'s configuration with other values for some of its fields, those of ``audio`` in a table of their own.

    Raises:
        TrainingError: no such model or field.
        ConfigError: values that do not go together.
    """
    if model not in GEOMETRIES:
        raise TrainingError(f"model must be one of {sorted(GEOMETRIES)}, got {model!r}")
    config = GEOMETRIES[model]
    fields = dict(changes)
    try:
        if "audio" in fields:
            fields["audio"] = dataclasses.replace(config.audio, **fields["audio"])
        return dataclasses.replace(config, **fields)
    except TypeError as error:
        raise TrainingError(f"network: {error}") from error
