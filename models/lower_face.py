"""What follows the landmarks of each frame: the skin around the mouth, and the colours of the mouth."""

from __future__ import annotations

from torch import Tensor

from .landmarks import FaceTracker
from .mouth_colors import MouthColors
from .skin import MovedSkin


class LowerFace:
    """The lower face of one portrait."""

    def __init__(self, portrait: Tensor, points: Tensor, is_guided: bool) -> None:
        """``portrait`` [1, 3, H, W] in [-1, 1]; ``points`` [468, 2] are its landmarks in pixels, on the CPU.

        Where the mouth ``is_guided``, its colours are kept plausible.
        """
        height, width = portrait.shape[-2:]
        self._tracker = FaceTracker(points, width, height, portrait.device)
        self._skin = MovedSkin(portrait, points)
        self._colors = MouthColors(portrait, points) if is_guided else None

    def apply(self, frames: Tensor, strength: float) -> None:
        """Change ``frames`` [T, 3, H, W] in [-1, 1] by ``strength`` (0..1), in place; none in which no face is seen."""
        points, is_seen = self._tracker.read(frames)
        weight = strength * is_seen
        self._skin.apply(frames, points, weight)
        if self._colors is not None:
            self._colors.apply(frames, points, weight)
