"""What the rollout needs of a VAE."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, runtime_checkable

from torch import Tensor

Parts = Callable[[int, int], Tensor]
"""(first, stop) -> the pixels [1, 3, f, H, W] of the latents [first, stop), a new tensor."""


class VideoCodec(Protocol):
    """A VAE in the network's latent space: pixels [1, 3, F, H, W] in [-1, 1] <-> latents [1, C, T, h, w].

    ``decode`` gives a new tensor, which the caller may overwrite.
    """

    def encode(self, pixels: Tensor) -> Tensor: ...

    def decode(self, latents: Tensor) -> Tensor: ...


@runtime_checkable
class CodecOfParts(VideoCodec, Protocol):
    """A VAE that can decode some of a video's latents at a part of the cost."""

    def decode_parts(self, latents: Tensor) -> Parts | None:
        """What decodes parts of ``latents``, to the same pixels as ``decode``; None if only all can be decoded."""
        ...


def decode_parts(codec: VideoCodec, latents: Tensor) -> Parts | None:
    """``CodecOfParts.decode_parts`` of any codec."""
    return codec.decode_parts(latents) if isinstance(codec, CodecOfParts) else None
