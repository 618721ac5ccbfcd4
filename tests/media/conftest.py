"""Frames and folders that the media tests share."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import numpy as np
import numpy.typing as npt

Frames = npt.NDArray[np.uint8]


def moving_frames(count: int, height: int = 48, width: int = 64, *, seed: int = 0, noise: float = 2.0) -> Frames:
    """uint8 [count, height, width, 3]: a gradient and a disc that move, with sensor noise."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width].astype(np.float32)
    frames = np.empty((count, height, width, 3), np.uint8)
    for index in range(count):
        disc = ((x - width / 2 - 5 * np.sin(index / 4)) ** 2 + (y - height / 2) ** 2) < (height / 4) ** 2
        image = np.stack([40 + x, 200 - y, 90 + 60 * disc], axis=-1) + rng.normal(0, noise, (height, width, 3))
        frames[index] = image.clip(0, 255)
    return frames


def children() -> set[int]:
    """Process ids of this process's ffmpegs, zombies included (Linux; empty elsewhere)."""
    found = set()
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            pid, rest = stat.read_text().split(" (", 1)
            name, fields = rest.rsplit(") ", 1)
            if name.startswith("ffmpeg") and int(fields.split()[1]) == os.getpid():
                found.add(int(pid))
    return found


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())
