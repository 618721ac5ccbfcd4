"""Lids drawn over the eyes of a portrait, for networks that do not blink themselves.

A closing lid is skin from below the brow that slides over the eye. The part of the portrait between brow and upper lid
is therefore stretched down to where the lid is; its lashes come along. Below the lid, the eye stays as it is.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from .landmarks import LEFT_BROW, LEFT_LOWER_LID, LEFT_UPPER_LID, RIGHT_BROW, RIGHT_LOWER_LID, RIGHT_UPPER_LID
from .pictures import heights_along, pixel_places, sampled, smooth
from .transfer import send

EYES = (
    (RIGHT_UPPER_LID, RIGHT_LOWER_LID, RIGHT_BROW),
    (LEFT_UPPER_LID, LEFT_LOWER_LID, LEFT_BROW),
)
# Where a closed lid meets the lower one, as a share of the open eye's height below its upper lid.
MEETING = 0.9
# How far up to the brow the skin is stretched (its landmarks may run through its hair), and the least, in widths of the
# eye.
SKIN, LEAST_SKIN = 0.6, 0.12
# How far beyond the corners the lid's movement dies away, in widths of the eye.
BEYOND = 0.12
# Skin below the brow that fades from the frame's to the portrait's, as a share of what is stretched.
FADE = 0.25
# An eye that is open by less than this, in widths of the eye, is closed in the portrait.
LEAST_OPENING = 0.08
# Eyes narrower than this, in pixels, are those of a face in profile.
NARROWEST = 4.0


@dataclass(frozen=True)
class _Eye:
    """One eye in its own coordinates (from corner to corner, and down), in pixels, at each pixel of a picture [H, W].

    ``down`` [2] is their second direction in the picture, ``at`` [H, W] how far down a pixel is. ``upper``, ``lower``
    and ``skin`` [H, W] are the edges of the lids above or below a pixel, and where the skin begins that is stretched.
    ``width`` is that of the eye, ``inside`` [H, W] 1 between the corners, dying away to 0 beyond them.
    """

    down: Tensor
    at: Tensor
    upper: Tensor
    lower: Tensor
    skin: Tensor
    inside: Tensor
    width: float

    @classmethod
    def of(cls, upper: Tensor, lower: Tensor, brow: Tensor, places: Tensor) -> _Eye:
        """Contours [N, 2] in pixels; ``places`` [H, W, 2] are those of the pixels."""
        ends = upper[[0, -1]]
        left, right = ends[ends[:, 0].argsort()]
        width = float((right - left).norm().clamp_min(1e-3))
        along = (right - left) / width
        axes = torch.stack((along, torch.stack((-along[1], along[0]))))
        across, at = ((places - left) @ axes.T).unbind(-1)
        lines = [((line - left) @ axes.T)[None] for line in (upper, lower, brow)]
        above, below, over = (heights_along(across.flatten()[None], line).view_as(across) for line in lines)
        skin = torch.minimum(torch.lerp(above, over, SKIN), above - LEAST_SKIN * width)
        beyond = torch.minimum(across, width - across) / (BEYOND * width) + 1
        # The contours of an eye that is turned away may cross.
        return cls(axes[1], at, above, torch.maximum(above, below), skin, smooth(beyond), width)

    def to(self, device: torch.device) -> _Eye:
        """The same on ``device``."""
        tensors = {name: send(value, device) for name, value in vars(self).items() if isinstance(value, Tensor)}
        return replace(self, **tensors)

    @property
    def can_close(self) -> bool:
        """Whether it is open, and seen from the front."""
        return self.width >= NARROWEST and float((self.lower - self.upper).amax()) >= LEAST_OPENING * self.width


class Eyelids:
    """The eyes of one portrait, which can be closed."""

    def __init__(self, portrait: Tensor, points: Tensor) -> None:
        """``portrait`` [1, 3, H, W]; ``points`` [468, 2] are its landmarks in pixels, on the CPU."""
        self._portrait = portrait.float()
        height, width = portrait.shape[-2:]
        places = pixel_places(height, width)
        eyes = (
            _Eye.of(points[list(upper)], points[list(lower)], points[list(brow)], places) for upper, lower, brow in EYES
        )
        # A pixel in units of ``grid_sample``.
        self._unit = send(2 / torch.tensor((width, height)), portrait.device)
        self._eyes = [eye.to(portrait.device) for eye in eyes if eye.can_close]

    def closed(self, share: float) -> Tensor:
        """The portrait with lids closed by ``share`` (0 open, 1 closed), and where they are drawn: [1, 4, H, W].

        The fourth channel is 1 on the moved skin, 0 where the picture is as it was.
        """
        picture, drawn = self._portrait, torch.zeros_like(self._portrait[:, :1])
        for eye in self._eyes:
            lid = eye.upper + share * eye.inside * MEETING * (eye.lower - eye.upper)
            stretched = (eye.at - eye.skin) / (lid - eye.skin)
            source = eye.skin + stretched * (eye.upper - eye.skin)
            distance = torch.where(stretched > 0, source, eye.at) - eye.at
            moved = sampled(self._portrait, (self._unit * eye.down).view(1, 2, 1, 1) * distance)
            # Over a pixel, so that the lid's edge has no steps.
            lid_alone = (lid - eye.at + 0.5).clamp(0, 1) * eye.inside * (stretched > 0)
            picture = torch.lerp(picture, moved, lid_alone)
            drawn = torch.maximum(drawn, lid_alone * smooth(stretched / FADE))
        return torch.cat((picture, drawn), dim=1)
