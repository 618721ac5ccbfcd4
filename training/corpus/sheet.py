"""A picture of the corpus: ``python -m asymtalker.training synth-sheet``."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from ...models.rates import FPS
from .clip import identity_of, make_clip
from .motion import Pose, sample_pose
from .render import render

SHEET_COLUMNS, SHEET_ROWS = 6, 4


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `synth-sheet`."""
    parser.add_argument("--out", type=Path, required=True, help="image (.jpg, .png) or animation (.webp) to write")
    parser.add_argument("--seed", type=int, default=0, help="seed of the corpus")
    parser.add_argument("--start", type=int, default=0, help="index of the first person")


def run(args: argparse.Namespace) -> int:
    """Writes a sheet of 6 x 4 people who speak, or four of them for some seconds."""
    args.out.parent.mkdir(parents=True, exist_ok=True)
    if args.out.suffix.lower() == ".webp":
        first, *later = (Image.fromarray(frame) for frame in moving_sheet(args.seed, args.start))
        first.save(args.out, save_all=True, append_images=later, duration=1000 // FPS, loop=0, quality=70, method=4)
    else:
        Image.fromarray(contact_sheet(args.seed, args.start)).save(args.out, quality=86)
    return 0


def moving_sheet(seed: int, start: int, num_frames: int = 75) -> np.ndarray:
    """Four people side by side who say something, silently: uint8 `[num_frames, 128, 512, 3]`."""
    clips = [make_clip(seed, index, num_frames) for index in range(start, start + 4)]
    side_by_side = np.concatenate([clip.frames for clip in clips], axis=2).astype(np.float32)
    halved = side_by_side.reshape(num_frames, 128, 2, 512, 2, 3).mean(axis=(2, 4))
    return halved.round().astype(np.uint8)


def contact_sheet(seed: int, start: int, size: int = 256) -> np.ndarray:
    """uint8 `[4 * size, 6 * size, 3]`."""
    rows = []
    for r in range(SHEET_ROWS):
        indices = range(start + r * SHEET_COLUMNS, start + (r + 1) * SHEET_COLUMNS)
        rows.append(np.concatenate([render(identity_of(seed, i), _speaking(seed, i), size) for i in indices], axis=1))
    return np.concatenate(rows, axis=0)


def _speaking(seed: int, index: int) -> Pose:
    """A random pose with the eyes and the mouth open."""
    pose = sample_pose(np.random.default_rng([seed, index, 9]))
    return replace(pose, blink=0.0, press=0.0, jaw=max(pose.jaw, 0.25))
