"""Light: a few soft lamps and a sky, with the shadows a head casts on itself."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .kernel import fill_depth

_DIRECTIONS = 64
_MAP = 160
_BIAS = 0.035


@dataclass(frozen=True)
class Light:
    """``lamps`` [3, 3] directions to the lamps, ``colours`` [3, 3], ``softness`` [3] (0 a point, 1 the whole sky)."""

    lamps: np.ndarray
    colours: np.ndarray
    softness: np.ndarray
    sky: np.ndarray
    ground: np.ndarray
    exposure: float


def directions(count: int = _DIRECTIONS) -> np.ndarray:
    """Unit vectors [count, 3] spread evenly over the sphere (a Fibonacci spiral)."""
    i = np.arange(count) + 0.5
    polar, around = np.arccos(1 - 2 * i / count), np.pi * (1 + 5**0.5) * i
    return np.stack([np.cos(around) * np.sin(polar), np.cos(polar), np.sin(around) * np.sin(polar)], axis=1)


def visibility(
    vertices: np.ndarray, occluders: np.ndarray, probes: np.ndarray, normals: np.ndarray, size: int = _MAP
) -> np.ndarray:
    """How much of each direction places ``probes`` [P, 3] see past triangles [N, 3] of ``vertices``: float32 [P, D].

    ``size`` is the side of the depth maps it is read from.
    """
    seen = np.empty((len(probes), _DIRECTIONS), np.float32)
    lifted = probes + 0.02 * normals
    for k, direction in enumerate(directions()):
        side = np.cross(direction, (0.0, 1.0, 0.0) if abs(direction[1]) < 0.9 else (1.0, 0.0, 0.0))
        side /= np.linalg.norm(side)
        axes = np.stack([side, np.cross(side, direction), direction])
        flat, probe = vertices @ axes.T, lifted @ axes.T
        low, high = flat[:, :2].min(axis=0), flat[:, :2].max(axis=0)
        scale = (size - 2) / (high - low).max()
        # Depths are above 0, where an empty map is.
        x, y, z = (1 + (flat[:, 0] - low[0]) * scale, 1 + (flat[:, 1] - low[1]) * scale, flat[:, 2] + 100)
        depth = np.zeros((size, size), np.float32)
        fill_depth(x, y, z, occluders, depth)
        px, py = (probe[:, :2] - low).T * scale + 1
        total = np.zeros(len(probes), np.float32)
        for dx, dy in ((-0.7, -0.3), (0.7, 0.3), (0.3, -0.7), (-0.3, 0.7)):
            column = np.clip((px + dx).astype(int), 0, size - 1)
            row = np.clip((py + dy).astype(int), 0, size - 1)
            total += depth[row, column] <= probe[:, 2] + 100 + _BIAS
        seen[:, k] = 0.25 * total
    return seen


def ambient_occlusion(seen: np.ndarray, normals: np.ndarray) -> np.ndarray:
    """The cosine-weighted share of the sky [V] that is visible from each vertex."""
    cosine = np.maximum(normals @ directions().T, 0.0).astype(np.float32)
    return (seen * cosine).sum(axis=1) / np.maximum(cosine.sum(axis=1), 1e-6)


def lamp_weights(lamps: np.ndarray, softness: np.ndarray) -> np.ndarray:
    """Which directions each lamp fills: [D, 3], each column summing to 1."""
    sharp = 2.0 + 40.0 * (1.0 - softness) ** 2
    weights = np.exp(sharp * (directions() @ lamps.T - 1.0))
    return weights / weights.sum(axis=0)


def _toward(azimuth: float, elevation: float) -> np.ndarray:
    return np.array([np.sin(azimuth) * np.cos(elevation), np.sin(elevation), np.cos(azimuth) * np.cos(elevation)])


def _warmth(rng: np.random.Generator, amount: float) -> np.ndarray:
    """A colour of light between candle and shade."""
    t = float(rng.normal(0, amount))
    return np.array([np.exp(0.35 * t), 1.0, np.exp(-0.55 * t)])


def _gel(rng: np.random.Generator) -> np.ndarray:
    """A saturated colour."""
    hue = 6 * rng.random()
    rgb = np.clip(np.abs((hue + np.array([0.0, 4.0, 2.0])) % 6 - 3) - 1, 0, 1)
    return 0.12 + 0.88 * rgb


# Strengths of the lamp in front, that on the other side, that behind, and the sky.
_KINDS = {
    "window": (2.2, 0.25, 0.1, 0.35),
    "sun": (3.4, 0.1, 0.0, 0.40),
    "studio": (1.7, 0.7, 0.7, 0.25),
    "back": (0.6, 0.4, 1.8, 0.45),
    "flash": (2.6, 0.0, 0.0, 0.15),
    "overcast": (0.7, 0.2, 0.1, 0.95),
    "gels": (1.7, 1.2, 0.8, 0.20),
}


def sample_light(rng: np.random.Generator) -> Light:
    """One of: window, sun, studio, lamp from behind, flash, overcast, coloured lamps."""
    kind = str(rng.choice(list(_KINDS), p=[0.26, 0.12, 0.24, 0.10, 0.08, 0.12, 0.08]))
    side = 1.0 if rng.random() < 0.5 else -1.0
    azimuth, elevation = side * rng.uniform(0.3, 1.25), rng.uniform(0.1, 0.75)
    key, fill, rim, sky = _KINDS[kind]
    if kind == "flash":
        azimuth, elevation = side * 0.12, 0.15
    if kind == "sun":
        elevation = rng.uniform(0.5, 1.05)
    lamps = np.stack(
        [
            _toward(azimuth, elevation),
            _toward(-side * rng.uniform(0.6, 1.4), rng.uniform(-0.1, 0.5)),
            _toward(side * rng.choice([-1, 1]) * rng.uniform(2.1, 2.8), rng.uniform(0.1, 0.8)),
        ]
    )
    colour = [_gel(rng) if kind == "gels" and k else _warmth(rng, 0.27) for k in range(3)]
    strength = np.array([key, fill, rim]) * np.exp(rng.normal(0, 0.2, 3))
    softness = np.array([{"sun": 0.1, "flash": 0.25, "overcast": 0.95}.get(kind, rng.uniform(0.35, 0.9)), 0.8, 0.5])
    return Light(
        lamps=lamps,
        colours=np.stack(colour) * strength[:, None],
        softness=softness,
        sky=sky * _warmth(rng, 0.25) * np.exp(rng.normal(0, 0.15)),
        ground=0.45 * sky * _warmth(rng, 0.3),
        exposure=float(np.exp(rng.normal(0, 0.14))),
    )
