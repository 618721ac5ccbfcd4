"""A portrait moved by some pixels for the network alone: its frames are moved back.

A network whose patches are large knows a mouth better in some places of a patch than in others. Moved there, the mouth
follows speech further, while the video stays in the portrait's own place.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .codec import Parts, VideoCodec, Views, decode_parts
from .pictures import EVERYWHERE, Window
from .reference import Shift


def shifted(pixels: Tensor, shift: Shift) -> Tensor:
    """``pixels`` [..., H, W] moved by ``shift``; the border goes on where nothing was."""
    for dim, distance in zip((-1, -2), shift, strict=True):
        if distance == 0:
            continue
        length = pixels.shape[dim]
        places = (torch.arange(length, device=pixels.device) - distance).clamp_(0, length - 1)
        pixels = pixels.index_select(dim, places)
    return pixels


@dataclass(frozen=True)
class ShiftedCodec:
    """A VAE whose latents are those of pixels moved by ``shift``.

    What the shift moves out of the frame is taken from the ``portrait`` [1, 3, 1, H, W] in [-1, 1].
    """

    codec: VideoCodec
    shift: Shift
    portrait: Tensor

    def encode(self, pixels: Tensor) -> Tensor:
        """Latents of the moved pixels."""
        return self.codec.encode(shifted(pixels, self.shift))

    def decode(self, latents: Tensor) -> Tensor:
        """Pixels in their own place."""
        return self.in_place(self.codec.decode(latents))

    def decode_parts(self, latents: Tensor) -> Parts | None:
        """What decodes parts of ``latents``."""
        parts = decode_parts(self.codec, latents)
        return None if parts is None else _ShiftedParts(self, parts)

    def in_place(self, moved: Tensor) -> Tensor:
        """``moved`` [1, 3, F, H, W] back in its own place."""
        return self.filled(moved[(..., *self.place_in_vae(EVERYWHERE))], EVERYWHERE)

    def place_in_vae(self, window: Window) -> Window:
        """Where the VAE shows what is kept of a ``window``."""
        (rows, columns), (across, down) = self._kept(window), self.shift
        return slice(rows.start + down, rows.stop + down), slice(columns.start + across, columns.stop + across)

    def filled(self, moved: Tensor, window: Window) -> Tensor:
        """The ``window`` of frames that show ``moved`` where something of it is kept, else the portrait."""
        portrait = self.portrait[(..., *window)].to(moved)
        frames = portrait.expand(-1, -1, moved.shape[2], -1, -1).clone()
        starts = [side.start or 0 for side in window]
        own = (
            slice(side.start - start, side.stop - start) for side, start in zip(self._kept(window), starts, strict=True)
        )
        frames[(..., *own)] = moved
        return frames

    def _kept(self, window: Window) -> Window:
        """What is kept of a ``window``, maybe nothing."""
        rows, columns = map(_overlap, window, kept(self.shift, *self.portrait.shape[-2:]))
        return rows, columns


@dataclass(frozen=True)
class _ShiftedParts:
    codec: ShiftedCodec
    parts: Parts

    def __call__(self, first: int, stop: int) -> Tensor:
        return self.codec.in_place(self.parts(first, stop))

    def views(self, first: int, stop: int, window: Window, frame: int) -> Views:
        if window == EVERYWHERE:
            part, whole = map(self.codec.in_place, self.parts.views(first, stop, window, frame))
            return Views(part, whole)
        part, whole = self.parts.views(first, stop, self.codec.place_in_vae(window), frame)
        return Views(self.codec.filled(part, window), self.codec.in_place(whole))


def _overlap(side: slice, whole: slice) -> slice:
    """What is in both; ``whole`` has a start and a stop."""
    start, stop, _ = side.indices(whole.stop)
    start = max(start, whole.start)
    return slice(start, max(start, stop))


def kept(shift: Shift, height: int, width: int) -> tuple[slice, slice]:
    """The rows and columns of a picture that are still in the frame when it is moved by ``shift``."""
    across, down = shift
    return _kept_side(height, down), _kept_side(width, across)


def _kept_side(length: int, distance: int) -> slice:
    return slice(max(0, -distance), length - max(0, distance))


def continue_border(values: Tensor, shift: Shift) -> None:
    """Make what ``shift`` moves out of a frame ``values`` [..., H, W] as the border of what it keeps, in place."""
    for dim, distance in zip((-1, -2), shift, strict=True):
        if distance:
            sides = values.movedim(dim, -1)
            most = sides.shape[-1] - 1
            distance = max(-most, min(distance, most))
            kept_from = sides.shape[-1] - distance
            if distance > 0:
                sides[..., kept_from:] = sides[..., kept_from - 1 : kept_from]
            else:
                sides[..., :-distance] = sides[..., -distance : 1 - distance]
