"""Asymmetric Knowledge Distillation (arXiv 2605.02948): ``python -m asymtalker.training akd``.

Three networks start from the trained teacher. The student is rolled out over consecutive chunks as at inference, from
the portrait and then from the tail of its own output. The critic is trained on the student's output. Distribution
matching between teacher and critic gives the student's gradient. The teacher is conditioned on the clip's continuity
frames, student and critic on the student's: that is the asymmetry.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from ...models.checkpoint import read_checkpoint, write_checkpoint
from ...models.color import match_color
from ...models.config import SamplingConfig
from ...models.dit import TalkingHeadDiT
from ...models.flow import Denoise, apply_continuity, sample_chunk, schedule
from ...models.nano_vae import NanoVAE
from ...models.reference import ReferenceKind
from ...models.rollout import VideoCodec, continuity_frames
from ..core.chunks import CONTINUITY_LATENTS, stride_of
from ..core.config import RunConfig, TrainingError, read_config
from ..core.data import Batch, PreparedClips, load_batches
from ..core.device import CPU, full_precision, training_device
from ..core.inference import condition, load_network
from ..core.loop import TrainingRun, clip_and_step
from ..core.objectives import distribution_matching_loss, draw_levels, flow_matching_loss, given_frames
from ..core.paths import add_nano_arguments, add_vae_argument
from ..core.samples import SampleStrip
from ..core.state import Ema, TrainingState

CONTINUITIES = ("asymmetric", "symmetric-gt", "symmetric-self")
# More latent frames before the tail than nano's decoder looks back.
TAIL_LATENTS = 6


@dataclass(frozen=True, kw_only=True)
class AKDTraining(RunConfig):
    """Configuration of a distillation.

    ``continuity`` is ``asymmetric`` (AKD) or one of its rivals: ``symmetric-gt`` rolls the student out on the clip's
    own continuity frames and shows them to all three networks, ``symmetric-self`` shows the student's own to all three.
    ``chunks`` is K, the length of a rollout; ``denoising_steps`` and ``shift`` are the student's. The critic is updated
    ``critic_updates`` times for every update of the student, on fresh noise over the same rollout. ``guidance`` is the
    teacher's against silence; ``mouth_weight`` as in the teacher's training. ``critic_warmup`` updates of the critic
    alone come first: it has to fit the student before its gradient means anything.
    """

    chunks: int
    continuity: str
    reference: str
    denoising_steps: int
    shift: float
    guidance: float
    critic_lr_ratio: float
    critic_updates: int
    critic_warmup: int
    mouth_weight: float

    def __post_init__(self) -> None:
        if self.continuity not in CONTINUITIES:
            raise TrainingError(f"continuity must be one of {CONTINUITIES}, got {self.continuity!r}")


@dataclass(frozen=True)
class RolledChunk:
    """One chunk of a rollout [B, C, T, h, w] and the conditions it was made under.

    ``xhat`` is the x0 of the denoising step that carries the gradient, ``sample`` the finished chunk without one.
    """

    xhat: Tensor
    sample: Tensor
    windows: Tensor
    student_continuity: Tensor
    clip_continuity: Tensor
    mask: Tensor


def carry(vae: VideoCodec, latents: Tensor, portrait: Tensor) -> Tensor:
    """Continuity latents [B, C, 2, h, w] of a chunk's tail, through pixels and colour correction as at inference."""
    num_frames = continuity_frames(CONTINUITY_LATENTS, stride_of(latents.shape[2]))
    seen = latents[:, :, -TAIL_LATENTS:] if isinstance(vae, NanoVAE) else latents
    pixels = vae.decode(seen)[:, :, -num_frames:]
    # In bfloat16 or TF32 its colours are up to 16 grey levels off, which the student would learn to undo.
    with full_precision(pixels.device):
        matched = match_color(pixels.float(), portrait.float(), 1.0)
    return vae.encode(matched)


def roll_out(
    student: TalkingHeadDiT,
    vae: VideoCodec,
    batch: Batch,
    config: AKDTraining,
    gradient_step: int | None,
    generator: torch.Generator,
) -> Iterator[RolledChunk]:
    """The student over ``config.chunks`` chunks, exactly as at inference.

    The gradient belongs to one denoising step of every chunk (arXiv 2506.08009); the steps before and after it run
    without, and the next chunk continues the finished sample. Without a ``gradient_step`` there is none at all.
    """
    with torch.no_grad():
        portrait = vae.decode(batch.reference[:, :, :1])
    continuity = batch.reference[:, :, :1]
    for chunk in range(config.chunks):
        latents, windows = batch.latents[:, chunk], batch.windows[:, chunk]
        clip_continuity = latents[:, :, : continuity.shape[2]]
        if config.continuity == "symmetric-gt":
            continuity = clip_continuity
        xhat, sample = _sample(student, batch.reference, windows, continuity, config, gradient_step, generator)
        yield RolledChunk(xhat, sample, windows, continuity, clip_continuity, batch.mask[:, chunk])
        if chunk + 1 < config.chunks:
            with torch.no_grad():
                continuity = carry(vae, sample, portrait)


def _sample(
    student: TalkingHeadDiT,
    reference: Tensor,
    windows: Tensor,
    continuity: Tensor,
    config: AKDTraining,
    gradient_step: int | None,
    generator: torch.Generator,
) -> tuple[Tensor, Tensor]:
    """(x0 of the gradient's step, or the sample where there is none; the sample), continuity written over both."""
    with torch.no_grad():
        denoise_no_grad = condition(student, windows, reference)
    steps = itertools.count()
    kept: list[Tensor] = []

    def denoise(x: Tensor, u: Tensor) -> Tensor:
        if next(steps) == gradient_step:
            kept.append(condition(student, windows, reference)(x, u))
            return kept[0].detach()
        with torch.no_grad():
            return denoise_no_grad(x, u)

    noise = (torch.randn(reference.shape, generator=generator) for _ in itertools.count())
    sample = sample_chunk(denoise, schedule(config.denoising_steps, config.shift), continuity, noise)
    return (apply_continuity(kept[0], continuity) if kept else sample), sample


def check_reference(teacher_path: Path, metadata: Mapping[str, str], config: AKDTraining) -> None:
    """Raises TrainingError where the teacher was trained with the other kind of reference."""
    if (known := metadata.get("reference", ReferenceKind.TRE.value)) != config.reference:
        raise TrainingError(
            f"{teacher_path} was trained with reference {known!r}, the run is configured for {config.reference!r}"
        )


def draw_gradient_step(config: AKDTraining, generator: torch.Generator) -> int:
    """The denoising step that carries a rollout's gradient."""
    return int(torch.randint(config.denoising_steps, (1,), generator=generator))


def student_loss(
    teacher: TalkingHeadDiT,
    critic: TalkingHeadDiT,
    rolled: RolledChunk,
    reference: Tensor,
    config: AKDTraining,
    generator: torch.Generator,
) -> tuple[Tensor, Tensor]:
    """Distribution matching on one chunk, the teacher under its own continuity: the loss, and mean|g|."""
    u = draw_levels(reference.shape[0], config.shift, generator)
    eps = torch.randn(rolled.xhat.shape, generator=generator)
    seen_by_teacher = rolled.student_continuity if config.continuity == "symmetric-self" else rolled.clip_continuity
    with torch.no_grad():
        real: Denoise = condition(teacher, rolled.windows, reference, config.guidance)
        fake: Denoise = condition(critic, rolled.windows, reference)
    weight = 1 + config.mouth_weight * rolled.mask
    return distribution_matching_loss(
        real, fake, rolled.xhat, seen_by_teacher, rolled.student_continuity, u, eps, weight
    )


def distil_rollout(
    student: TalkingHeadDiT,
    teacher: TalkingHeadDiT,
    critic: TalkingHeadDiT,
    vae: VideoCodec,
    batch: Batch,
    config: AKDTraining,
    gradient_step: int | None,
    generator: torch.Generator,
) -> tuple[dict[str, float], list[RolledChunk]]:
    """Roll the student out once, adding its gradient chunk by chunk if a ``gradient_step`` is to carry one.

    Returns:
        The terms to report, and the chunks without gradient, for the critic to learn from.
    """
    terms: dict[str, float] = {}
    chunks = []
    for rolled in roll_out(student, vae, batch, config, gradient_step, generator):
        if gradient_step is not None:
            loss, g = student_loss(teacher, critic, rolled, batch.reference, config, generator)
            (loss / config.chunks).backward()
            for name, value in (("student", loss), ("direction", g)):
                terms[name] = terms.get(name, 0.0) + value.item() / config.chunks
        chunks.append(dataclasses.replace(rolled, xhat=rolled.sample))
    return terms, chunks


def critic_loss(
    critic: TalkingHeadDiT,
    chunks: Sequence[RolledChunk],
    reference: Tensor,
    config: AKDTraining,
    generator: torch.Generator,
) -> Tensor:
    """Flow matching on one of the student's chunks, under the student's continuity."""
    rolled = chunks[int(torch.randint(len(chunks), (1,), generator=generator))]
    u = draw_levels(reference.shape[0], config.shift, generator)
    eps = torch.randn(rolled.sample.shape, generator=generator)
    count = torch.full((reference.shape[0],), rolled.student_continuity.shape[2])
    given = given_frames(count, reference.shape[2])
    denoise = condition(critic, rolled.windows, reference)
    return flow_matching_loss(denoise, rolled.sample, given, u, eps, 1 + config.mouth_weight * rolled.mask)


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
            loss = critic_loss(self.critic, chunks, batch.reference, self.config, generator)
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
        TrainingError: the teacher was trained with the other kind of reference.
    """
    torch.manual_seed(config.seed)
    teacher, metadata = load_network(teacher_path)
    check_reference(teacher_path, metadata, config)
    vae = NanoVAE.from_checkpoint(*read_checkpoint(vae_path)).to(device)
    student, critic = (load_network(teacher_path)[0].to(device).train().requires_grad_(True) for _ in range(2))
    optimizers: dict[str, torch.optim.Optimizer] = {
        "student": torch.optim.AdamW(student.parameters(), betas=(0.0, 0.99), weight_decay=0.0),
        "critic": torch.optim.AdamW(critic.parameters(), betas=(0.0, 0.99), weight_decay=0.0),
    }
    optimizers["critic"].param_groups[0]["lr_ratio"] = config.critic_lr_ratio
    ema = Ema(student, config.ema_decay)
    state = TrainingState(
        {"student": student, "critic": critic}, optimizers, {"student": ema}, dataclasses.asdict(config)
    )
    count = config.batch * config.steps
    clips = PreparedClips(data, config.seed, count, chunks=config.chunks, reference=config.reference)
    strip = SampleStrip(clips, vae_path, out)
    sampling = SamplingConfig("few_step", config.denoising_steps, config.shift)
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
