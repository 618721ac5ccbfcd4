"""Train the teacher: flow matching with TRE, audio and ground-truth continuity. ``python -m training teacher``."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torch.utils.tensorboard import SummaryWriter

from models.audio import MEL_CHANNELS
from models.checkpoint import read_checkpoint, write_checkpoint
from models.config import AudioConfig, DiTConfig, SamplingConfig
from models.dit import TalkingHeadDiT
from models.flow import shift_time

from .config import learning_rate, set_learning_rate
from .data import Batch, PreparedClips
from .state import Ema, TrainingState

log = logging.getLogger(__name__)

MOUTH_VALUES = 3
SAVE_EVERY = 200


@dataclass(frozen=True)
class TeacherTraining:
    """Configuration of a teacher run.

    ``audio_steps`` steps first train the audio projection alone to tell the mouth's motion (minutes instead of hours
    until cross-attention has something to read); ``mouth_weight`` is added to the flow loss on sites of the mouth.
    Until ``crop_until`` of the steps the network sees windows of ``crop`` x ``crop`` latent sites, which hold the face:
    attention over fewer tokens makes a step twice as fast, and rotary positions are relative.
    """

    seed: int
    steps: int
    batch: int
    learning_rate: float
    warmup: int
    decay: float
    audio_steps: int
    audio_batch: int
    audio_weight: float
    audio_dropout: float
    mouth_weight: float
    crop: int
    crop_until: float
    shift: float
    ema_decay: float
    dim: int
    layers: int
    heads: int
    latent_channels: int
    vae_stride: list[int]
    patch_size: list[int]
    audio_hidden: int
    audio_tokens: int
    sampling: dict[str, float | int | str]

    def network(self) -> DiTConfig:
        t, h, w = self.vae_stride
        pt, ph, pw = self.patch_size
        return DiTConfig(
            dim=self.dim,
            ffn_dim=4 * self.dim,
            num_heads=self.heads,
            num_layers=self.layers,
            in_dim=2 * self.latent_channels,
            out_dim=self.latent_channels,
            text_dim=8,
            vae_stride=(t, h, w),
            patch_size=(pt, ph, pw),
            prediction="reference_residual",
            audio=AudioConfig(
                blocks=1, channels=MEL_CHANNELS, intermediate_dim=self.audio_hidden, context_tokens=self.audio_tokens
            ),
        )


class MouthProbe(nn.Module):
    """Reads the mouth's motion off audio tokens: an auxiliary target that is not part of the shipped network."""

    def __init__(self, config: DiTConfig) -> None:
        super().__init__()
        self.stride_t = config.vae_stride[0]
        self.read = nn.Linear(config.audio.context_tokens * config.dim, self.stride_t * MOUTH_VALUES)

    def loss(self, tokens: Tensor, mouth: Tensor) -> Tensor:
        """``tokens`` [B, T, n, dim] against ``mouth`` [B, 1 + k*stride_t, 3]."""
        predicted = self.read(tokens.flatten(2))[:, 1:].unflatten(-1, (self.stride_t, MOUTH_VALUES))
        return nn.functional.mse_loss(predicted.flatten(1, 2), mouth[:, 1:])


def draw_noise(batch: Batch, config: TeacherTraining, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Noise eps like the latents, and levels u [B] along the shifted path."""
    eps = torch.randn(batch.latents.shape, generator=generator)
    s = torch.rand(batch.latents.shape[0], generator=generator)
    return eps, shift_time(s, config.shift)


def cropped(batch: Batch, size: int, generator: torch.Generator) -> Batch:
    """A random window of ``size`` x ``size`` latent sites, its corner on even sites."""
    free = batch.latents.shape[-1] - size
    top, left = (2 * torch.randint(free // 2 + 1, (2,), generator=generator)).tolist()
    window = (..., slice(top, top + size), slice(left, left + size))
    parts = {name: getattr(batch, name)[window] for name in ("latents", "reference", "mask")}
    return dataclasses.replace(batch, **parts)


def given_frames(batch: Batch) -> Tensor:
    """1 on latent frames that continuity gives, 0 on those to be made: [B, 1, T, 1, 1]."""
    frames = torch.arange(batch.latents.shape[2])
    return (frames < batch.continuity[:, None])[:, None, :, None, None].float()


def flow_loss(
    network: Callable[..., Tensor],
    tokens: Tensor,
    batch: Batch,
    config: TeacherTraining,
    generator: torch.Generator,
) -> Tensor:
    """Conditional flow matching (arXiv 2210.02747) with clean continuity frames laid over the noisy latents.

    The error of the flow is weighted by min(u, 1/2)^2 * 4, so that levels near the data, where the flow follows from x0
    by a division by u, do not outweigh the noisy ones that few-step sampling lives on.
    """
    eps, u = draw_noise(batch, config, generator)
    level = u[:, None, None, None, None]
    given = given_frames(batch)
    x = torch.lerp(torch.lerp(batch.latents, eps, level), batch.latents, given)
    flow = network(x, 1000 * u, tokens, batch.reference)
    weight = (1 - given) * (1 + config.mouth_weight * batch.mask)
    error = (flow - (eps - batch.latents)).square() * 4 * level.clamp_max(0.5).square()
    return (error * weight).sum() / (weight.sum() * batch.latents.shape[1])


def drop_audio(windows: Tensor, probability: float, generator: torch.Generator) -> Tensor:
    """Zero the audio of some samples, so that the network can be guided against silence."""
    keep = torch.rand(windows.shape[0], generator=generator) >= probability
    return windows * keep[:, None, None, None, None]


def train(
    config: TeacherTraining, data: Path, out: Path, workers: int, compile_network: bool, start: Path | None = None
) -> None:
    """Train (or take up) a run in ``out``; writes ``state.safetensors`` and ``teacher.safetensors`` (averaged).

    Args:
        start: checkpoint whose weights a new run starts from.
    """
    torch.manual_seed(config.seed)
    network = TalkingHeadDiT(config.network())
    network.initialise()
    if start is not None:
        network.load_state_dict(read_checkpoint(start)[0])
    probe = MouthProbe(config.network())
    optimizer = torch.optim.AdamW([*network.parameters(), *probe.parameters()], betas=(0.9, 0.98), weight_decay=0.01)
    ema = Ema(network, config.ema_decay)
    networks = {"teacher": network, "probe": probe}
    state = TrainingState(networks, {"adamw": optimizer}, {"teacher": ema}, dataclasses.asdict(config))
    if state.resume(out / "state.safetensors"):
        log.info("taking up the run in %s at step %d", out, state.step)
    writer = SummaryWriter(str(out / "tensorboard"), purge_step=state.step)
    forward = torch.compile(network, dynamic=False) if compile_network else network
    for batch in batches(config, data, state.step, workers):
        generator = torch.Generator().manual_seed(config.seed * 1_000_003 + state.step)
        rate = learning_rate(state.step, config.steps, config.learning_rate, config.warmup, config.decay)
        set_learning_rate(optimizer, rate)
        audio_only = state.step < config.audio_steps
        kept = batch.windows if audio_only else drop_audio(batch.windows, config.audio_dropout, generator)
        probe_loss = probe.loss(network.encode_audio(batch.windows), batch.mouth)
        loss = config.audio_weight * probe_loss
        terms = {"mouth": probe_loss.item()}
        if not audio_only:
            if state.step < config.crop_until * config.steps:
                batch = cropped(batch, config.crop, generator)
            flow = flow_loss(forward, network.encode_audio(kept), batch, config, generator)
            loss = loss + flow
            terms["flow"] = flow.item()
        loss.backward()
        terms["gradient"] = nn.utils.clip_grad_norm_(network.parameters(), 1.0).item()
        optimizer.step()
        optimizer.zero_grad()
        state.step += 1
        ema.update(network, state.step)
        report(writer, state.step, terms)
        if state.step % SAVE_EVERY == 0 or state.step == config.steps:
            state.save(out / "state.safetensors")
            export(config, ema, out / "teacher.safetensors")
    writer.close()


def batches(config: TeacherTraining, data: Path, step: int, workers: int) -> Iterator[Batch]:
    """Batches from ``step`` on: large ones while the audio projection trains alone, then the network's."""
    sizes = [config.audio_batch] * config.audio_steps + [config.batch] * (config.steps - config.audio_steps)
    ends = list(accumulate(sizes))
    clips = PreparedClips(data, config.seed, ends[-1])
    order = [list(range(end - size, end)) for size, end in zip(sizes, ends, strict=True)][step:]
    for tensors in DataLoader(clips, batch_sampler=order, num_workers=workers, prefetch_factor=8 if workers else None):
        yield Batch(*tensors)


def report(writer: SummaryWriter, step: int, terms: Mapping[str, float]) -> None:
    for name, value in terms.items():
        writer.add_scalar(f"teacher/{name}", value, step)
    if step % 20 == 0:
        log.info("step %d: %s", step, ", ".join(f"{name} {value:.4f}" for name, value in terms.items()))


def export(config: TeacherTraining, ema: Ema, path: Path) -> None:
    """Write the averaged teacher as a checkpoint that the loader reads."""
    sampling = SamplingConfig(**config.sampling)  # type: ignore[arg-type]
    write_checkpoint(path, ema.shadow, config.network().to_metadata() | sampling.to_metadata())
