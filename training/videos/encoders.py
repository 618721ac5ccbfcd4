"""Encodes a clip's pictures and sound as a network's latents and audio features."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from ...models.checkpoint import read_checkpoint
from ...models.nano_vae import SPATIAL_STRIDE, STRIDE_T, NanoVAE
from ..core.config import TrainingError
from ..core.family import GEOMETRIES
from ..core.paths import VAE as NANO_VAE


@dataclass(frozen=True)
class ClipEncoder:
    """A network's encoders.

    ``encode`` takes pixels [1, 3, F, H, W] in [-1, 1] to latents [1, C, T, h, w], F = 1 + k * ``stride_t``;
    ``encode_audio`` takes speech [N] at 16 kHz to features [frames, blocks, channels], and is None where trainers make
    the features from the speech themselves, augmented afresh each time. Pictures are multiples of ``multiple`` pixels.
    """

    encode: Callable[[Tensor], Tensor]
    encode_audio: Callable[[Tensor], Tensor] | None
    stride_t: int
    multiple: int


def load_encoder(model: str, vae: Path | None, audio_encoder: Path | None) -> ClipEncoder:
    """The encoders of ``model``; files that are not named are nano's bundled one, or found in ComfyUI's folders.

    Raises:
        FileNotFoundError, CheckpointError: a file is missing or cannot be used.
    """
    if model == "nano":
        if audio_encoder is not None:
            raise TrainingError("--audio-encoder: nano needs none")
        codec = NanoVAE.from_checkpoint(*read_checkpoint(vae or NANO_VAE))
        return ClipEncoder(codec.encode, None, STRIDE_T, SPATIAL_STRIDE)
    from ..core.host import SpeechEncoder, stock_codec

    config = GEOMETRIES[model]
    codec = stock_codec(config, model, vae)
    return ClipEncoder(
        codec.encode, SpeechEncoder(model, audio_encoder), config.vae_stride[0], max(config.pixel_multiple)
    )
