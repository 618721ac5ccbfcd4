"""Colour correction: a chunk's Lab statistics are moved to the portrait's, so that colour cannot drift over chunks.

Optimised for CPUs. Powers are 2^(p log2 x), three times as fast as ``pow`` in PyTorch. Curves with a linear part are
sums of clamped terms, because ``where`` costs as much as a power. Frames are corrected one at a time, to stay in the
cache.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

# Linear sRGB -> XYZ and the D65 white of the 2 degree observer, to the digits of the published checkpoints' pipeline.
RGB_TO_XYZ = ((0.4124564, 0.3575761, 0.1804375), (0.2126729, 0.7151522, 0.0721750), (0.0193339, 0.1191920, 0.9503041))
D65_WHITE = (0.95047, 1.0, 1.08883)
# CIE 15: the cube root is continued linearly below (6/29)^3.
DELTA = 6 / 29
# L = 116 f(y) - 16, a = 500 (f(x) - f(y)), b = 200 (f(y) - f(z)).
F_TO_LAB = ((0.0, 116.0, 0.0), (500.0, -500.0, 0.0), (0.0, 200.0, -200.0))
LAB_OFFSET = (-16.0, 0.0, 0.0)
# Decoders overshoot [0, 1], so colours are limited to black and white. The small tolerance leaves the rounding of
# colours within the range unchanged.
DARKEST, BRIGHTEST = -1e-5, 1 + 1e-5
# IEC 61966-2-1: where the curve of sRGB meets its line, encoded and linear.
SRGB_KNEE, LINEAR_KNEE = 0.04045, 0.0031308

Vector = tuple[float, ...]
Matrix = tuple[Vector, ...]


def rgb_to_lab(rgb: Tensor) -> Tensor:
    """sRGB in about [0, 1] [B, 3, ...] -> CIE Lab (D65) of the same shape, L in 0..100."""
    to_xyz = tuple(tuple(x / white for x in row) for row, white in zip(RGB_TO_XYZ, D65_WHITE, strict=True))
    xyz = _mix(_linear(rgb.flatten(2)), to_xyz).clamp_(DARKEST, BRIGHTEST)
    f = _below(xyz, DELTA**3, 1 / (3 * DELTA**2)).add_(_power(xyz.clamp_min_(DELTA**3), 1 / 3))
    return _mix(f, F_TO_LAB, LAB_OFFSET).view(rgb.shape)


def lab_to_rgb(lab: Tensor) -> Tensor:
    """CIE Lab (D65) [B, 3, ...] -> sRGB clipped to [0, 1]."""
    from_lab = _inverse(F_TO_LAB)
    offset = tuple(-sum(m * o for m, o in zip(row, LAB_OFFSET, strict=True)) for row in from_lab)
    f = _mix(lab.flatten(2), from_lab, offset)
    f[:, 2].clamp_min_(0)
    xyz = _below(f, DELTA, 3 * DELTA**2).add_(f.clamp_min_(DELTA).pow_(3))
    to_rgb = tuple(tuple(x * white for x, white in zip(row, D65_WHITE, strict=True)) for row in _inverse(RGB_TO_XYZ))
    linear = _mix(xyz, to_rgb)
    line = _below(linear, LINEAR_KNEE, 12.92)
    curve = _power(linear.clamp_min_(LINEAR_KNEE), 1 / 2.4).mul_(1.055).sub_(0.055)
    return curve.add_(line).clamp_(0, 1).view(lab.shape)


ColorTarget = tuple[Tensor, Tensor]
"""Lab mean and standard deviation of a portrait, each [B, 3, 1, 1, 1]."""


def color_target(portrait: Tensor) -> ColorTarget:
    """The statistics to which ``match_color`` moves frames, for ``portrait`` [B, 3, 1, H', W'] in [-1, 1]."""
    _, (mean, _), std = _statistics(portrait)
    return mean, std


def match_color(
    frames: Tensor,
    portrait: Tensor | ColorTarget,
    strength: float,
    *,
    in_place: bool = False,
    measured: Tensor | None = None,
) -> Tensor:
    """Move each frame's Lab mean and standard deviation to the portrait's, blended by ``strength`` in 0..1.

    ``frames`` [B, 3, T, H, W] and ``portrait`` [B, 3, 1, H', W'] in [-1, 1]; returns ``frames``' shape in [-1, 1].
    If ``frames`` are parts of pictures, the statistics are those of one whole picture, ``measured``
    [B, 3, 1, H'', W''].
    """
    if strength == 0:
        return frames
    target_mean, target_std = color_target(portrait) if isinstance(portrait, Tensor) else portrait
    matched = frames if in_place else torch.empty(frames.shape, dtype=frames.dtype, device=frames.device)
    known = None if measured is None else _statistics(measured)[1:]
    # A GPU takes all frames at once; a CPU one at a time, which stays in its cache.
    together = 1 if frames.device.type == "cpu" else frames.shape[2]
    for some, result in zip(frames.split(together, dim=2), matched.split(together, dim=2), strict=True):
        if known is None:
            deviation, _, std = _statistics(some)
        else:
            (mean, rest), std = known
            deviation = _lab(some).sub_(mean).sub_(rest)
        lab = torch.addcmul(target_mean, deviation, target_std / std.clamp_min(1e-6))
        if strength == 1:
            torch.mul(lab_to_rgb(lab), 2, out=result).sub_(1)
        else:
            torch.lerp(some, lab_to_rgb(lab).mul_(2).sub_(1), strength, out=result)
    return matched


def _lab(frames: Tensor) -> Tensor:
    """Lab values of ``frames`` in [-1, 1]."""
    return rgb_to_lab(frames.mul(0.5).add_(0.5))


def _statistics(frames: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor], Tensor]:
    """Of the Lab values of ``frames`` [B, 3, T, H, W] in [-1, 1]: deviations from each frame's mean; mean; std.

    The mean comes with its rounding error. In a flat frame only that is left, and it would be amplified.
    """
    lab = _lab(frames)
    mean = lab.mean(dim=(-2, -1), keepdim=True)
    deviation = lab.sub_(mean)
    rest = deviation.mean(dim=(-2, -1), keepdim=True)
    deviation.sub_(rest)
    pixels = lab.shape[-2] * lab.shape[-1]
    # Row by row: one long sum in float32 would be off by 1e-5 of itself.
    rows = torch.linalg.vector_norm(deviation, dim=-1, keepdim=True)
    std = torch.linalg.vector_norm(rows, dim=-2, keepdim=True) / max(pixels - 1, 1) ** 0.5
    return deviation, (mean, rest), std


def _linear(rgb: Tensor) -> Tensor:
    """sRGB in [0, 1] -> linear light, a new tensor."""
    line = _below(rgb, SRGB_KNEE, 1 / 12.92)
    return _power(rgb.clamp_min(SRGB_KNEE).add_(0.055).div_(1.055), 2.4).add_(line)


def _below(x: Tensor, knee: float, slope: float) -> Tensor:
    """slope * (x - knee) below ``knee``, 0 above: what a line adds to a curve that is constant below the knee."""
    return x.sub(knee).clamp_max_(0).mul_(slope)


def _power(x: Tensor, exponent: float) -> Tensor:
    """x^exponent of positive ``x``, in place."""
    return x.log2_().mul_(exponent).exp2_()


def _mix(x: Tensor, matrix: Matrix, offset: Vector = (0.0, 0.0, 0.0)) -> Tensor:
    """``matrix`` [3, 3] times every pixel of ``x`` [B, 3, N], plus ``offset`` [3]."""
    rows, offsets = _constant(matrix, x.device, x.dtype), _constant(offset, x.device, x.dtype)[:, None]
    if x.device.type == "cpu":
        return torch.baddbmm(offsets, rows.expand(x.shape[0], 3, 3), x)
    # Not as a matrix product, which GPUs round to 10 bits where TF32 is allowed.
    mixed = torch.addcmul(offsets, x[:, 0:1], rows[:, 0:1])
    return mixed.addcmul_(x[:, 1:2], rows[:, 1:2]).addcmul_(x[:, 2:3], rows[:, 2:3])


@lru_cache(maxsize=64)
# Tensors created in inference mode could not be used with gradients.
@torch.inference_mode(False)
def _constant(values: Vector | Matrix, device: torch.device, dtype: torch.dtype) -> Tensor:
    """``values`` on the device, where they are sent once."""
    return torch.tensor(values, dtype=dtype, device=device)


@lru_cache
def _inverse(matrix: Matrix) -> Matrix:
    return tuple(map(tuple, torch.linalg.inv(torch.tensor(matrix, dtype=torch.float64, device="cpu")).tolist()))
