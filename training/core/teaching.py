"""The teacher's loss, for networks of every size."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

from ...models.blinks import silenced
from ...models.config import AudioConfig
from .data import Batch
from .inference import denoiser
from .objectives import draw_levels, flow_matching_loss, given_frames

FAMILY = AudioConfig()


class LossConfig(Protocol):
    """The part of a trainer's configuration that ``teacher_loss`` uses."""

    @property
    def shift(self) -> float: ...
    @property
    def mouth_weight(self) -> float: ...


def drop_audio(windows: Tensor, probability: float, generator: torch.Generator, config: AudioConfig = FAMILY) -> Tensor:
    """Zero the audio of some samples, so that the network can be guided against silence."""
    keep = torch.rand(windows.shape[0], generator=generator) >= probability
    return torch.where(keep[:, None, None, None, None], windows, silenced(windows, config))


def teacher_loss(
    network: Callable[..., Tensor],
    tokens: Tensor,
    batch: Batch,
    config: LossConfig,
    generator: torch.Generator,
) -> Tensor:
    """Flow matching on one chunk of each sample, its continuity frames given from the ground truth.

    ``network`` is ``TalkingHeadDiT`` or a wrapper of one.
    """
    x0 = batch.latents[:, 0]
    eps = torch.randn(x0.shape, generator=generator)
    u = draw_levels(x0.shape[0], config.shift, generator)
    given = given_frames(batch.continuity, x0.shape[2])
    weight = 1 + config.mouth_weight * batch.watched[:, 0]
    denoise = denoiser(lambda x, timestep: network(x, timestep, tokens, batch.reference))
    return flow_matching_loss(denoise, x0, given, u, eps, weight)
