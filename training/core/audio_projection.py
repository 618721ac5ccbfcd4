"""The audio projection's tensors in checkpoints, which one recipe trains and another starts from."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from ...models.checkpoint import read_checkpoint
from ...models.dit import TalkingHeadDiT
from .articulation import VALUES
from .config import TrainingError

PREFIX = "audio_proj."
# Up to the hidden units; the rest of the projection belongs to the transformer that reads its tokens.
AUDIO_HIDDEN = tuple(PREFIX + part for part in ("context.", "proj1.", "proj1_vf.", "proj2."))


@torch.no_grad()
def copy_audio_projection(network: TalkingHeadDiT, path: Path) -> None:
    """Copy the audio projection of the checkpoint at ``path``, up to its hidden units, to ``network``.

    Its tokens know nothing yet of hidden units beside those of the articulation: these say nothing at first. Lids stay.

    Raises:
        TrainingError: the file has no audio projection, or one of another shape.
    """
    given = part(read_checkpoint(path)[0], AUDIO_HIDDEN)
    if shapes(given) != shapes(part(network.state_dict(), AUDIO_HIDDEN)):
        raise TrainingError(f"{path} holds no audio projection of this network's shape")
    network.load_state_dict(given, strict=False)
    stride_t, weight = network.config.vae_stride[0], network.audio_proj.proj3.weight
    weight[:, VALUES * stride_t : weight.shape[1] - stride_t * network.config.audio.lids] = 0


def part(tensors: Mapping[str, Tensor], prefix: str | tuple[str, ...]) -> dict[str, Tensor]:
    """Those of ``tensors`` whose names begin so."""
    return {name: value for name, value in tensors.items() if name.startswith(prefix)}


def shapes(tensors: Mapping[str, Tensor]) -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in tensors.items()}
