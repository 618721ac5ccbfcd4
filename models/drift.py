"""Figures on drift, and what counts as a collapsed chunk. Pixels are sampled, so that a chunk's figures cost little.

Whether a chunk has collapsed is decided from the chunk and the reference alone, against fixed limits: a run that is
taken up again decides as an uninterrupted one did.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .color import rgb_to_lab
from .reference import Reference

PIXEL_STRIDE = 4
"""Every fourth pixel of every fourth row, and for colour every fourth frame, is looked at."""

MIN_CONTRAST = 0.01
"""A frame whose pixels ([-1, 1]) spread less than this, about one grey level of 256, shows nothing."""

MAX_REFERENCE_DISTANCE = 10.0
"""Unrelated latents of the reference's own spread are sqrt(2) away; beyond this limit they have exploded."""

NOT_FINITE = "NaN or infinite values"


def reference_distance(latents: Tensor, reference: Tensor) -> Tensor:
    """RMS distance between the mean latents of both [1, C, T, h, w], relative to the reference's RMS."""
    difference = latents.mean(dim=2) - reference.mean(dim=2)
    return difference.square().mean().sqrt() / reference.square().mean().sqrt()


def collapse(latents: Tensor, pixels: Tensor, reference: Reference) -> str | None:
    """What makes the chunk no picture of anybody, or None: ``pixels`` [1, 3, F, H, W] as decoded, before correction.

    A portrait that is itself flat may have flat frames.
    """
    sample = _sample(pixels)
    contrast = _contrast(sample).amin()
    wanted = _contrast(_sample(reference.portrait)).amin()
    distance = reference_distance(latents, reference.latents.to(latents))
    finite = torch.isfinite(latents).all() & torch.isfinite(sample).all().to(latents.device)
    figures = (finite.float(), contrast.to(latents), wanted.to(latents), distance)
    is_finite, found, own, far = torch.stack([figure.float() for figure in figures]).tolist()
    if not is_finite:
        return NOT_FINITE
    if found < MIN_CONTRAST <= own:
        return f"a frame without contrast ({found:.4f})"
    if far > MAX_REFERENCE_DISTANCE:
        return f"latents far from the portrait's ({far:.1f} times its own)"
    return None


def _sample(pixels: Tensor) -> Tensor:
    # Contiguous: what follows reads it more than once.
    return pixels[..., ::PIXEL_STRIDE, ::PIXEL_STRIDE].float().contiguous()


def _contrast(pixels: Tensor) -> Tensor:
    """Spread over each frame's pixels, mean over colours: [1, 3, F, H, W] -> [1, F]."""
    return pixels.flatten(-2).std(dim=-1, correction=0).mean(dim=1)


def color_distance(pixels: Tensor, portrait: Tensor) -> float:
    """Lab distance (Delta E 1976) of the mean colours of a chunk as decoded and of the portrait, both in [-1, 1]."""
    means = [
        rgb_to_lab((_sample(part[:, :, ::PIXEL_STRIDE]) + 1) / 2).mean(dim=(0, 2, 3, 4))
        for part in (pixels, portrait.to(pixels.device))
    ]
    return round(torch.linalg.vector_norm(means[0] - means[1]).item(), 3)


def chunk_statistics(latents: Tensor, pixels: Tensor, reference: Reference) -> dict[str, float]:
    """Figures of a finished chunk, ``pixels`` [1, 3, F, H, W] in [-1, 1] after correction.

    Returns:
        ``reference_distance``; ``sharpness``: variance of the last frame's Laplacian relative to the portrait's;
        ``motion``: mean difference between neighbouring frames, 0..1.
    """
    sample = _sample(pixels)
    motion = (sample[:, :, 1:] - sample[:, :, :-1]).abs().mean() / 2
    portrait = reference.portrait.to(pixels.device)
    sharpness = _laplacian_variance(pixels[:, :, -1]) / _laplacian_variance(portrait[:, :, 0]).clamp_min(1e-8)
    distance = reference_distance(latents, reference.latents.to(latents)).to(pixels.device)
    figures = torch.stack((distance.float(), sharpness, motion)).tolist()
    return {
        "reference_distance": round(figures[0], 4),
        "sharpness": round(figures[1], 4),
        "motion": round(figures[2], 5),
    }


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
