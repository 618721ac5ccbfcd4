"""Clips as files: ``python -m asymtalker.training synth``."""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
from collections.abc import Callable, Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from ...models.files import replacing
from .clip import BLINKS, HEADS, make_clip

SIZE = 256
ARRAYS = ("frames", "audio", "poses", "opening", "width", "rounding", "mouth_boxes", "portrait")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `synth`."""
    parser.add_argument("--out", type=Path, required=True, help="folder for the clips")
    parser.add_argument(
        "--seed", type=int, default=0, help="seed of the corpus; each clip depends only on seed and index"
    )
    parser.add_argument("--start", type=int, default=0, help="index of the first clip")
    parser.add_argument("--count", type=int, required=True, help="number of clips")
    parser.add_argument("--frames", type=int, default=61, help="frames per clip, at 25 per second")
    parser.add_argument("--size", type=int, default=SIZE, help="width and height in pixels (default: %(default)s)")
    add_motion_arguments(parser)
    parser.add_argument("--workers", type=int, default=1, help="number of processes")


def add_motion_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments that `motion_of` reads."""
    parser.add_argument(
        "--head",
        choices=HEADS,
        default="spoken",
        help="head motion that follows the speech, or is free (default: %(default)s)",
    )
    parser.add_argument(
        "--head-motion", type=float, default=1.0, help="amount of head and gaze motion, 0 to 1 (default: %(default)s)"
    )
    parser.add_argument(
        "--face-motion", type=float, default=1.0, help="amount of brow and eyelid motion, 0 to 1 (default: %(default)s)"
    )
    parser.add_argument(
        "--blinks",
        choices=BLINKS,
        default="pauses",
        help="blinks in the pauses, or at any time for networks that are told of them (default: %(default)s)",
    )


def motion_of(args: argparse.Namespace) -> dict[str, Any]:
    """The motion of a clip, as `make_clip` takes it."""
    return {"head": args.head, "head_motion": args.head_motion, "face_motion": args.face_motion, "blinks": args.blinks}


def run(args: argparse.Namespace) -> int:
    """Writes the clips that are not there yet."""
    args.out.mkdir(parents=True, exist_ok=True)
    write = partial(write_clip, args.out, args.seed, num_frames=args.frames, size=args.size, motion=motion_of(args))
    for_each_clip(write, range(args.start, args.start + args.count), args.workers)
    return 0


def for_each_clip(write: Callable[[int], Path], indices: range, workers: int) -> None:
    """Calls ``write`` with each index, in ``workers`` processes."""
    if workers <= 1:
        for index in indices:
            write(index)
        return
    # Fresh processes: eSpeak's state is per process, and threads of a forked parent would be lost.
    with multiprocessing.get_context("spawn").Pool(workers) as pool:
        for _ in pool.imap_unordered(write, indices):
            pass


def clip_path(folder: Path, seed: int, index: int, num_frames: int, size: int) -> Path:
    """Where a clip is kept."""
    other_size = f"_{size}px" if size != SIZE else ""
    return folder / f"clip_s{seed}_f{num_frames}{other_size}_{index:07d}.safetensors"


def write_clip(folder: Path, seed: int, index: int, num_frames: int, size: int, motion: Mapping[str, Any]) -> Path:
    """Makes one clip (`motion` as in `make_clip`) and writes it whole, unless its file exists."""
    path = clip_path(folder, seed, index, num_frames, size)
    if path.exists():
        return path
    clip = make_clip(seed, index, num_frames, size, **motion)
    metadata = {"seed": str(seed), "index": str(index), "identity": json.dumps(asdict(clip.identity))}
    save_arrays(clip, path, metadata)
    return path


def save_arrays(clip: Any, path: Path, metadata: dict[str, str]) -> None:
    """Writes the ``ARRAYS`` of a clip to a file that appears when it is whole."""
    with replacing(path, writer=f".{os.getpid()}") as unfinished:
        save_file({name: np.ascontiguousarray(getattr(clip, name)) for name in ARRAYS}, unfinished, metadata)
