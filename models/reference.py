"""Temporal Reference Encoding (TRE, arXiv 2605.02948) and the static baseline it is compared with."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from .choices import Choice
from .transfer import send

Encode = Callable[[Tensor], Tensor]
"""Pixels [1, 3, F, H, W] in [-1, 1] -> latents [1, C, T, h, w]."""
Shift = tuple[int, int]
"""Pixels to the right and down."""


class ReferenceKind(Choice):
    """How a portrait becomes reference latents; the entry ``reference`` in a checkpoint's metadata."""

    TRE = "tre"
    """Temporal Reference Encoding: the repeated portrait, encoded as a video."""
    STATIC = "static"
    """The baseline: the portrait's one latent, repeated."""


@dataclass(frozen=True)
class Reference:
    """The identity condition of every chunk.

    ``latents`` [1, C, T, h, w] in the network's latent space, of the portrait moved by ``shift`` (see ``placing``);
    ``portrait`` [1, 3, 1, H, W] in [-1, 1] (the target of colour correction), ``frames_per_chunk`` pixel frames that
    the latents stand for. ``face`` [468, 2] are the portrait's landmarks on the CPU, x and y in 0..1 of the frame; None
    if there is no face. ``guidance`` is the weight of the audio with which the portrait's mouth opens far enough, for
    samplers that leave it to the reference; 1 is none.
    """

    latents: Tensor
    portrait: Tensor
    frames_per_chunk: int
    face: Tensor | None = None
    shift: Shift = (0, 0)
    guidance: float = 1.0

    @property
    def stride_t(self) -> int:
        """Pixel frames of each latent frame after the first."""
        return (self.frames_per_chunk - 1) // (self.latents.shape[2] - 1)

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) in pixels."""
        return self.portrait.shape[-1], self.portrait.shape[-2]

    @property
    def points(self) -> Tensor | None:
        """The landmarks in pixels of the portrait."""
        return None if self.face is None else self.face * torch.tensor(self.size)

    def to(self, device: torch.device) -> Reference:
        """The same on ``device``, but for the landmarks, which are read on the CPU."""
        return replace(self, latents=send(self.latents, device), portrait=send(self.portrait, device))


MOST_CUT_AWAY = 4
"""A picture is scaled as a whole up to this multiple of the width or height that is kept."""


def fit_portrait(image: Tensor, width: int, height: int) -> Tensor:
    """Scale ``image`` [1, H, W, 3] (0..1) to cover the size, cut the centre: [1, 3, 1, height, width] in [-1, 1]."""
    pixels = _without_far_ends(image.movedim(-1, 1), width, height).float()
    scale = max(width / pixels.shape[-1], height / pixels.shape[-2])
    covered = (max(height, round(pixels.shape[-2] * scale)), max(width, round(pixels.shape[-1] * scale)))
    if covered != tuple(pixels.shape[-2:]):
        pixels = torch.nn.functional.interpolate(
            pixels, size=covered, mode="bicubic", align_corners=False, antialias=True
        ).clamp(0, 1)
    top, left = (covered[0] - height) // 2, (covered[1] - width) // 2
    return (pixels[..., top : top + height, left : left + width] * 2 - 1)[:, :, None]


def _without_far_ends(pixels: Tensor, width: int, height: int) -> Tensor:
    """The middle of a very long or wide picture [1, 3, H, W]; scaled as a whole, 16x16384 would take gigabytes."""
    scale = max(width / pixels.shape[-1], height / pixels.shape[-2])
    for axis, wanted in ((-1, width), (-2, height)):
        kept = math.ceil(MOST_CUT_AWAY * wanted / scale)
        cut = max(0, pixels.shape[axis] - kept) // 2
        pixels = pixels.narrow(axis, cut, pixels.shape[axis] - 2 * cut)
    return pixels


def temporal_reference(encode: Encode, portrait: Tensor, num_frames: int) -> Tensor:
    """TRE: ``portrait`` [1, 3, 1, H, W] held for ``num_frames``, encoded as a video (arXiv 2605.02948, section 3)."""
    return encode(portrait.expand(-1, -1, num_frames, -1, -1))


def static_reference(encode: Encode, portrait: Tensor, num_latents: int) -> Tensor:
    """The baseline without TRE: ``portrait`` encoded as one image, its latent repeated ``num_latents`` times."""
    return encode(portrait).expand(-1, -1, num_latents, -1, -1)
