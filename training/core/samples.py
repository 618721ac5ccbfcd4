"""Strips of a network's current output, beside the truth."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch
from einops import rearrange
from torch import Tensor

from ...models.checkpoint import read_checkpoint
from ...models.config import DiTConfig, SamplingConfig
from ...models.dit import TalkingHeadDiT
from ...models.flow import SAMPLERS, chunk_noise
from ...models.nano_vae import NanoVAE
from .articulation import articulated
from .data import Batch, PreparedClips
from .images import save_strip, shrunk
from .inference import ReferenceTraining, condition, condition_on_tokens
from .objectives import uncertain

SAMPLES, COLUMNS = 3, 9


class SampleStrip:
    """Generates the same few chunks at intervals during training; without a ``vae`` it does nothing.

    The network is conditioned on ``condition_on``: "audio" or the true "articulation".
    """

    def __init__(self, clips: PreparedClips, vae: Path | None, out: Path, condition_on: str = "audio") -> None:
        self.condition_on = condition_on
        self.vae = None if vae is None else NanoVAE.from_checkpoint(*read_checkpoint(vae))
        self.clips, self.out = clips, out

    @torch.no_grad()
    def save(self, weights: Mapping[str, Tensor], metadata: Mapping[str, str], step: int) -> None:
        """Write ``samples_STEP.png``: a row of generated frames over a row of true ones for every sample."""
        if self.vae is None:
            return
        network = TalkingHeadDiT(DiTConfig.from_state_dict(weights, metadata)).eval()
        network.load_state_dict(weights)
        sampling, noise = SamplingConfig.from_metadata(metadata), ReferenceTraining.from_metadata(metadata).noise
        rows = []
        for index in range(SAMPLES):
            # Speech, noise and position of a sample that no step uses.
            sample = self.clips[len(self.clips) + index]
            batch = Batch(*(part[None] for part in sample))
            drawn = torch.Generator().manual_seed(index)
            batch = replace(batch, reference=uncertain(batch.reference, noise, drawn))
            made = sample_batch(network, batch, sampling, self.condition_on)
            for latents in (made, batch.latents[:, 0]):
                frames = self.vae.decode(latents)[0]
                rows.append(frames[:, torch.linspace(0, frames.shape[1] - 1, COLUMNS).long()])
        pixels = rearrange(torch.stack(rows), "n c f h w -> (n f) c h w").clamp(-1, 1)
        save_strip(shrunk(pixels), COLUMNS, self.out / f"samples_{step:06d}.png")


def sample_batch(
    network: TalkingHeadDiT, batch: Batch, sampling: SamplingConfig, condition_on: str = "audio"
) -> Tensor:
    """The first chunk of one sample, from its true continuity frames: latents [1, C, T, h, w]."""
    sampler = SAMPLERS[sampling.sampler]
    if condition_on == "articulation":
        tokens = network.audio_proj.tokens(articulated(network, batch.mouth[:, 0], batch.windows[:, 0]))
        denoise = condition_on_tokens(network, tokens, batch.reference)
    else:
        denoise = condition(network, batch.windows[:, 0], batch.reference, sampling.guidance)
    continuity = batch.latents[:, 0, :, : int(batch.continuity)]
    draws = sampler.draws(batch.reference, chunk_noise(0, 0, tuple(batch.reference.shape)))
    return sampler.sample(denoise, sampler.schedule(sampling.steps, sampling.shift), continuity, draws)
