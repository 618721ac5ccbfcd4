"""What the rollout needs of a VAE."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Protocol, runtime_checkable

import torch
from torch import Tensor

from .chunks import continuity_frames
from .pictures import Window


class VideoCodec(Protocol):
    """A VAE in the network's latent space: pixels [1, 3, F, H, W] in [-1, 1] <-> latents [1, C, T, h, w].

    ``decode`` gives a new tensor, which the caller may overwrite.
    """

    def encode(self, pixels: Tensor) -> Tensor: ...

    def decode(self, latents: Tensor) -> Tensor: ...


class Views(NamedTuple):
    """The pixels of latent frames that are needed.

    ``part`` [1, 3, f, h, w] is a window of all their frames, ``whole`` [1, 3, T, H, W] one frame of each.
    """

    part: Tensor
    whole: Tensor


class Parts(Protocol):
    """A chunk's latents, of which parts are decoded as they are needed. The caller may overwrite what they give."""

    def __call__(self, first: int, stop: int) -> Tensor:
        """The pixels [1, 3, f, H, W] of the latents [first, stop)."""
        ...

    def views(self, first: int, stop: int, window: Window, frame: int) -> Views:
        """The ``window`` of these pixels, and frame ``frame`` of each latent; the first latent has only one.

        The two share no memory.
        """
        ...


@runtime_checkable
class CodecOfParts(VideoCodec, Protocol):
    """A VAE that can decode some of a video's latents at a part of the cost."""

    def decode_parts(self, latents: Tensor) -> Parts | None:
        """What decodes parts of ``latents``, to the same pixels as ``decode``; None if only all can be decoded."""
        ...


def decode_parts(codec: VideoCodec, latents: Tensor) -> Parts | None:
    """``CodecOfParts.decode_parts`` of any codec."""
    return codec.decode_parts(latents) if isinstance(codec, CodecOfParts) else None


def frames_before(latent: int, stride: int) -> int:
    """How many frames come before those of a latent: the first one is a single frame, the others are ``stride``."""
    return continuity_frames(latent, stride) if latent > 0 else 0


@dataclass(frozen=True)
class DecodedParts:
    """Parts of what is decoded already: ``pixels`` [1, 3, F, H, W] of the latents from ``start`` on.

    They are views, but for ``Views.whole``: to overwrite them is to overwrite ``pixels``.
    """

    pixels: Tensor
    start: int
    stride: int

    def __call__(self, first: int, stop: int) -> Tensor:
        """The pixels of the latents [first, stop)."""
        earlier, begin, end = (frames_before(latent, self.stride) for latent in (self.start, first, stop))
        return self.pixels[:, :, begin - earlier : end - earlier]

    def views(self, first: int, stop: int, window: Window, frame: int) -> Views:
        """See ``Parts``."""
        pixels = self(first, stop)
        alone = int(first == 0 < stop)
        whole = torch.cat((pixels[:, :, :alone], pixels[:, :, alone + frame :: self.stride]), dim=2)
        return Views(pixels[(..., *window)], whole)
