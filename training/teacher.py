"""Train the teacher: flow matching with TRE, audio and ground-truth continuity. ``python -m training teacher``."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor, nn

from models.audio import MEL_CHANNELS
from models.checkpoint import read_checkpoint, write_checkpoint
from models.config import AudioConfig, DiTConfig, SamplingConfig
from models.dit import TalkingHeadDiT

from .data import Batch, PreparedClips, load_batches
from .latents import MOUTH_VALUES
from .loop import TrainingRun
from .objectives import Denoise, draw_levels, flow_matching_loss
from .samples import SampleStrip
from .state import Ema, TrainingState


@dataclass(frozen=True)
class TeacherTraining:
    """Configuration of a teacher run.

    ``audio_steps`` steps first train the audio projection alone to tell the mouth's motion (minutes instead of hours
    until cross-attention has something to read); ``mouth_weight`` is added to the flow loss on sites of the mouth.
    Until ``crop_until`` of the steps the network sees windows of ``crop`` x ``crop`` latent sites, which hold the face:
    attention over fewer tokens makes a step twice as fast, and rotary positions are relative. ``reference`` "static" is
    the baseline without TRE.
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
    save_every: int
    reference: str
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


class LossConfig(Protocol):
    """What ``teacher_loss`` reads of a trainer's configuration."""

    @property
    def shift(self) -> float: ...
    @property
    def mouth_weight(self) -> float: ...


class MouthProbe(nn.Module):
    """Reads the mouth's motion off audio tokens: an auxiliary target that is not part of the shipped network."""

    def __init__(self, config: DiTConfig) -> None:
        super().__init__()
        self.stride_t = config.vae_stride[0]
        self.read = nn.Linear(config.audio.context_tokens * config.dim, self.stride_t * MOUTH_VALUES)

    def loss(self, tokens: Tensor, mouth: Tensor) -> Tensor:
        """``tokens`` [B, T, n, dim] against ``mouth`` [B, 1 + k*stride_t, 3], as far as that is known (not NaN)."""
        predicted = self.read(tokens.flatten(2))[:, 1:].unflatten(-1, (self.stride_t, MOUTH_VALUES))
        known = mouth[:, 1:].isfinite()
        error = (predicted.flatten(1, 2) - mouth[:, 1:].nan_to_num()).square() * known
        return error.sum() / known.sum().clamp_min(1)


def cropped(batch: Batch, size: int, generator: torch.Generator) -> Batch:
    """A random window of ``size`` x ``size`` latent sites, its corner on even sites."""
    free = batch.latents.shape[-1] - size
    top, left = (2 * torch.randint(free // 2 + 1, (2,), generator=generator)).tolist()
    window = (..., slice(top, top + size), slice(left, left + size))
    parts = {name: getattr(batch, name)[window] for name in ("latents", "reference", "mask")}
    return dataclasses.replace(batch, **parts)


def given_frames(continuity: Tensor, num_latents: int) -> Tensor:
    """1 on latent frames that continuity gives, 0 on those to be made: [B, 1, T, 1, 1]."""
    return (torch.arange(num_latents) < continuity[:, None])[:, None, :, None, None].float()


def drop_audio(windows: Tensor, probability: float, generator: torch.Generator) -> Tensor:
    """Zero the audio of some samples, so that the network can be guided against silence."""
    keep = torch.rand(windows.shape[0], generator=generator) >= probability
    return windows * keep[:, None, None, None, None]


def denoiser(network: Callable[..., Tensor], tokens: Tensor, reference: Tensor) -> Denoise:
    """x0 from a ``network`` (``TalkingHeadDiT`` or a wrapper of one) that predicts the flow."""

    def denoise(x: Tensor, u: Tensor) -> Tensor:
        return x - u[:, None, None, None, None] * network(x, 1000 * u, tokens, reference)

    return denoise


def teacher_loss(
    network: Callable[..., Tensor],
    tokens: Tensor,
    batch: Batch,
    config: LossConfig,
    generator: torch.Generator,
) -> Tensor:
    """Flow matching on one chunk of each sample, its continuity frames given from the ground truth."""
    x0 = batch.latents[:, 0]
    eps = torch.randn(x0.shape, generator=generator)
    u = draw_levels(x0.shape[0], config.shift, generator)
    given = given_frames(batch.continuity, x0.shape[2])
    weight = 1 + config.mouth_weight * batch.mask[:, 0]
    return flow_matching_loss(denoiser(network, tokens, batch.reference), x0, given, u, eps, weight)


def train(
    config: TeacherTraining,
    data: Path,
    out: Path,
    workers: int,
    compile_network: bool,
    start: Path | None = None,
    vae: Path | None = None,
) -> None:
    """Train (or take up) a run in ``out``; writes ``state.safetensors`` and ``teacher.safetensors`` (averaged).

    Args:
        start: checkpoint whose weights a new run starts from.
        vae: checkpoint to decode sample strips with; None makes none.
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
    sizes = [config.audio_batch] * config.audio_steps + [config.batch] * (config.steps - config.audio_steps)
    clips = PreparedClips(data, config.seed, sum(sizes), reference=config.reference)
    strip = SampleStrip(clips, vae, out)

    def publish() -> None:
        metadata = export(config, ema, out / "teacher.safetensors")
        strip.save(ema.shadow, metadata, state.step)

    run = TrainingRun("teacher", out, config, state, publish)
    forward = torch.compile(network, dynamic=False) if compile_network else network
    for batch in load_batches(clips, sizes, state.step, workers):
        generator = run.generator()
        run.set_learning_rate()
        terms, loss = step_losses(network, forward, probe, batch, config, generator, state.step)
        loss.backward()
        terms["gradient"] = nn.utils.clip_grad_norm_(network.parameters(), 1.0).item()
        optimizer.step()
        optimizer.zero_grad()
        run.finish_step(terms)
    run.close()


def step_losses(
    network: TalkingHeadDiT,
    forward: Callable[..., Tensor],
    probe: MouthProbe,
    batch: Batch,
    config: TeacherTraining,
    generator: torch.Generator,
    step: int,
) -> tuple[dict[str, float], Tensor]:
    """The terms to report and the loss of one step; the audio projection trains alone at first."""
    windows = batch.windows[:, 0]
    probe_loss = probe.loss(network.encode_audio(windows), batch.mouth[:, 0])
    loss = config.audio_weight * probe_loss
    terms = {"mouth": probe_loss.item()}
    if step >= config.audio_steps:
        if step < config.crop_until * config.steps:
            batch = cropped(batch, config.crop, generator)
        kept = drop_audio(windows, config.audio_dropout, generator)
        flow = teacher_loss(forward, network.encode_audio(kept), batch, config, generator)
        loss = loss + flow
        terms["flow"] = flow.item()
    return terms, loss


def export(config: TeacherTraining, ema: Ema, path: Path) -> dict[str, str]:
    """Write the averaged teacher as a checkpoint that the loader reads; returns its metadata."""
    sampling = SamplingConfig(**config.sampling)  # type: ignore[arg-type]
    metadata = config.network().to_metadata() | sampling.to_metadata() | {"reference": config.reference}
    write_checkpoint(path, ema.shadow, metadata)
    return metadata
