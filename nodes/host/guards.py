"""What a generation needs of the machine, checked before it starts."""

from __future__ import annotations

import torch
from comfy import model_management
from comfy.model_patcher import ModelPatcher
from comfy.sd import VAE

from ...media.errors import format_bytes
from ...models.reference import Reference

LAB_COPIES = 11
"""Colour correction holds about this many float32 copies of a chunk's pixels at once, its input among them."""

FRAME_COPIES = 2
"""Chunks of uint8 frames between the rollout and the disk: one being made, one being written."""


def chunk_memory(model: ModelPatcher, vae: VAE, reference: Reference) -> int:
    """Bytes of main memory that one chunk takes at its peak, by core's own estimates; weights are not in it.

    What runs on a GPU is not counted: core makes room there, and decodes in tiles where the whole does not fit.
    """
    width, height = reference.size
    values = reference.frames_per_chunk * height * width * 3
    stages = [0]
    if model.load_device.type == "cpu":
        stages.append(int(model.memory_required(reference.latents.shape)))
    if vae.device.type == "cpu":
        stages.append(int(vae.memory_used_decode(reference.latents.shape, vae.vae_dtype)))
    if model_management.get_torch_device().type == "cpu":
        stages.append(LAB_COPIES * values * 4)
    return max(stages) + FRAME_COPIES * values


def check_memory(model: ModelPatcher, vae: VAE, reference: Reference) -> int:
    """The bytes of ``chunk_memory``. Raises MemoryError with the numbers if main memory has no room for them."""
    needed = chunk_memory(model, vae, reference)
    width, height = reference.size
    check_room(
        needed,
        f"one chunk of {reference.frames_per_chunk} frames of {width}x{height} takes",
        "Close other programs, or make the reference smaller. (The length of the audio makes no difference.)",
    )
    return needed


def check_room(needed: int, what: str, remedy: str) -> None:
    """Raise MemoryError with the numbers if main memory has no room for ``needed`` bytes."""
    # Core returns a pair only where it is asked for PyTorch's share too.
    free = int(model_management.get_free_memory(torch.device("cpu")))  # pyright: ignore[reportArgumentType]
    if needed > free:
        raise MemoryError(
            f"Not enough memory: {what} about {format_bytes(needed)}, and {format_bytes(free)} is free. {remedy}"
        )
