"""A trained network outside ComfyUI, for the trainers and the evaluation."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ...models.blinks import silenced
from ...models.checkpoint import read_checkpoint
from ...models.config import DiTConfig, SamplingConfig
from ...models.dit import TalkingHeadDiT
from ...models.flow import Denoise, velocity_to_x0
from ...models.reference import ReferenceKind
from .config import TrainingError


def load_network(path: Path) -> tuple[TalkingHeadDiT, dict[str, str]]:
    """A trained network in float32 and its file's metadata."""
    tensors, metadata = read_checkpoint(path)
    network = TalkingHeadDiT(DiTConfig.from_state_dict(tensors, metadata))
    network.load_state_dict(tensors)
    return network.float().eval().requires_grad_(False), metadata


@dataclass(frozen=True)
class ReferenceTraining:
    """The reference that a network was trained with: ``kind`` ("tre" or "static"), and ``noise`` as in `uncertain`."""

    kind: str = ReferenceKind.TRE.value
    noise: float = 0.0

    def to_metadata(self) -> dict[str, str]:
        """Entries of a checkpoint's metadata; the usual noise of 0 has none."""
        return {"reference": self.kind} | ({"reference_noise": str(self.noise)} if self.noise else {})

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, str]) -> ReferenceTraining:
        return cls(metadata.get("reference", cls.kind), float(metadata.get("reference_noise", cls.noise)))

    def check(self, path: Path, wanted: ReferenceTraining) -> None:
        """Raises TrainingError, which names the checkpoint at ``path``, unless this is what is ``wanted``."""
        if self != wanted:
            raise TrainingError(f"{path} was trained with {self}, but {wanted} is needed")

    def __str__(self) -> str:
        return f"reference {self.kind!r} and reference noise {self.noise:g}"


@dataclass(frozen=True)
class TrainedNetwork:
    """A network, how it is sampled, and the reference that it was trained with."""

    network: TalkingHeadDiT
    sampling: SamplingConfig
    reference: ReferenceTraining


def load_for_sampling(path: Path) -> TrainedNetwork:
    """A trained network with what its file's metadata says."""
    network, metadata = load_network(path)
    return TrainedNetwork(network, SamplingConfig.from_metadata(metadata), ReferenceTraining.from_metadata(metadata))


def condition(
    network: TalkingHeadDiT,
    windows: Tensor,
    reference: Tensor,
    guidance: float | Tensor = 1.0,
    silence: Tensor | None = None,
) -> Denoise:
    """x0 [B, C, T, h, w] at level u [] or [B], given ``windows`` [B, F, 5, blocks, channels] and ``reference``.

    ``guidance`` above 1 moves away from what the windows ``silence`` give: without speech, but with the same blinks, if
    none are given. It may be one for each site, [B, 1, T, h, w].
    """
    if isinstance(guidance, Tensor) or guidance != 1:
        silence = silenced(windows, network.config.audio) if silence is None else silence
        silent = network.encode_audio(silence)
    else:
        silent = None
    return condition_on_tokens(network, network.encode_audio(windows), reference, silent, guidance)


def condition_on_tokens(
    network: TalkingHeadDiT,
    tokens: Tensor,
    reference: Tensor,
    silent: Tensor | None = None,
    guidance: float | Tensor = 1.0,
) -> Denoise:
    """As ``condition``, given audio tokens [B, T, n, dim]; ``silent`` are those of silence, to guide against."""
    speech = network.audio_keys_values(tokens)
    silence = None if silent is None else network.audio_keys_values(silent)

    def velocity(x: Tensor, timestep: Tensor) -> Tensor:
        flow = network.velocity(x, timestep, speech, reference)
        if silence is not None:
            weight = guidance.to(flow) if isinstance(guidance, Tensor) else guidance
            flow = torch.lerp(network.velocity(x, timestep, silence, reference), flow, weight)
        return flow

    return denoiser(velocity)


def denoiser(velocity: Callable[[Tensor, Tensor], Tensor]) -> Denoise:
    """x0 from the flow that ``velocity(x, timesteps [B])`` predicts."""

    def denoise(x: Tensor, u: Tensor) -> Tensor:
        return velocity_to_x0(x, u, velocity(x, 1000 * u.expand(x.shape[0])))

    return denoise
