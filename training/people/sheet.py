"""`python -m asymtalker.training people-sheet` renders a picture of what the corpus shows."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image

from ..corpus.motion import Pose
from .clip import look_of, studio_of, to_bytes
from .photo import Look, develop
from .write import add_common, sources_of

# What a sheet shows of each person.
VISEMES: Mapping[str, Pose] = {
    "rest": Pose(smile=0.15),
    "ah": Pose(jaw=1.0, teeth=0.35, width=0.05),
    "ee": Pose(jaw=0.28, width=0.95, teeth=0.95),
    "oo": Pose(jaw=0.28, rounding=1.0, teeth=0.1),
    "f": Pose(jaw=0.14, tuck=1.0, teeth=0.85, width=0.15),
    "l": Pose(jaw=0.32, tongue=1.0, teeth=0.55, width=0.2),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `people-sheet`."""
    add_common(parser)
    parser.add_argument("--out", type=Path, required=True, help="image to write")
    parser.add_argument("--count", type=int, default=24, help="number of people, one per row (default: %(default)s)")


def run(args: argparse.Namespace) -> int:
    """Writes a sheet of people, each with the six of `VISEMES` in a row, two people side by side."""
    sources = sources_of(args.assets, args.backgrounds)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    rows = []
    for index in range(args.start, args.start + args.count):
        studio = studio_of(sources, args.seed, index, framing=args.framing)
        frames = np.stack([to_bytes(studio.frame(pose).colour) for pose in VISEMES.values()])
        look = Look() if args.look == "plain" else look_of(args.seed, index, "people", args.framing)
        rows.append(np.concatenate(list(develop(frames, look, np.random.default_rng(index))), axis=1))
    if len(rows) % 2:
        rows.append(np.zeros_like(rows[0]))
    half = len(rows) // 2
    Image.fromarray(np.concatenate([np.concatenate(rows[:half]), np.concatenate(rows[half:])], axis=1)).save(args.out)
    return 0
