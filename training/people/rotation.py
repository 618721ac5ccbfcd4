"""Rotations as vectors (axis times angle), batched."""

from __future__ import annotations

import numpy as np


def matrices_from_rotvecs(vectors: np.ndarray) -> np.ndarray:
    """Rodrigues' formula: vectors [..., 3] in radians -> matrices [..., 3, 3]."""
    angle = np.linalg.norm(vectors, axis=-1)[..., None, None]
    x, y, z = np.moveaxis(vectors, -1, 0)
    zero = np.zeros_like(x)
    cross = np.stack([zero, -z, y, z, zero, -x, -y, x, zero], axis=-1).reshape(*x.shape, 3, 3)
    # sin(a)/a and (1 - cos(a))/a^2, which have limits at 0.
    first = np.sinc(angle / np.pi)
    second = 0.5 * np.sinc(angle / (2 * np.pi)) ** 2
    return np.eye(3) + first * cross + second * (cross @ cross)


def rotvecs_from_matrices(matrices: np.ndarray) -> np.ndarray:
    """Vectors [..., 3] of rotations [..., 3, 3] by less than half a turn."""
    m = matrices
    axis = 0.5 * np.stack(
        [m[..., 2, 1] - m[..., 1, 2], m[..., 0, 2] - m[..., 2, 0], m[..., 1, 0] - m[..., 0, 1]], axis=-1
    )
    sine = np.linalg.norm(axis, axis=-1, keepdims=True)
    angle = np.arctan2(sine, 0.5 * (np.trace(m, axis1=-2, axis2=-1)[..., None] - 1))
    return axis * np.where(sine > 1e-9, angle / np.maximum(sine, 1e-9), 1.0)
