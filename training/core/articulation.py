"""The articulation in a latent frame, as the first hidden units of nano's audio projection.

The audio projection is trained to predict articulation, the transformer to draw it, each from the truth and each on its
own: the one needs thousands of voices and no picture, the other needs pictures and no voice. Both meet in these units.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ...models.audio import frames_of_latents
from ...models.config import DiTConfig
from ...models.dit import TalkingHeadDiT
from ..corpus.motion import Pose, opening
from ..corpus.viseme import CHANNELS

ARTICULATION = ("opening", *CHANNELS)
VALUES = len(ARTICULATION)
# Hidden units pass a ReLU: what may be negative is raised.
_WIDTH = ARTICULATION.index("width")


def articulation_of(poses: np.ndarray) -> np.ndarray:
    """``ARTICULATION`` [F, 8] of ``poses`` [F, len(POSE_FIELDS)], or of mouth channels alone."""
    channels = poses[:, : len(CHANNELS)]
    # A pose's first fields are the mouth's channels.
    gaps = [opening(Pose(*map(float, row))) for row in channels]
    return np.column_stack([gaps, channels]).astype(np.float32)


def per_latent(articulation: Tensor, stride_t: int) -> Tensor:
    """[B, 1 + k*stride_t, 8] of frames -> [B, 1 + k, stride_t * 8] of latent frames; the first repeats its frame."""
    values = frames_of_latents(articulation, stride_t)
    values[..., _WIDTH] = 0.5 + 0.5 * values[..., _WIDTH]
    return values.flatten(2)


def hidden_units(articulation: Tensor, config: DiTConfig) -> Tensor:
    """``AudioProjection``'s hidden units [B, 1 + k, intermediate_dim] for a true articulation, the others silent."""
    units = per_latent(articulation, config.vae_stride[0])
    return torch.nn.functional.pad(units, (0, config.audio.intermediate_dim - units.shape[-1]))


def articulated(network: TalkingHeadDiT, articulation: Tensor, windows: Tensor) -> Tensor:
    """``hidden_units`` of a chunk, with the lids of its audio ``windows`` if the network is told of them."""
    projection = network.audio_proj
    return projection.told_of(hidden_units(articulation, network.config), projection.lids_of(windows))


def articulation_loss(hidden: Tensor, articulation: Tensor, stride_t: int, opening_weight: float = 1.0) -> Tensor:
    """Mean squared error of the first ``hidden`` units, where the articulation is known (not NaN)."""
    truth = per_latent(articulation, stride_t)
    known = truth.isfinite()
    error = (hidden[..., : truth.shape[-1]] - truth.nan_to_num()).square() * known
    weight = error.new_ones(VALUES)
    weight[0] = opening_weight
    return (error * weight.repeat(stride_t)).sum() / known.sum().clamp_min(1)
