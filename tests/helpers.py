"""Functions and types that tests of several folders share; fixtures are in the conftest files."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.util
import json
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt

from asymtalker.scripts._environment import ROOT
from asymtalker.scripts.graphs import ui_stem

PACK = "asymtalker"
NUM_FRAMES = 70
"""Of the video that the fixture `scene` makes."""

Import = Callable[[str], ModuleType]
Frames = npt.NDArray[np.uint8]

__all__ = [
    "NUM_FRAMES",
    "PACK",
    "ROOT",
    "Frames",
    "Import",
    "cells",
    "children",
    "generate",
    "module_from_file",
    "moving_frames",
    "names",
    "shipped",
]


def shipped(name: str) -> dict[str, Any]:
    """A shipped graph in the front end's form, by the name of its API form."""
    return json.loads((ROOT / "workflows" / f"{ui_stem(name)}.json").read_text(encoding="utf-8"))


def module_from_file(name: str, file: Path, **options: Any) -> ModuleType:
    """Import ``file`` as the module ``name``."""
    spec = importlib.util.spec_from_file_location(name, file, **options)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def generate(pack: Import, scene: SimpleNamespace, **changes: Any) -> tuple[Any, dict[str, Any]]:
    settings = dataclasses.replace(scene.settings, **changes)
    video, report = pack("jobs.sampling").generate(
        scene.model, scene.vae, scene.reference, scene.features, settings, None
    )
    return video, json.loads(report)


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


def cells(table: str) -> str:
    """A Markdown table without the spaces that align its columns."""
    return re.sub(" +", " ", table)
