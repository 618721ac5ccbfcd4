"""Detail transfer: what a VAE loses of the portrait is added to the frames, moved as the face has moved.

A small VAE blurs eyes, skin and hair. What it loses is known: the portrait minus its own round trip through the VAE.
This residual is moved along with each frame by optical flow (Lucas and Kanade, 1981, from coarse to fine), and added
where the frame looks like the moved round trip. An open mouth or a closed lid does not, and keeps the VAE's pixels.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional

# The flow is estimated on pictures this many times smaller than the frame, coarsest first, in so many steps each.
LEVELS = ((16, 3), (8, 3), (4, 3), (2, 1))
# Standard deviation of the windows of the flow, in pixels of a level, and of its smoothing after each step.
WINDOW_SIGMA, FLOW_SIGMA = 2.5, 1.0
# Added to the squared gradients (of luma in [-1, 1]): where a window has no edge, the flow stays as it was.
STIFFNESS = 2e-3
# Root mean square difference (frames are in [-1, 1]) at which 0.6 of the residual is added, and what it is averaged
# over, in pixels of half the frame's size.
TOLERANCE, LIKENESS_SIGMA = 0.03, 2.0
# A CPU takes a few frames at a time, which stay in its cache.
CPU_FRAMES = 4


@dataclass(frozen=True)
class DetailTransfer:
    """What is needed of the portrait.

    ``lost`` [1, 3, H, W] is the portrait minus its round trip, both in [-1, 1]; ``half`` is the round trip at half the
    size, ``levels`` its luma [1, 1, h, w] at each of ``LEVELS``.
    """

    lost: Tensor
    half: Tensor
    levels: tuple[Tensor, ...]

    @classmethod
    def of(cls, portrait: Tensor, round_trip: Tensor) -> DetailTransfer:
        """``portrait`` and ``round_trip`` [1, 3, 1, H, W] in [-1, 1]."""
        still = round_trip[:, :, 0].float()
        half = functional.avg_pool2d(still, 2)
        return cls(portrait[:, :, 0].float() - still, half, _levels(half))

    def apply(self, frames: Tensor, strength: float) -> Tensor:
        """``frames`` [1, 3, T, H, W] in [-1, 1] with ``strength`` (0..1) of the detail that they lack."""
        together = CPU_FRAMES if frames.device.type == "cpu" else frames.shape[2]
        detailed = torch.empty_like(frames)
        for some, result in zip(frames.split(together, dim=2), detailed.split(together, dim=2), strict=True):
            pictures = some[0].movedim(1, 0).float()
            half = functional.avg_pool2d(pictures, 2)
            flow = self.flow(half)
            lost = _warped(self.lost, _resized(flow, pictures.shape[-2:]))
            weight = _resized(strength * self._likeness(half, flow), pictures.shape[-2:])
            result[0].movedim(1, 0).copy_(torch.addcmul(pictures, weight, lost).clamp_(-1, 1))
        return detailed

    def flow(self, half: Tensor) -> Tensor:
        """How far from where they lie in the portrait pixels of frames, given at half their size [T, 3, h, w], are.

        Returns:
            [T, 2, h, w]: across and down, in the units of ``grid_sample`` (the picture is 2 wide and high).
        """
        flow = half.new_zeros(len(half), 2, 1, 1)
        for still, target, (_, steps) in zip(self.levels, _levels(half), LEVELS, strict=True):
            flow = _resized(flow, still.shape[-2:])
            for _ in range(steps):
                flow = flow + _step(still, target, flow)
        return flow

    def _likeness(self, half: Tensor, flow: Tensor) -> Tensor:
        """How much frames look like the moved round trip around each pixel: 0..1 [T, 1, h, w]."""
        difference = half - _warped(self.half, flow)
        error = _blurred(difference.square_().mean(1, keepdim=True), LIKENESS_SIGMA)
        return error.mul_(-0.5 / TOLERANCE**2).exp_()


def _levels(half: Tensor) -> tuple[Tensor, ...]:
    """Luma of pictures at half their size, at each of ``LEVELS``."""
    red, green, blue = half.split(1, dim=1)
    grey = 0.299 * red + 0.587 * green + 0.114 * blue
    return tuple(functional.avg_pool2d(grey, level // 2) for level, _ in LEVELS)


def _step(still: Tensor, target: Tensor, flow: Tensor) -> Tensor:
    """One Gauss-Newton step of the flow along which ``still`` [1, 1, h, w] becomes ``target`` [T, 1, h, w]."""
    moved = _warped(still, flow)
    across, down = _gradients(moved)
    rest = target - moved
    products = torch.cat((across * across, across * down, down * down, across * rest, down * rest), dim=1)
    xx, xy, yy, xt, yt = _blurred(products, WINDOW_SIGMA).split(1, dim=1)
    xx, yy = xx + STIFFNESS, yy + STIFFNESS
    determinant = xx * yy - xy * xy
    # Beyond a pixel, the gradients say nothing.
    x, y = (((a * b - xy * c) / determinant).clamp_(-1, 1) for a, b, c in ((yy, xt, yt), (xx, yt, xt)))
    height, width = still.shape[-2:]
    return _blurred(torch.cat((x * (2 / width), y * (2 / height)), dim=1), FLOW_SIGMA)


def _warped(picture: Tensor, flow: Tensor) -> Tensor:
    """``picture`` [1, C, H, W] moved by ``flow`` [T, 2, H, W]."""
    height, width = flow.shape[-2:]
    x, y = ((torch.arange(n, device=flow.device) + 0.5) * (2 / n) - 1 for n in (width, height))
    grid = torch.stack((x + flow[:, 0], y[:, None] + flow[:, 1]), dim=-1)
    picture = picture.expand(len(flow), -1, -1, -1)
    return functional.grid_sample(picture, grid, padding_mode="border", align_corners=False)


def _gradients(picture: Tensor) -> tuple[Tensor, Tensor]:
    padded = functional.pad(picture, (1, 1, 1, 1), mode="replicate")
    across = (padded[..., 1:-1, 2:] - padded[..., 1:-1, :-2]) / 2
    return across, (padded[..., 2:, 1:-1] - padded[..., :-2, 1:-1]) / 2


def _blurred(pictures: Tensor, sigma: float) -> Tensor:
    """Every channel, by a Gaussian; as products of matrices, several times as fast as convolutions on a CPU."""
    height, width = pictures.shape[-2:]
    rows = pictures @ _gaussian(width, sigma, pictures.device)
    return _gaussian(height, sigma, pictures.device).T @ rows


@lru_cache(maxsize=32)
def _gaussian(length: int, sigma: float, device: torch.device) -> Tensor:
    """[length, length], of which each column weighs the pixels of a line; those at its ends are repeated beyond."""
    half = int(3 * sigma)
    at = torch.arange(-half, half + 1, device=device)
    kernel = torch.softmax(-0.5 * (at / sigma) ** 2, dim=0)
    impulses = functional.pad(torch.eye(length, device=device)[:, None], (half, half), mode="replicate")
    return functional.conv1d(impulses, kernel.view(1, 1, -1))[:, 0]


def _resized(pictures: Tensor, size: tuple[int, ...]) -> Tensor:
    return functional.interpolate(pictures, size, mode="bilinear", align_corners=False)
