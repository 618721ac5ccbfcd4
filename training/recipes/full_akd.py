"""Distil a teacher of the published size: ``torchrun --nproc-per-node N -m -- asymtalker.training full-akd``.

The losses are those of ``core.distillation``.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import nn

from ...models.checkpoint import read_published
from ...models.codec import VideoCodec
from ...models.config import SamplingConfig
from ..core.config import read_config
from ..core.data import PreparedClips
from ..core.distillation import (
    AKDTraining,
    RolledChunk,
    critic_loss,
    distil_rollout,
    draw_gradient_step,
)
from ..core.distributed import ShardedState, World, joined_world
from ..core.family import geometry
from ..core.host import BatchCodec, stock_codec
from ..core.inference import ReferenceTraining
from ..core.loop import TrainingRun
from ..core.paths import add_run_arguments
from ..core.shards import Drawn, FullConfig, Shards
from ..core.state import Ema


@dataclass(frozen=True, kw_only=True)
class FullAKDTraining(AKDTraining, FullConfig):
    """Configuration of a distillation, see ``FullConfig`` and ``AKDTraining``; ``warmup`` counts steps as there."""


def train(
    config: FullAKDTraining, world: World, codec: VideoCodec, teacher_path: Path, data: Path, out: Path, workers: int
) -> None:
    """Distil (or take up) a run in ``out``; writes ``state.safetensors`` and ``student.safetensors`` (averaged).

    Raises:
        TrainingError: the teacher was trained with another reference, or is of another shape.
    """
    trained_with = ReferenceTraining.from_metadata(read_published(teacher_path)[1])
    trained_with.check(teacher_path, config.reference_training)
    shards = Shards(config, world)
    clips = PreparedClips(
        data, config.seed, config.batch * config.steps, chunks=config.chunks, reference=config.reference
    )
    teacher = shards.network(teacher_path, trained=False)
    student, critic = shards.network(teacher_path), shards.network(teacher_path)
    optimizers: dict[str, torch.optim.Optimizer] = {
        "student": torch.optim.AdamW(student.parameters(), betas=(0.0, 0.99), weight_decay=0.0),
        "critic": torch.optim.AdamW(critic.parameters(), betas=(0.0, 0.99), weight_decay=0.0),
    }
    optimizers["critic"].param_groups[0]["lr_ratio"] = config.critic_lr_ratio
    ema = Ema(student, config.ema_decay)
    networks: dict[str, nn.Module] = {"student": student, "critic": critic}
    state = ShardedState(networks, optimizers, {"student": ema}, config.record(), world=world)
    metadata = SamplingConfig("few_step", config.denoising_steps, config.shift).to_metadata()
    metadata |= config.reference_training.to_metadata() | {"distillation": config.continuity}
    run = TrainingRun("akd", out, config, state, lambda: shards.publish(ema, out / "student.safetensors", metadata))

    def critic_step(item: tuple[Drawn, list[RolledChunk]]) -> dict[str, float]:
        drawn, rolled = item
        loss = critic_loss(critic, rolled, config, drawn.generator)
        loss.backward()
        return {"critic": loss.item()}

    def student_step(gradient_step: int | None, chunks: list[list[RolledChunk]], drawn: Drawn) -> dict[str, float]:
        terms, made = distil_rollout(
            student, teacher, critic, codec, drawn.batch, config, gradient_step, drawn.generator
        )
        chunks.append(made)
        return terms

    for drawn in shards.micro_batches(clips, state.step, workers):
        run.set_learning_rate()
        update_student = state.step >= config.critic_warmup
        # One for all: processes must gather the same parameters in the same order.
        gradient_step = draw_gradient_step(config, run.generator()) if update_student else None
        rollouts: list[list[RolledChunk]] = []
        terms = shards.accumulate(drawn, partial(student_step, gradient_step, rollouts))
        if update_student:
            terms["gradient"] = shards.update(student, optimizers["student"], len(drawn))
        for _ in range(config.critic_updates):
            terms |= shards.accumulate(list(zip(drawn, rollouts, strict=True)), critic_step)
            shards.update(critic, optimizers["critic"], len(drawn))
        run.finish_step(terms)
    run.close()


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command."""
    add_run_arguments(parser, "full_pro_akd.toml")
    parser.add_argument("--teacher", type=Path, required=True, help="teacher checkpoint")
    parser.add_argument("--vae", type=Path, help="VAE file (default: the model's own in ComfyUI's folders)")
    parser.add_argument(
        "--data", type=Path, required=True, help="folder written by `prepare`, with clips of at least `chunks` chunks"
    )


def run(args: argparse.Namespace) -> None:
    """Run the command."""
    config = read_config(FullAKDTraining, args.config, args.set)
    with joined_world() as world:
        codec = BatchCodec(stock_codec(geometry(config.model, config.network), config.model, args.vae))
        train(config, world, codec, args.teacher, args.data, args.out, args.workers)
