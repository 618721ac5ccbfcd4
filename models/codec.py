"""What the rollout needs of a VAE."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor


class VideoCodec(Protocol):
    """A VAE in the network's latent space: pixels [1, 3, F, H, W] in [-1, 1] <-> latents [1, C, T, h, w].

    ``decode`` gives a new tensor, which the caller may overwrite.
    """

    def encode(self, pixels: Tensor) -> Tensor: ...

    def decode(self, latents: Tensor) -> Tensor: ...
