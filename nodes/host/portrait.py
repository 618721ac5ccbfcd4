"""From an IMAGE and a size to the reference that conditions every chunk."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ...models.config import DiTConfig
from ...models.reference import Reference, fit_portrait, static_reference, temporal_reference
from .model import Checkpoint, talking_head
from .progress import tell
from .vae import StockVideoCodec

MODES = {"temporal": "tre", "static": "static"}
"""The node's words for the kinds of reference, and what checkpoints call them."""
SMALLEST_PORTRAIT = 16


def encode_reference(
    model: Any, vae: Any, image: Tensor, width: int, height: int, mode: str, node_id: str | None
) -> Reference:
    """Temporal Reference Encoding of a portrait (or its static baseline) for a MODEL.

    Raises:
        ValueError: the image, MODEL or VAE cannot be used; the message names the input.
    """
    network = talking_head(model)
    config, frames_per_chunk = network.checkpoint.config, network.checkpoint.sampling.frames_per_chunk
    codec = StockVideoCodec(vae, network)
    rgb, notes = checked_portrait(image)
    width, height, rounded = rounded_size(width, height, config)
    for note in (*notes, *rounded, *_unknown_mode(network.checkpoint, mode)):
        tell(node_id, note)
    # Colours are matched to the portrait where the network works.
    portrait = fit_portrait(rgb, width, height).to(model.load_device)
    if mode == "static":
        num_latents = config.latent_frames(frames_per_chunk)
        latents = static_reference(codec.encode, portrait, num_latents)
    else:
        latents = temporal_reference(codec.encode, portrait, frames_per_chunk)
    return Reference(latents, portrait, frames_per_chunk)


def _unknown_mode(checkpoint: Checkpoint, mode: str) -> list[str]:
    """A note if the MODEL was trained with the other kind of reference, of which it makes wrong pictures."""
    trained = next((word for word, kind in MODES.items() if kind == checkpoint.reference), mode)
    if trained == mode:
        return []
    return [f"{checkpoint.name} was trained with mode {trained}: with {mode} its pictures will be wrong"]


def checked_portrait(image: Tensor) -> tuple[Tensor, list[str]]:
    """One RGB picture [1, H, W, 3] in 0..1 of an IMAGE, and notes on what was changed.

    Raises:
        ValueError: a batch, an empty or tiny picture, NaN, or an unknown number of channels.
    """
    if image.ndim != 4 or image.shape[0] == 0:
        raise ValueError(f"image: expected an IMAGE [1, H, W, 3], got shape {tuple(image.shape)}")
    batch, height, width, channels = image.shape
    if batch > 1:
        raise ValueError(
            f"image: {batch} portraits in a batch, but a video shows one. To make one video each, put "
            "Rebatch Images (batch_size 1) before this node: the graph then runs once per portrait"
        )
    if min(height, width) < SMALLEST_PORTRAIT:
        raise ValueError(
            f"image: {width}x{height} is too small for a portrait (at least {SMALLEST_PORTRAIT} pixels a side)"
        )
    if not bool(torch.isfinite(image).all()):
        raise ValueError("image: the portrait contains NaN or infinite values")
    image = image.float().clamp(0, 1)
    if channels == 3:
        return image, []
    if channels == 1:
        return image.expand(-1, -1, -1, 3), ["the portrait is grey: used as RGB"]
    if channels == 4:
        rgb, alpha = image[..., :3], image[..., 3:]
        return rgb * alpha + (1 - alpha), ["the portrait has transparency: laid over white"]
    raise ValueError(f"image: {channels} channels; RGB, RGBA or grey can be used")


def rounded_size(width: int, height: int, config: DiTConfig) -> tuple[int, int, list[str]]:
    """The nearest size that the MODEL can make, and a note if that is another one than was asked for."""
    step_y, step_x = config.pixel_multiple
    fitted = max(step_x, round(width / step_x) * step_x), max(step_y, round(height / step_y) * step_y)
    if fitted == (width, height):
        return width, height, []
    note = f"{width}x{height} is not a multiple of {step_x}x{step_y}: the video will be {fitted[0]}x{fitted[1]}"
    return *fitted, [note]
