"""Figures on drift, and what counts as a collapsed chunk. Pixels are sampled, so that a chunk's figures cost little.

Whether a chunk has collapsed depends only on the chunk, the reference and fixed limits, so a resumed run decides as an
uninterrupted one.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .color import rgb_to_lab
from .reference import Reference

PIXEL_STRIDE = 4
"""Every fourth pixel of every fourth row, and for colour every fourth frame, is used."""

MIN_CONTRAST = 0.01
"""A frame whose pixels ([-1, 1]) spread less than this, about one grey level of 256, is blank."""

MAX_REFERENCE_DISTANCE = 10.0
"""Unrelated latents of the reference's own spread are sqrt(2) away; beyond this limit they have exploded."""

NOT_FINITE = "NaN or infinite values"


@dataclass(frozen=True)
class ChunkFigures:
    """A chunk's figures.

    Of the chunk as decoded: ``is_finite``, ``contrast`` of its flattest frame, ``color_distance``. Of its latents:
    ``reference_distance``. Of the chunk after correction: ``sharpness`` (variance of the last frame's Laplacian
    relative to the portrait's). Of the frames as shown: ``motion`` (mean difference between neighbours, 0..1).
    """

    is_finite: float
    contrast: float
    reference_distance: float
    color_distance: float
    sharpness: float
    motion: float

    def statistics(self) -> dict[str, float]:
        """The figures that are kept."""
        return {
            "color_distance": round(self.color_distance, 3),
            "reference_distance": round(self.reference_distance, 4),
            "sharpness": round(self.sharpness, 4),
            "motion": round(self.motion, 5),
        }


class DriftMeter:
    """Compares chunks with a reference, whose own figures are computed once. It never waits for a GPU."""

    def __init__(self, reference: Reference) -> None:
        self._latents = reference.latents.mean(dim=2)
        self._scale = reference.latents.square().mean().sqrt()
        self._color = _mean_color(sample_of(reference.portrait))
        self._contrast = _contrast(sample_of(reference.portrait)).amin()
        self._sharpness = _laplacian_variance(reference.portrait[:, :, 0]).clamp_min(1e-8)

    @property
    def portrait_contrast(self) -> float:
        """The contrast of the portrait itself, for ``collapse``."""
        return self._contrast.item()

    def decoded(self, latents: Tensor, sample: Tensor) -> Tensor:
        """The first four of ``ChunkFigures`` for ``latents`` and the ``sample`` of their pixels before correction."""
        finite = torch.isfinite(latents).all() & torch.isfinite(sample).all()
        distance = (latents.mean(dim=2) - self._latents).square().mean().sqrt() / self._scale
        color = torch.linalg.vector_norm(_mean_color(sample) - self._color)
        return torch.stack((finite.float(), _contrast(sample).amin(), distance.float(), color))

    def corrected(self, pixels: Tensor, shown: Tensor) -> Tensor:
        """The last two of ``ChunkFigures``, for pixels [1, 3, F, H, W] in [-1, 1] after correction and as shown.

        Sharpness is that without the portrait's detail, which would hide that the network's own gets lost.
        """
        sample = sample_of(shown)
        motion = (sample[:, :, 1:] - sample[:, :, :-1]).abs().mean() / 2
        return torch.stack((_laplacian_variance(pixels[:, :, -1]) / self._sharpness, motion))


def collapse(figures: ChunkFigures, portrait_contrast: float) -> str | None:
    """Why the chunk counts as collapsed, or None. A portrait that is itself flat may have flat frames."""
    if not figures.is_finite:
        return NOT_FINITE
    if figures.contrast < MIN_CONTRAST <= portrait_contrast:
        return f"a frame without contrast ({figures.contrast:.4f})"
    if figures.reference_distance > MAX_REFERENCE_DISTANCE:
        return f"latents far from the portrait's ({figures.reference_distance:.1f} times its own)"
    return None


def color_distance(pixels: Tensor, portrait: Tensor) -> float:
    """Lab distance (Delta E 1976) of the mean colours of frames and of a portrait, both in [-1, 1]."""
    return round(torch.linalg.vector_norm(_mean_color(sample_of(pixels)) - _mean_color(sample_of(portrait))).item(), 3)


def _mean_color(sample: Tensor) -> Tensor:
    return rgb_to_lab((sample[:, :, ::PIXEL_STRIDE].contiguous() + 1) / 2).mean(dim=(0, 2, 3, 4))


def sample_of(pixels: Tensor) -> Tensor:
    """The pixels of [1, 3, F, H, W] that are measured: [1, 3, F, h, w]. Samples of a chunk's parts can be joined."""
    # Contiguous: what follows reads it more than once.
    return pixels[..., ::PIXEL_STRIDE, ::PIXEL_STRIDE].float().contiguous()


def _contrast(pixels: Tensor) -> Tensor:
    """Spread over each frame's pixels, mean over colours: [1, 3, F, H, W] -> [1, F]."""
    return pixels.flatten(-2).std(dim=-1, correction=0).mean(dim=1)


def _laplacian_variance(image: Tensor) -> Tensor:
    """[1, 3, H, W] -> the variance of its grey values' five-point Laplacian."""
    grey = image.float().mean(dim=1)
    centre = grey[:, 1:-1, 1:-1]
    neighbours = grey[:, :-2, 1:-1] + grey[:, 2:, 1:-1] + grey[:, 1:-1, :-2] + grey[:, 1:-1, 2:]
    return (4 * centre - neighbours).var(correction=0)


def seam(last: Tensor, first: Tensor, motion: float) -> float:
    """Mean difference of the frames on either side of a seam (uint8 [H, W, 3]), relative to the chunk's own ``motion``.

    About 1 is a seam that moves like the frames around it.
    """
    step = PIXEL_STRIDE
    difference = (last[::step, ::step].float() - first[::step, ::step].float()).abs().mean().item() / 255
    return round(difference / max(motion, 1e-5), 3)
