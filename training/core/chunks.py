"""How clips are divided into chunks, for any VAE of the family."""

from __future__ import annotations

from collections.abc import Callable

import torch
from einops import rearrange
from torch import Tensor

from ...models.chunks import continuity_frames, plan

FRAMES_PER_CHUNK = 33
CONTINUITY_LATENTS = 2


def new_frames(stride_t: int) -> int:
    """Frames that a chunk adds to the one before, under a VAE of time stride ``stride_t``."""
    return FRAMES_PER_CHUNK - continuity_frames(CONTINUITY_LATENTS, stride_t)


def stride_of(num_latents: int) -> int:
    """The VAE's time stride, by the latent frames of a chunk."""
    return (FRAMES_PER_CHUNK - 1) // (num_latents - 1)


def clip_span(chunks: int, stride_t: int) -> int:
    """Frames of a clip of ``chunks`` chunks."""
    return FRAMES_PER_CHUNK + (chunks - 1) * new_frames(stride_t)


@torch.no_grad()
def encode_chunks(encode: Callable[[Tensor], Tensor], frames: Tensor, stride_t: int) -> Tensor:
    """Latents float16 [chunks, C, T, h, w] of ``frames`` uint8 [F, H, W, 3], F = ``clip_span`` of some chunks.

    Each chunk is encoded on its own, as at inference.
    """
    spans = plan(frames.shape[0], FRAMES_PER_CHUNK, continuity_frames(CONTINUITY_LATENTS, stride_t))
    chunks = []
    for span in spans:
        pixels = rearrange(frames[span.start : span.start + FRAMES_PER_CHUNK], "f h w c -> 1 c f h w")
        chunks.append(encode(pixels.float() / 127.5 - 1).cpu().half())
    return torch.cat(chunks)
