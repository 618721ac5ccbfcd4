"""A trained network outside ComfyUI, for the trainers and the evaluation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ...models.checkpoint import read_checkpoint
from ...models.config import DiTConfig, SamplingConfig
from ...models.dit import TalkingHeadDiT
from ...models.flow import Denoise, velocity_to_x0
from ...models.reference import ReferenceKind

REFERENCE_NOISE = "reference_noise"
"""Metadata entry of networks that were trained with an uncertain reference."""


def load_network(path: Path) -> tuple[TalkingHeadDiT, dict[str, str]]:
    """A trained network in float32 and its file's metadata."""
    tensors, metadata = read_checkpoint(path)
    network = TalkingHeadDiT(DiTConfig.from_state_dict(tensors, metadata))
    network.load_state_dict(tensors)
    return network.float().eval().requires_grad_(False), metadata


@dataclass(frozen=True)
class TrainedNetwork:
    """A network, how it is sampled, and the ``reference`` that it was trained with: its kind and its noise."""

    network: TalkingHeadDiT
    sampling: SamplingConfig
    reference: str
    reference_noise: float


def load_for_sampling(path: Path) -> TrainedNetwork:
    """A trained network with what its file's metadata tells."""
    network, metadata = load_network(path)
    reference = metadata.get("reference", ReferenceKind.TRE)
    noise = float(metadata.get(REFERENCE_NOISE, 0.0))
    return TrainedNetwork(network, SamplingConfig.from_metadata(metadata), reference, noise)


def condition(network: TalkingHeadDiT, windows: Tensor, reference: Tensor, guidance: float = 1.0) -> Denoise:
    """x0 [B, C, T, h, w] at level u [] or [B], given ``windows`` [B, F, 5, blocks, channels] and ``reference``.

    ``guidance`` above 1 moves away from what silence gives.
    """
    silence = network.encode_audio(torch.zeros_like(windows)) if guidance != 1 else None
    return condition_on_tokens(network, network.encode_audio(windows), reference, silence, guidance)


def condition_on_tokens(
    network: TalkingHeadDiT, tokens: Tensor, reference: Tensor, silent: Tensor | None = None, guidance: float = 1.0
) -> Denoise:
    """As ``condition``, given audio tokens [B, T, n, dim]; ``silent`` are those of silence, to guide against."""
    speech = network.audio_keys_values(tokens)
    silence = None if silent is None else network.audio_keys_values(silent)

    def velocity(x: Tensor, timestep: Tensor) -> Tensor:
        flow = network.velocity(x, timestep, speech, reference)
        if silence is not None:
            flow = torch.lerp(network.velocity(x, timestep, silence, reference), flow, guidance)
        return flow

    return denoiser(velocity)


def denoiser(velocity: Callable[[Tensor, Tensor], Tensor]) -> Denoise:
    """x0 from the flow that ``velocity(x, timesteps [B])`` predicts."""

    def denoise(x: Tensor, u: Tensor) -> Tensor:
        return velocity_to_x0(x, u, velocity(x, 1000 * u.expand(x.shape[0])))

    return denoise
