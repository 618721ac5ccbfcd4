"""Put trained weights into the repository: ``python -m training bundle``."""

from __future__ import annotations

from pathlib import Path

import torch

from models.checkpoint import read_checkpoint, write_checkpoint

ROOT = Path(__file__).parents[1]
# What the pack ships.
NETWORK = ROOT / "models" / "nano" / "asymtalker_nano.safetensors"
VAE = ROOT / "models" / "nano" / "asymtalker_nano_vae.safetensors"
# What measures, and what rivals of the student start from; not part of the pack.
READER = ROOT / "training" / "weights" / "reader.safetensors"
TEACHER = ROOT / "training" / "weights" / "nano_teacher.safetensors"


def bundle(source: Path, target: Path) -> None:
    """Write ``source`` to ``target`` in float16 (half the size; its rounding is far below the weights' noise)."""
    tensors, metadata = read_checkpoint(source)
    target.parent.mkdir(parents=True, exist_ok=True)
    write_checkpoint(target, {key: value.to(torch.float16) for key, value in tensors.items()}, metadata)
