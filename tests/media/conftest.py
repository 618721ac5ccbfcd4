"""Frames and folders that the media tests share."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

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


@pytest.fixture
def make_tmpfs(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """Mounts a tmpfs of the given size ("2m") and returns it; skips where mounting is not permitted."""
    mounted: list[Path] = []

    def mount(size: str) -> Path:
        if not sys.platform.startswith("linux"):
            pytest.skip("tmpfs needs Linux")
        folder = tmp_path / f"tmpfs{len(mounted)}"
        folder.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
        try:
            subprocess.run(command, check=True, capture_output=True)
        except (OSError, subprocess.CalledProcessError):
            pytest.skip("mounting a tmpfs is not permitted here")
        mounted.append(folder)
        return folder

    yield mount
    for folder in mounted:
        subprocess.run(["umount", "-l", str(folder)], check=True, capture_output=True)
