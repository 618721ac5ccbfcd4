"""Put trained weights into the repository: ``python -m asymtalker.training bundle``."""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from ...models.checkpoint import read_checkpoint, write_checkpoint
from ..core.paths import NETWORK, PROBE, TEACHER, VAE


def bundle(source: Path, target: Path) -> None:
    """Write ``source`` to ``target`` in float16 (half the size; its rounding is far below the weights' noise)."""
    tensors, metadata = read_checkpoint(source)
    target.parent.mkdir(parents=True, exist_ok=True)
    write_checkpoint(target, {key: value.to(torch.float16) for key, value in tensors.items()}, metadata)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command."""
    parser.add_argument("--network", type=Path, help="student checkpoint; copied to models/nano")
    parser.add_argument("--vae", type=Path, help="nano VAE checkpoint; copied to models/nano")
    parser.add_argument("--probe", type=Path, help="probe checkpoint; copied to training/weights")
    parser.add_argument("--teacher", type=Path, help="teacher checkpoint; copied to training/weights")


def run(args: argparse.Namespace) -> None:
    """Run the command."""
    for source, target in ((args.network, NETWORK), (args.vae, VAE), (args.probe, PROBE), (args.teacher, TEACHER)):
        if source is not None:
            bundle(source, target)
