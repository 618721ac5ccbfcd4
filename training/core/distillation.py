"""Asymmetric knowledge distillation (arXiv 2605.02948): the student's rollout, and the losses of student and critic."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ...models.chunks import continuity_frames
from ...models.codec import VideoCodec
from ...models.color import match_color
from ...models.dit import TalkingHeadDiT
from ...models.flow import Denoise, apply_continuity, sample_chunk, schedule
from ...models.nano_vae import NanoVAE
from .chunks import CONTINUITY_LATENTS, stride_of
from .config import RunConfig, TrainingError
from .data import Batch
from .device import full_precision
from .inference import ReferenceTraining, condition
from .objectives import distribution_matching_loss, draw_levels, flow_matching_loss, given_frames, uncertain

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
    teacher's against silence. With ``guide_mouth``, it holds only at the mouth, so that the rest of the face keeps its
    identity, and ``blink_guidance`` holds at blinking eyes, against open ones;
    ``mouth_weight`` and ``reference_noise`` are as in the teacher's training.
    ``critic_warmup`` updates of the critic alone come first: it has to fit the student before its gradient means
    anything.
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
    reference_noise: float = 0.0
    guide_mouth: bool = False
    blink_guidance: float = 1.0

    def __post_init__(self) -> None:
        if self.continuity not in CONTINUITIES:
            raise TrainingError(f"continuity must be one of {CONTINUITIES}, got {self.continuity!r}")
        if self.blink_guidance != 1 and not self.guide_mouth:
            raise TrainingError("blink_guidance needs guide_mouth: without it, guidance holds everywhere")

    @property
    def reference_training(self) -> ReferenceTraining:
        """The reference that the teacher must have been trained with."""
        return ReferenceTraining(self.reference, self.reference_noise)


@dataclass(frozen=True)
class RolledChunk:
    """One chunk of a rollout [B, C, T, h, w] and the conditions it was made under.

    ``xhat`` is the x0 of the denoising step that carries the gradient, ``sample`` the finished chunk without one,
    ``reference`` as the networks see it, ``mask`` and ``watched`` those of the batch.
    """

    xhat: Tensor
    sample: Tensor
    reference: Tensor
    windows: Tensor
    student_continuity: Tensor
    clip_continuity: Tensor
    mask: Tensor
    watched: Tensor


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
        reference = uncertain(batch.reference, config.reference_noise, generator)
        xhat, sample = _sample(student, reference, windows, continuity, config, gradient_step, generator)
        mask, watched = batch.mask[:, chunk], batch.watched[:, chunk]
        yield RolledChunk(xhat, sample, reference, windows, continuity, clip_continuity, mask, watched)
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


def draw_gradient_step(config: AKDTraining, generator: torch.Generator) -> int:
    """The denoising step that carries a rollout's gradient."""
    return int(torch.randint(config.denoising_steps, (1,), generator=generator))


def _guidance(config: AKDTraining, rolled: RolledChunk) -> float | Tensor:
    """The teacher's guidance; with ``guide_mouth``, one for each site."""
    if not config.guide_mouth or config.guidance == config.blink_guidance == 1:
        return config.guidance
    mouth = (config.guidance - 1) * _near(rolled.mask)
    eyes = (config.blink_guidance - 1) * _near(rolled.watched - rolled.mask)
    return 1 + torch.maximum(mouth, eyes)


def _near(mask: Tensor) -> Tensor:
    """The sites [B, 1, T, h, w] of ``mask`` and their neighbours."""
    return torch.nn.functional.max_pool3d(mask, (1, 3, 3), stride=1, padding=(0, 1, 1))


def student_loss(
    teacher: TalkingHeadDiT,
    critic: TalkingHeadDiT,
    rolled: RolledChunk,
    config: AKDTraining,
    generator: torch.Generator,
) -> tuple[Tensor, Tensor]:
    """Distribution matching on one chunk, the teacher under its own continuity: the loss, and mean|g|."""
    u = draw_levels(len(rolled.xhat), config.shift, generator)
    eps = torch.randn(rolled.xhat.shape, generator=generator)
    seen_by_teacher = rolled.student_continuity if config.continuity == "symmetric-self" else rolled.clip_continuity
    with torch.no_grad():
        # Against silence with open eyes.
        silence = torch.zeros_like(rolled.windows) if config.guide_mouth else None
        guidance = _guidance(config, rolled)
        real: Denoise = condition(teacher, rolled.windows, rolled.reference, guidance, silence)
        fake: Denoise = condition(critic, rolled.windows, rolled.reference)
    weight = 1 + config.mouth_weight * rolled.watched
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
            loss, g = student_loss(teacher, critic, rolled, config, generator)
            (loss / config.chunks).backward()
            for name, value in (("student", loss), ("direction", g)):
                terms[name] = terms.get(name, 0.0) + value.item() / config.chunks
        chunks.append(dataclasses.replace(rolled, xhat=rolled.sample))
    return terms, chunks


def critic_loss(
    critic: TalkingHeadDiT,
    chunks: Sequence[RolledChunk],
    config: AKDTraining,
    generator: torch.Generator,
) -> Tensor:
    """Flow matching on one of the student's chunks, under the student's continuity."""
    rolled = chunks[int(torch.randint(len(chunks), (1,), generator=generator))]
    people, _, num_latents = rolled.sample.shape[:3]
    u = draw_levels(people, config.shift, generator)
    eps = torch.randn(rolled.sample.shape, generator=generator)
    given = given_frames(torch.full((people,), rolled.student_continuity.shape[2]), num_latents)
    denoise = condition(critic, rolled.windows, rolled.reference)
    return flow_matching_loss(denoise, rolled.sample, given, u, eps, 1 + config.mouth_weight * rolled.watched)
