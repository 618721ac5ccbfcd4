"""Where the mouth is in a portrait's latents."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from .landmarks import LIPS
from .pictures import filled, grown, pixel_places
from .placing import shifted
from .reference import Reference

# How far the mouth's surroundings reach, as a share of the frame's height: an open mouth and the chin below it.
AROUND = 0.1


def mouth_in_latents(reference: Reference) -> Tensor | None:
    """1 at the mouth and around it, 0 elsewhere, with soft edges: [1, 1, 1, h, w] on the CPU.

    None without a face.
    """
    points = reference.points
    if points is None:
        return None
    width, height = reference.size
    mouth = filled(points[list(LIPS)], pixel_places(height, width))
    around = shifted(grown(mouth, AROUND * height), reference.shift)
    rows, columns = reference.latents.shape[-2:]
    return functional.adaptive_avg_pool2d(around, (rows, columns))[:, :, None]
