"""How much of mouths' change a network predicts from speech alone: ``python -m asymtalker.training mouth``.

A training loss mixes all noise levels, and most of what it measures (head motion, grain) does not follow from speech. A
network that generates in a few steps makes its mouths at level 1, from pure noise. These figures are for that level, on
the latents of held-out clips, and take seconds.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import astuple, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ...models.checkpoint import read_checkpoint
from ...models.dit import TalkingHeadDiT
from ...models.flow import apply_continuity
from ..core.data import Batch, PreparedClips
from ..core.inference import ReferenceTraining, condition, load_for_sampling
from ..core.paths import NETWORK
from ..core.tables import markdown_table

SEED = 5


@dataclass(frozen=True)
class MouthFigures:
    """Of latents at the mouth, against the truth.

    ``error`` is the squared error over the squared change from the reference: 0 is perfect, 1 is the portrait itself.
    ``motion_error`` is the same without each site's mean over time. ``gain`` is how far the predicted motion goes along
    the true one: 1 is fully, 0 not at all.
    """

    error: float
    motion_error: float
    gain: float


def mouth_figures(predicted: Tensor, truth: Tensor, reference: Tensor, weight: Tensor) -> MouthFigures:
    """Latents [1, C, T, h, w] compared where ``weight`` [1, 1, T, h, w] is 1."""

    def energy(value: Tensor, other: Tensor) -> float:
        return float((value * other * weight).sum())

    def moving(value: Tensor) -> Tensor:
        mean = (value * weight).sum(2, keepdim=True) / weight.sum(2, keepdim=True).clamp_min(1)
        return value - mean

    change, error = truth - reference, predicted - truth
    motion, motion_error, made = moving(change), moving(error), moving(predicted - reference)
    whole = max(energy(motion, motion), 1e-9)
    return MouthFigures(
        error=energy(error, error) / max(energy(change, change), 1e-9),
        motion_error=energy(motion_error, motion_error) / whole,
        gain=energy(made, motion) / whole,
    )


@torch.no_grad()
def measure_clip(network: TalkingHeadDiT, batch: Batch, noise: Tensor) -> MouthFigures:
    """A first chunk of ``batch`` (of one sample) from ``noise``, its continuity frames given from the truth."""
    truth, given = batch.latents[:, 0], int(batch.continuity)
    x = apply_continuity(noise, truth[:, :, :given])
    predicted = condition(network, batch.windows[:, 0], batch.reference)(x, torch.ones(1))
    weight = batch.mask[:, 0].clone()
    weight[:, :, :given] = 0
    return mouth_figures(predicted, truth, batch.reference, weight)


def measured(network: TalkingHeadDiT, data: Path) -> Iterator[tuple[str, MouthFigures]]:
    """Every clip of ``data``, with its kind ("people" or "drawn")."""
    count = len(sorted(data.glob("clip_*.safetensors")))
    clips = PreparedClips(data, SEED, count, lids=network.config.audio.lids)
    for index, path in enumerate(list(clips.paths)):
        clips.paths = [path]
        batch = Batch(*(part[None] for part in clips[index]))
        noise = torch.randn(batch.reference.shape, generator=torch.Generator().manual_seed(index))
        yield json.loads(read_checkpoint(path)[1].get("kind", '"clips"')), measure_clip(network, batch, noise)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command."""
    parser.add_argument("--network", type=Path, nargs="+", default=[NETWORK], help="DiT checkpoints to compare")
    parser.add_argument("--data", type=Path, required=True, help="folder of encoded clips that were not trained on")


def run(args: argparse.Namespace) -> None:
    """Run the command."""
    rows = []
    for path in args.network:
        found: dict[str, list[MouthFigures]] = {}
        trained = load_for_sampling(path)
        trained.reference.check(path, ReferenceTraining())
        for kind, figures in measured(trained.network, args.data):
            found.setdefault(kind, []).append(figures)
        for kind, each in sorted(found.items()):
            means = np.mean([astuple(figures) for figures in each], axis=0)
            rows.append([str(path), kind, str(len(each)), *(f"{value:.3f}" for value in means)])
    print(markdown_table(["network", "clips", "number", "error", "motion error", "gain"], rows))
