"""Frames of spectacles, built around a person's eyes."""

from __future__ import annotations

import numpy as np

from .person import Person

_RIM_POINTS, _TUBE_POINTS = 28, 5


def _tube(path: np.ndarray, radius: float, closed: bool) -> tuple[np.ndarray, np.ndarray]:
    """Vertices and triangles of a tube around ``path`` [N, 3]."""
    ahead = np.roll(path, -1, axis=0) - np.roll(path, 1, axis=0) if closed else np.gradient(path, axis=0)
    ahead /= np.linalg.norm(ahead, axis=1, keepdims=True)
    helper = np.where(np.abs(ahead[:, 2:3]) < 0.9, np.array([[0.0, 0.0, 1.0]]), np.array([[0.0, 1.0, 0.0]]))
    side = np.cross(ahead, helper)
    side /= np.linalg.norm(side, axis=1, keepdims=True)
    up = np.cross(side, ahead)
    turn = 2 * np.pi * np.arange(_TUBE_POINTS) / _TUBE_POINTS
    ring = np.cos(turn)[None, :, None] * side[:, None] + np.sin(turn)[None, :, None] * up[:, None]
    vertices = (path[:, None] + radius * ring).reshape(-1, 3)
    n = len(path)
    triangles = []
    for i in range(n if closed else n - 1):
        for j in range(_TUBE_POINTS):
            a, b = i * _TUBE_POINTS + j, i * _TUBE_POINTS + (j + 1) % _TUBE_POINTS
            c, d = ((i + 1) % n) * _TUBE_POINTS + j, ((i + 1) % n) * _TUBE_POINTS + (j + 1) % _TUBE_POINTS
            triangles += [(a, b, d), (a, d, c)]
    return vertices, np.array(triangles, np.int32)


def make_glasses(person: Person, base: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """Vertices [V, 3], triangles [N, 3] and colours [V, 3], or None for who wears none."""
    if person.glasses == "none":
        return None
    left, right = base[14598:14670].mean(axis=0), base[14670:14742].mean(axis=0)
    bridge = base[294]
    front = max(left[2], right[2]) + 0.30
    half = 0.5 * abs(left[0] - right[0])
    wide, high = {"round": (0.80, 0.76), "square": (0.84, 0.60), "thin": (0.80, 0.62)}[person.glasses]
    power = 2.0 if person.glasses == "round" else 3.6
    radius = {"round": 0.018, "square": 0.026, "thin": 0.011}[person.glasses]
    turn = 2 * np.pi * np.arange(_RIM_POINTS) / _RIM_POINTS
    rx, ry = np.cos(turn), np.sin(turn)
    x = wide * half * np.sign(rx) * np.abs(rx) ** (2 / power)
    y = high * half * np.sign(ry) * np.abs(ry) ** (2 / power)
    pieces = []
    for eye in (left, right):
        outwards = np.sign(eye[0])
        z = front - 0.16 * np.clip(outwards * x / half, 0, 1) ** 2 - 0.01
        pieces.append(_tube(np.stack([eye[0] + x, eye[1] - 0.03 + y, z], -1), radius, closed=True))
        hinge = np.array([eye[0] + outwards * wide * half, eye[1] + 0.08, front - 0.17])
        ear = np.array(
            [
                outwards * float(np.abs(base[:13380][base[:13380, 1] > left[1] - 0.4, 0]).max()) * 0.90,
                eye[1] + 0.06,
                eye[2] - 0.9,
            ]
        )
        corner = np.array([ear[0] * 0.985, hinge[1], hinge[2] - 0.10])
        pieces.append(_tube(np.stack([hinge, corner, 0.5 * (corner + ear), ear]), radius, closed=False))
    span = np.linspace(-1, 1, 7)
    gap = half * (1 - wide)
    middle = max(front, float(bridge[2]) - 0.10)
    bow = np.stack([gap * span, left[1] + 0.03 + 0.05 * (1 - span**2), front + (middle - front) * (1 - span**2)], -1)
    pieces.append(_tube(bow, radius, closed=False))
    vertices = np.concatenate([p[0] for p in pieces])
    starts = np.cumsum([0, *(len(p[0]) for p in pieces[:-1])])
    triangles = np.concatenate([p[1] + s for p, s in zip(pieces, starts, strict=True)])
    return vertices, triangles.astype(np.int32), np.tile(np.array(person.glasses_colour), (len(vertices), 1))
