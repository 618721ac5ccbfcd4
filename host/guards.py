"""The memory that a generation needs, checked before it starts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from comfy import model_management
from comfy.model_patcher import ModelPatcher
from comfy.sd import VAE

from ..media.disk import format_bytes
from .model import talking_head

LAB_COPIES = 11
"""Colour correction holds about this many float32 copies of a chunk's pixels at once, its input among them."""

FRAME_COPIES = 2
"""Chunks of uint8 frames between the rollout and the disk: one being made, one being written."""


class Sized(Protocol):
    """What is made chunk by chunk: a ``Reference``, or a size before there is one."""

    @property
    def size(self) -> tuple[int, int]: ...

    @property
    def frames_per_chunk(self) -> int: ...


@dataclass(frozen=True)
class ChunkSize:
    """(width, height) in pixels and number of frames of the chunks to be made."""

    size: tuple[int, int]
    frames_per_chunk: int


def chunk_memory(model: ModelPatcher, vae: VAE, chunk: Sized) -> int:
    """Bytes of main memory that one chunk takes at its peak, by core's own estimates; weights are not in it.

    What runs on a GPU is not counted: core makes room there, and decodes in tiles where the whole does not fit.
    """
    width, height = chunk.size
    latents = latent_shape(model, chunk)
    values = chunk.frames_per_chunk * height * width * 3
    stages = [0]
    if model.load_device.type == "cpu":
        stages.append(int(model.memory_required(latents)))
    if vae.device.type == "cpu":
        stages.append(int(vae.memory_used_decode(latents, vae.vae_dtype)))
    if model.load_device.type == "cpu":
        stages.append(LAB_COPIES * values * 4)
    return max(stages) + FRAME_COPIES * values


def check_memory(model: ModelPatcher, vae: VAE, chunk: Sized) -> int:
    """The bytes of ``chunk_memory``. Raises MemoryError with the numbers if main memory or the GPU cannot hold them."""
    check_card(model, chunk)
    needed = chunk_memory(model, vae, chunk)
    width, height = chunk.size
    check_room(
        needed,
        f"one chunk of {chunk.frames_per_chunk} frames of {width}x{height} takes",
        "Close other programs, or make the reference smaller. (The length of the audio makes no difference.)",
    )
    return needed


def check_card(model: ModelPatcher, chunk: Sized) -> None:
    """Raise MemoryError with the numbers if the network's activations alone are more than the GPU has.

    Weights can be offloaded and the VAE can work in tiles, but a step of the network needs all its activations at once.
    """
    if model.load_device.type == "cpu":
        return
    needed = int(model.memory_required(latent_shape(model, chunk)))
    # Core returns a pair only if PyTorch's share is requested too.
    total = int(model_management.get_total_memory(model.load_device))  # pyright: ignore[reportArgumentType]
    if needed > total:
        width, height = chunk.size
        name = model_management.get_torch_device_name(model.load_device)
        raise MemoryError(
            f"Not enough GPU memory: one chunk of {chunk.frames_per_chunk} frames of {width}x{height} takes about "
            f"{format_bytes(needed)}, and {name} has {format_bytes(total)}. Make the reference smaller"
        )


def latent_shape(model: ModelPatcher, chunk: Sized) -> tuple[int, int, int, int, int]:
    """[B, C, T, h, w] of a chunk's latents."""
    width, height = chunk.size
    config = talking_head(model).checkpoint.config
    stride_y, stride_x = config.vae_stride[1:]
    num_latents = config.latent_frames(chunk.frames_per_chunk)
    return 1, config.latent_channels, num_latents, height // stride_y, width // stride_x


def check_room(needed: int, what: str, remedy: str) -> None:
    """Raise MemoryError with the numbers if main memory has no room for ``needed`` bytes."""
    # Core returns a pair only if PyTorch's share is requested too.
    free = int(model_management.get_free_memory(torch.device("cpu")))  # pyright: ignore[reportArgumentType]
    if needed > free:
        raise MemoryError(
            f"Not enough memory: {what} about {format_bytes(needed)}, and {format_bytes(free)} is free. {remedy}"
        )
