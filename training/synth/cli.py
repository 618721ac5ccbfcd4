"""`python -m training synth` writes clips, `python -m training synth-sheet` a picture of what they look like."""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
from collections.abc import Mapping
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from safetensors.numpy import save_file

from .clip import HEADS, identity_of, make_clip
from .motion import FPS, Pose, sample_pose
from .render import render

SHEET_COLUMNS, SHEET_ROWS = 6, 4
ARRAYS = ("frames", "audio", "poses", "opening", "width", "rounding", "mouth_boxes", "portrait")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `synth`."""
    parser.add_argument("--out", type=Path, required=True, help="folder for the clips")
    parser.add_argument("--seed", type=int, default=0, help="corpus: clips are a function of (seed, index)")
    parser.add_argument("--start", type=int, default=0, help="first index")
    parser.add_argument("--count", type=int, required=True, help="number of clips")
    parser.add_argument("--frames", type=int, default=61, help="frames per clip, at 25 a second")
    parser.add_argument(
        "--head", choices=HEADS, default="spoken", help="moves as speech tells, or freely (default: %(default)s)"
    )
    parser.add_argument("--head-motion", type=float, default=1.0, help="0..1: head and gaze (default: %(default)s)")
    parser.add_argument("--face-motion", type=float, default=1.0, help="0..1: brows and lids (default: %(default)s)")
    parser.add_argument("--workers", type=int, default=1, help="processes")


def run(args: argparse.Namespace) -> int:
    """Writes the clips that are not there yet."""
    args.out.mkdir(parents=True, exist_ok=True)
    motion = {"head": args.head, "head_motion": args.head_motion, "face_motion": args.face_motion}
    write = partial(write_clip, args.out, args.seed, num_frames=args.frames, motion=motion)
    indices = range(args.start, args.start + args.count)
    if args.workers <= 1:
        for index in indices:
            write(index)
        return 0
    # Fresh processes: eSpeak's state is per process, and threads of a forked parent would be lost.
    with multiprocessing.get_context("spawn").Pool(args.workers) as pool:
        for _ in pool.imap_unordered(write, indices):
            pass
    return 0


def clip_path(folder: Path, seed: int, index: int, num_frames: int) -> Path:
    """Where a clip is kept."""
    return folder / f"clip_s{seed}_f{num_frames}_{index:07d}.safetensors"


def write_clip(folder: Path, seed: int, index: int, num_frames: int, motion: Mapping[str, Any]) -> Path:
    """Makes one clip (`motion` as in `make_clip`) and writes it whole, unless its file exists."""
    path = clip_path(folder, seed, index, num_frames)
    if path.exists():
        return path
    clip = make_clip(seed, index, num_frames, **motion)
    metadata = {"seed": str(seed), "index": str(index), "identity": json.dumps(asdict(clip.identity))}
    partial_path = path.with_suffix(f".{os.getpid()}.partial")
    save_file({name: np.ascontiguousarray(getattr(clip, name)) for name in ARRAYS}, partial_path, metadata)
    partial_path.replace(path)
    return path


def add_sheet_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `synth-sheet`."""
    parser.add_argument("--out", type=Path, required=True, help="picture (.jpg, .png) or moving picture (.webp)")
    parser.add_argument("--seed", type=int, default=0, help="corpus")
    parser.add_argument("--start", type=int, default=0, help="first person")


def run_sheet(args: argparse.Namespace) -> int:
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
