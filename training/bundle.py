"""Put trained weights into the pack: ``python -m training bundle``."""

from __future__ import annotations

from pathlib import Path

import torch

from models.checkpoint import read_checkpoint, write_checkpoint

NETWORK_FILE = "asymtalker_nano.safetensors"
VAE_FILE = "asymtalker_nano_vae.safetensors"


def bundle(network: Path, vae: Path, folder: Path) -> None:
    """Write both checkpoints to ``folder`` in float16 (half the size; its rounding is far below the weights' noise)."""
    for source, name in ((network, NETWORK_FILE), (vae, VAE_FILE)):
        tensors, metadata = read_checkpoint(source)
        write_checkpoint(folder / name, {key: value.to(torch.float16) for key, value in tensors.items()}, metadata)
