"""Asymmetric Knowledge Distillation (arXiv 2605.02948): ``python -m asymtalker.training akd``.

Three networks start from the trained teacher. The student is rolled out over consecutive chunks as at inference, from
the portrait and then from the tail of its own output. The critic is trained on the student's output. Distribution
matching between teacher and critic gives the student's gradient. The teacher is conditioned on the clip's continuity
frames, student and critic on the student's: that is the asymmetry.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from ...models.checkpoint import read_checkpoint, write_checkpoint
from ...models.codec import VideoCodec
from ...models.config import SamplingConfig
from ...models.dit import TalkingHeadDiT
from ...models.nano_vae import NanoVAE
from ..core.config import read_config
from ..core.data import Batch, PreparedClips, load_batches
from ..core.device import CPU, training_device
from ..core.distillation import AKDTraining, critic_loss, distil_rollout, draw_gradient_step
from ..core.inference import ReferenceTraining, load_network
from ..core.loop import TrainingRun, clip_and_step
from ..core.paths import add_nano_arguments, add_vae_argument
from ..core.samples import SampleStrip
from ..core.state import Ema, TrainingState


@dataclass(frozen=True)
class Distillation:
    """The networks of a run and their optimisers, for one step."""

    student: TalkingHeadDiT
    teacher: TalkingHeadDiT
    critic: TalkingHeadDiT
    vae: VideoCodec
    optimizers: dict[str, torch.optim.Optimizer]
    config: AKDTraining

    def step(self, batch: Batch, update_student: bool, generator: torch.Generator) -> dict[str, float]:
        """One rollout: the student is updated from teacher and critic, then the critic from the student's output."""
        drawn_step = draw_gradient_step(self.config, generator)
        gradient_step = drawn_step if update_student else None
        terms, chunks = distil_rollout(
            self.student, self.teacher, self.critic, self.vae, batch, self.config, gradient_step, generator
        )
        if update_student:
            terms["gradient"] = self._apply("student", self.student)
        losses = []
        for _ in range(self.config.critic_updates):
            loss = critic_loss(self.critic, chunks, self.config, generator)
            loss.backward()
            self._apply("critic", self.critic)
            losses.append(loss.item())
        return terms | {"critic": sum(losses) / len(losses)}

    def _apply(self, name: str, network: nn.Module) -> float:
        return clip_and_step(network.parameters(), self.optimizers[name])


def train(
    config: AKDTraining,
    teacher_path: Path,
    vae_path: Path,
    data: Path,
    out: Path,
    workers: int,
    device: torch.device = CPU,
) -> None:
    """Distil (or take up) a run in ``out``; writes ``state.safetensors`` and ``student.safetensors`` (averaged).

    Raises:
        TrainingError: the teacher was trained with another reference.
    """
    torch.manual_seed(config.seed)
    teacher, metadata = load_network(teacher_path)
    ReferenceTraining.from_metadata(metadata).check(teacher_path, config.reference_training)
    vae = NanoVAE.from_checkpoint(*read_checkpoint(vae_path)).to(device)
    student, critic = (load_network(teacher_path)[0].to(device).train().requires_grad_(True) for _ in range(2))
    optimizers: dict[str, torch.optim.Optimizer] = {
        "student": torch.optim.AdamW(student.parameters(), betas=(0.0, 0.99), weight_decay=0.0),
        "critic": torch.optim.AdamW(critic.parameters(), betas=(0.0, 0.99), weight_decay=0.0),
    }
    optimizers["critic"].param_groups[0]["lr_ratio"] = config.critic_lr_ratio
    ema = Ema(student, config.ema_decay)
    state = TrainingState({"student": student, "critic": critic}, optimizers, {"student": ema}, config.record())
    count = config.batch * config.steps
    clips = PreparedClips(
        data, config.seed, count,
        chunks=config.chunks, reference=config.reference, lids=teacher.config.audio.lids,
    )  # fmt: skip
    strip = SampleStrip(clips, vae_path, out)
    own = SamplingConfig.from_metadata(metadata)
    sampling = SamplingConfig("few_step", config.denoising_steps, config.shift, detail=own.detail, blinks=own.blinks)
    published = metadata | sampling.to_metadata() | {"distillation": config.continuity}

    def publish() -> None:
        write_checkpoint(out / "student.safetensors", ema.shadow, published)
        strip.save(ema.shadow, published, state.step)

    run = TrainingRun("akd", out, config, state, publish, device)
    distillation = Distillation(student, teacher.to(device), critic, vae, optimizers, config)
    for batch in load_batches(clips, config.batch, state.step, workers):
        run.set_learning_rate()
        with device:
            terms = distillation.step(batch.to(device), state.step >= config.critic_warmup, run.generator())
        run.finish_step(terms)
    run.close()


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command."""
    add_nano_arguments(parser, "nano_akd.toml")
    parser.add_argument("--teacher", type=Path, required=True, help="teacher checkpoint")
    add_vae_argument(parser)
    parser.add_argument(
        "--data", type=Path, required=True, help="folder of prepared clips, each of at least `chunks` chunks"
    )


def run(args: argparse.Namespace) -> None:
    """Run the command."""
    config = read_config(AKDTraining, args.config, args.set)
    train(config, args.teacher, args.vae, args.data, args.out, args.workers, training_device(args.device))
