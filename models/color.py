"""Colour correction: a chunk's Lab statistics are moved to the portrait's, so that colour cannot drift over chunks."""

from __future__ import annotations

import torch
from torch import Tensor

# Linear sRGB -> XYZ and the D65 white of the 2 degree observer, to the digits of the published checkpoints' pipeline.
RGB_TO_XYZ = ((0.4124564, 0.3575761, 0.1804375), (0.2126729, 0.7151522, 0.0721750), (0.0193339, 0.1191920, 0.9503041))
D65_WHITE = (0.95047, 1.0, 1.08883)
# CIE 15: the cube root is continued linearly below (6/29)^3.
DELTA = 6 / 29


def rgb_to_lab(rgb: Tensor) -> Tensor:
    """sRGB in [0, 1] [B, 3, ...] -> CIE Lab (D65) of the same shape, L in 0..100."""
    linear = torch.where(rgb > 0.04045, ((rgb + 0.055) / 1.055).clamp_min(0).pow(2.4), rgb / 12.92)
    xyz = _mix(linear, rgb.new_tensor(RGB_TO_XYZ) / rgb.new_tensor(D65_WHITE)[:, None])
    f = torch.where(xyz > DELTA**3, xyz.clamp_min(DELTA**3).pow(1 / 3), xyz / (3 * DELTA**2) + 4 / 29)
    x, y, z = f.unbind(1)
    return torch.stack((116 * y - 16, 500 * (x - y), 200 * (y - z)), dim=1)


def lab_to_rgb(lab: Tensor) -> Tensor:
    """CIE Lab (D65) [B, 3, ...] -> sRGB clipped to [0, 1]."""
    lightness, a, b = lab.unbind(1)
    y = (lightness + 16) / 116
    f = torch.stack((y + a / 500, y, (y - b / 200).clamp_min(0)), dim=1)
    xyz = torch.where(f > DELTA, f.pow(3), 3 * DELTA**2 * (f - 4 / 29))
    to_rgb = torch.linalg.inv(torch.tensor(RGB_TO_XYZ, dtype=torch.float64)).to(lab)
    linear = _mix(xyz, to_rgb * lab.new_tensor(D65_WHITE))
    rgb = torch.where(linear > 0.0031308, 1.055 * linear.clamp_min(0.0031308).pow(1 / 2.4) - 0.055, 12.92 * linear)
    return rgb.clamp(0, 1)


def _mix(x: Tensor, matrix: Tensor) -> Tensor:
    return torch.einsum("ij,bj...->bi...", matrix, x)


def match_color(frames: Tensor, portrait: Tensor, strength: float) -> Tensor:
    """Move each frame's Lab mean and standard deviation to the portrait's, blended by ``strength`` in 0..1.

    ``frames`` [B, 3, T, H, W] and ``portrait`` [B, 3, 1, H', W'] in [-1, 1]; returns ``frames``' shape in [-1, 1].
    """
    if strength == 0:
        return frames
    lab = rgb_to_lab((frames + 1) / 2)
    target = rgb_to_lab((portrait + 1) / 2)
    std, mean = torch.std_mean(lab, dim=(-2, -1), keepdim=True)
    target_std, target_mean = torch.std_mean(target, dim=(-2, -1), keepdim=True)
    matched = (lab - mean) * (target_std / std.clamp_min(1e-6)) + target_mean
    return torch.lerp(frames, lab_to_rgb(matched) * 2 - 1, strength)
