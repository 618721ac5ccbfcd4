"""Train the published geometries (1.3B) on prepared videos, sharded over GPUs.

``torchrun --nproc-per-node N -m training full-teacher`` and ``full-akd``. The losses are those of ``training.teacher``
and ``training.akd``; what this adds is sharding, mixed precision, recomputed activations and micro-batches.

A step's global ``batch`` is divided into micro-batches whose samples and noise follow from (seed, step, place in the
batch). Processes take them in turns, so that a run's result does not depend on their number.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from models.checkpoint import read_published, write_checkpoint
from models.config import DiTConfig, SamplingConfig
from models.dit import TalkingHeadDiT
from models.rollout import VideoCodec

from .akd import AKDTraining, RolledChunk, check_reference, critic_loss, distil_rollout, draw_gradient_step
from .config import RunConfig, TrainingError
from .data import Batch, PreparedClips, load_samples
from .distributed import ShardedState, World, gather_state, load_state, shard, whole
from .family import geometry
from .loop import TrainingRun
from .state import Ema
from .teacher import drop_audio, teacher_loss

log = logging.getLogger(__name__)

T = TypeVar("T")

GRADIENT_NORM = 1.0


@dataclass(frozen=True, kw_only=True)
class FullConfig(RunConfig):
    """What sharded runs have in common.

    ``model`` is "pro" or "lite", ``network`` changes fields of its geometry. ``batch`` samples make a step, computed
    ``micro_batch`` at a time. ``mixed_precision`` and ``recompute`` as in ``distributed.shard``.
    """

    model: str
    micro_batch: int
    mixed_precision: bool
    recompute: bool
    network: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class FullTeacherTraining(FullConfig):
    """Configuration of a teacher run, see ``FullConfig`` and ``TeacherTraining``."""

    weight_decay: float
    audio_dropout: float
    mouth_weight: float
    shift: float
    reference: str
    sampling: dict[str, float | int | str]


@dataclass(frozen=True, kw_only=True)
class FullAKDTraining(AKDTraining, FullConfig):
    """Configuration of a distillation, see ``FullConfig`` and ``AKDTraining``; ``warmup`` counts steps as there."""


@dataclass(frozen=True)
class Drawn:
    """A micro-batch and its own source of noise."""

    batch: Batch
    generator: torch.Generator


class Shards:
    """Builds the networks of a run and runs its micro-batches.

    Raises:
        TrainingError: the batch cannot be divided among the processes.
    """

    def __init__(self, config: FullConfig, world: World) -> None:
        self.config, self.world = config, world
        self.per_step, rest = divmod(config.batch, config.micro_batch)
        if rest or self.per_step % world.size:
            raise TrainingError(
                f"a batch of {config.batch} in micro-batches of {config.micro_batch} cannot be divided among "
                f"{world.size} processes"
            )

    def network(self, start: Path | None, *, trained: bool = True) -> TalkingHeadDiT:
        """The sharded network, with the weights of ``start`` or initial ones.

        Raises:
            TrainingError: ``start`` is a checkpoint of another shape.
        """
        config = self.config
        wanted = geometry(config.model, config.network)
        tensors = _initial_tensors(wanted, config.seed) if start is None else read_published(start)[0]
        network = TalkingHeadDiT(wanted, device="meta")
        recompute = config.recompute and trained
        shard(network, self.world, mixed_precision=config.mixed_precision, recompute=recompute)
        network.to_empty(device=self.world.device)
        try:
            load_state(network, tensors)
        except TrainingError as error:
            raise TrainingError(f"{start} is no {config.model} network: {error}") from error
        return network.train(trained).requires_grad_(trained)

    def micro_batches(self, clips: PreparedClips, step: int, workers: int) -> Iterator[list[Drawn]]:
        """For each step from ``step`` on, this process' micro-batches."""
        config, world = self.config, self.world
        places = range(world.rank, self.per_step, world.size)
        numbers = [n * self.per_step + place for n in range(step, config.steps) for place in places]
        size = config.micro_batch
        batches = load_samples(clips, [list(range(n * size, (n + 1) * size)) for n in numbers], workers)
        remaining = iter(numbers)
        for _ in range(step, config.steps):
            yield [self._drawn(next(batches), config.seed * 1_000_003 + next(remaining)) for _ in places]

    def _drawn(self, batch: Batch, seed: int) -> Drawn:
        device = self.world.device
        parts = {item.name: getattr(batch, item.name).to(device) for item in dataclasses.fields(batch)}
        return Drawn(Batch(**parts), torch.Generator(device).manual_seed(seed))

    def accumulate(self, items: Sequence[T], loss: Callable[[T], Mapping[str, float]]) -> dict[str, float]:
        """Call ``loss``, which adds an item's gradients, for each micro-batch's item; terms averaged over all."""
        totals: dict[str, float] = {}
        for item in items:
            with self.precision():
                for name, value in loss(item).items():
                    totals[name] = totals.get(name, 0.0) + value / len(items)
        return {name: self.world.mean(value) for name, value in totals.items()}

    @contextmanager
    def precision(self) -> Iterator[None]:
        """Where losses are computed: noise and numbers are made on the device, by code that does not speak of it."""
        device = self.world.device
        with device, torch.autocast(device.type, torch.bfloat16, enabled=self.config.mixed_precision):
            yield

    def update(self, network: nn.Module, optimizer: torch.optim.Optimizer, num_batches: int) -> float:
        """One step with the mean gradient of ``num_batches`` on each process; returns its norm."""
        for parameter in network.parameters():
            if parameter.grad is not None:
                parameter.grad.div_(num_batches)
        norm = whole(nn.utils.clip_grad_norm_(network.parameters(), GRADIENT_NORM)).item()
        optimizer.step()
        optimizer.zero_grad()
        return norm

    def publish(self, average: Ema, path: Path, metadata: Mapping[str, str]) -> None:
        """Write the averaged network as a checkpoint that the loader reads, in bfloat16; every process calls it."""
        tensors = gather_state(average.shadow, self.world)
        if self.world.leads:
            config = geometry(self.config.model, self.config.network)
            halved = {name: tensor.to(torch.bfloat16) for name, tensor in tensors.items()}
            write_checkpoint(path, halved, config.to_metadata() | dict(metadata))


def _initial_tensors(config: DiTConfig, seed: int) -> dict[str, Tensor]:
    torch.manual_seed(seed)
    network = TalkingHeadDiT(config)
    network.initialise()
    return network.state_dict()


def train_teacher(
    config: FullTeacherTraining, world: World, data: Path, out: Path, workers: int, start: Path | None = None
) -> None:
    """Train (or take up) a run in ``out``; writes ``state.safetensors`` and ``teacher.safetensors`` (averaged)."""
    shards = Shards(config, world)
    clips = PreparedClips(data, config.seed, config.batch * config.steps, reference=config.reference)
    network = shards.network(start)
    optimizer = torch.optim.AdamW(network.parameters(), betas=(0.9, 0.98), weight_decay=config.weight_decay)
    ema = Ema(network, config.ema_decay)
    state = ShardedState(
        {"teacher": network}, {"adamw": optimizer}, {"teacher": ema}, dataclasses.asdict(config), world=world
    )
    sampling = SamplingConfig(**config.sampling)  # type: ignore[arg-type]
    metadata = sampling.to_metadata() | {"reference": config.reference}
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


def train_akd(
    config: FullAKDTraining, world: World, codec: VideoCodec, teacher_path: Path, data: Path, out: Path, workers: int
) -> None:
    """Distil (or take up) a run in ``out``; writes ``state.safetensors`` and ``student.safetensors`` (averaged).

    Raises:
        TrainingError: the teacher was trained with the other kind of reference, or is of another shape.
    """
    check_reference(teacher_path, read_published(teacher_path)[1], config)
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
    state = ShardedState(networks, optimizers, {"student": ema}, dataclasses.asdict(config), world=world)
    metadata = SamplingConfig("few_step", config.denoising_steps, config.shift).to_metadata()
    metadata |= {"reference": config.reference, "distillation": config.continuity}
    run = TrainingRun("akd", out, config, state, lambda: shards.publish(ema, out / "student.safetensors", metadata))

    def critic_step(item: tuple[Drawn, list[RolledChunk]]) -> dict[str, float]:
        drawn, rolled = item
        loss = critic_loss(critic, rolled, drawn.batch.reference, config, drawn.generator)
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
