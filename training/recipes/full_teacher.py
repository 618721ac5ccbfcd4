"""Train a teacher of the published size on prepared videos.

``torchrun --nproc-per-node N -m -- asymtalker.training full-teacher``. The loss is that of ``core.teaching``.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import torch

from ...models.config import SamplingConfig
from ..core.config import read_config
from ..core.data import PreparedClips
from ..core.distributed import ShardedState, World, joined_world
from ..core.inference import ReferenceTraining
from ..core.loop import TrainingRun
from ..core.paths import add_run_arguments
from ..core.shards import Drawn, FullConfig, Shards
from ..core.state import Ema
from ..core.teaching import drop_audio, teacher_loss


@dataclass(frozen=True, kw_only=True)
class FullTeacherTraining(FullConfig):
    """Configuration of a teacher run, see ``FullConfig`` and ``TeacherTraining``."""

    weight_decay: float
    audio_dropout: float
    mouth_weight: float
    shift: float
    reference: str
    sampling: dict[str, float | int | str]


def train(
    config: FullTeacherTraining, world: World, data: Path, out: Path, workers: int, start: Path | None = None
) -> None:
    """Train (or take up) a run in ``out``; writes ``state.safetensors`` and ``teacher.safetensors`` (averaged)."""
    shards = Shards(config, world)
    clips = PreparedClips(data, config.seed, config.batch * config.steps, reference=config.reference)
    network = shards.network(start)
    optimizer = torch.optim.AdamW(network.parameters(), betas=(0.9, 0.98), weight_decay=config.weight_decay)
    ema = Ema(network, config.ema_decay)
    state = ShardedState({"teacher": network}, {"adamw": optimizer}, {"teacher": ema}, config.record(), world=world)
    sampling = SamplingConfig(**config.sampling)  # type: ignore[arg-type]
    metadata = sampling.to_metadata() | ReferenceTraining(config.reference).to_metadata()
    run = TrainingRun("teacher", out, config, state, lambda: shards.publish(ema, out / "teacher.safetensors", metadata))

    def loss(drawn: Drawn) -> dict[str, float]:
        windows = drop_audio(drawn.batch.windows[:, 0], config.audio_dropout, drawn.generator)
        flow = teacher_loss(network, network.encode_audio(windows), drawn.batch, config, drawn.generator)
        flow.backward()
        return {"flow": flow.item()}

    for drawn in shards.micro_batches(clips, state.step, workers):
        run.set_learning_rate()
        terms = shards.accumulate(drawn, loss)
        terms["gradient"] = shards.update(network, optimizer, len(drawn))
        run.finish_step(terms)
    run.close()


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command."""
    add_run_arguments(parser, "full_pro_teacher.toml")
    parser.add_argument("--data", type=Path, required=True, help="folder written by `prepare`")
    parser.add_argument("--start", type=Path, help="checkpoint to start from (default: newly initialised weights)")


def run(args: argparse.Namespace) -> None:
    """Run the command."""
    config = read_config(FullTeacherTraining, args.config, args.set)
    with joined_world() as world:
        train(config, world, args.data, args.out, args.workers, args.start)
