"""The published geometries (SoulX-FlashHead 1.3B), for training and preparing its data."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from ...models.config import DiTConfig
from ...models.family import MODELS
from .config import TrainingError

GEOMETRIES = {name: MODELS[name].config for name in ("pro", "lite")}


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
