"""Optical flow: where the pixels of frames lie in a picture that has moved (Lucas and Kanade, 1981, coarse to fine)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from .pictures import blurred, luma_of, resized, sampled

# The pyramid has pictures of the size that is given, of half of it and so on, down to about this many pixels.
COARSEST = 16
# Gauss-Newton steps at each level.
STEPS = 3
# Standard deviation of the flow's windows and of its smoothing after each step, in pixels at half a level's size, where
# both are computed: a quarter of the work. What this loses is smaller than the windows.
WINDOW_SIGMA, FLOW_SIGMA = 1.25, 0.5
# Added to squared gradients (of luma in [-1, 1]): where a window has no edge, the flow stays as it was.
DAMPING = 2e-3

Pyramid = tuple[Tensor, ...]
"""Luma of pictures [T, 1, h, w] at each level, coarsest first."""


def luma_pyramid(pictures: Tensor) -> Pyramid:
    """The levels of pictures [T, 3, h, w]."""
    levels = [luma_of(pictures)]
    while min(levels[-1].shape[-2:]) >= 2 * COARSEST:
        levels.append(functional.avg_pool2d(levels[-1], 2))
    return tuple(reversed(levels))


def optical_flow(still: Pyramid, frames: Tensor) -> Tensor:
    """Where each pixel of ``frames`` [T, 3, h, w] lies in the picture whose pyramid is ``still``.

    Returns:
        [T, 2, h, w]: its distance from there, across and down, in units of ``grid_sample`` (the picture is 2 wide).
    """
    flow = frames.new_zeros(len(frames), 2, 1, 1)
    for picture, target in zip(still, luma_pyramid(frames), strict=True):
        flow = resized(flow, picture.shape[-2:])
        for _ in range(STEPS):
            flow = flow + _step(picture, target, flow)
    return flow


def _step(still: Tensor, target: Tensor, flow: Tensor) -> Tensor:
    """One Gauss-Newton step of the ``flow`` along which ``still`` [1, 1, h, w] becomes ``target`` [T, 1, h, w].

    With m = still(p + flow) and g its gradient, the step d solves (sum g g^T + damping) d = sum g (target - m), summed
    over a Gaussian window.
    """
    moved = sampled(still, flow)
    gx, gy = _gradients(moved)
    change = target - moved
    products = torch.cat((gx * gx, gx * gy, gy * gy, gx * change, gy * change), dim=1)
    summed = blurred(functional.avg_pool2d(products, 2, ceil_mode=True), WINDOW_SIGMA)
    xx, xy, yy, xt, yt = summed.split(1, dim=1)
    xx, yy = xx + DAMPING, yy + DAMPING
    determinant = xx * yy - xy * xy
    # Beyond a pixel, the gradients say nothing.
    x, y = (((a * b - xy * c) / determinant).clamp_(-1, 1) for a, b, c in ((yy, xt, yt), (xx, yt, xt)))
    height, width = still.shape[-2:]
    step = blurred(torch.cat((x * (2 / width), y * (2 / height)), dim=1), FLOW_SIGMA)
    # Odd lengths were halved with the border's pixel alone in the last place.
    return functional.interpolate(step, scale_factor=2, mode="bilinear", align_corners=False)[..., :height, :width]


def _gradients(picture: Tensor) -> tuple[Tensor, Tensor]:
    padded = functional.pad(picture, (1, 1, 1, 1), mode="replicate")
    across = (padded[..., 1:-1, 2:] - padded[..., 1:-1, :-2]) / 2
    return across, (padded[..., 2:, 1:-1] - padded[..., :-2, 1:-1]) / 2
