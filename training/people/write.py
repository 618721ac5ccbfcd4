"""`python -m asymtalker.training people` renders people, drawn faces in photographs' looks, or both."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from ..core.config import TrainingError
from ..corpus.write import add_motion_arguments, for_each_clip, motion_of, save_arrays
from .assets import WHERE
from .clip import CORPORA, FRAMINGS, Sources, kind_of, make_footage
from .kernel import COMPILED
from .photo import Look


def add_common(parser: argparse.ArgumentParser) -> None:
    """Arguments that say who is shown and how."""
    parser.add_argument("--assets", type=Path, help=f"folder of {WHERE}; required for people")
    parser.add_argument("--backgrounds", type=Path, help="folder of background images, for example CC0")
    parser.add_argument(
        "--seed", type=int, default=0, help="seed of the corpus; each clip depends only on seed and index"
    )
    parser.add_argument("--start", type=int, default=0, help="index of the first clip")
    parser.add_argument(
        "--look",
        choices=("photo", "plain"),
        default="photo",
        help="photo adds camera and filter effects, plain does not (default: %(default)s)",
    )
    parser.add_argument(
        "--framing",
        choices=FRAMINGS,
        default="portrait",
        help="portrait frames every face as Face Crop does, any varies the size (default: %(default)s)",
    )


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `people`."""
    add_common(parser)
    parser.add_argument("--out", type=Path, required=True, help="folder for the clips; existing ones are kept")
    parser.add_argument(
        "--corpus", choices=CORPORA, default="people", help="people, drawn faces or both (default: %(default)s)"
    )
    parser.add_argument(
        "--share", type=float, default=0.5, help="share of people in a mixed corpus (default: %(default)s)"
    )
    parser.add_argument("--count", type=int, required=True, help="number of clips")
    parser.add_argument(
        "--frames", type=int, default=61, help="frames per clip, at 25 per second (default: %(default)s)"
    )
    add_motion_arguments(parser)
    parser.add_argument("--workers", type=int, default=1, help="number of processes (default: %(default)s)")


@lru_cache(maxsize=1)
def _sources(assets: Path, backgrounds: Path | None) -> Sources:
    return Sources.read(assets, backgrounds)


def sources_of(assets: Path | None, backgrounds: Path | None) -> Sources:
    """What people are made of, read once a process.

    Raises:
        TrainingError: no ``assets``, or no compiler for the renderer.
    """
    if assets is None:
        raise TrainingError(f"people need --assets: a folder of {WHERE}")
    if not COMPILED:
        raise TrainingError("people need numba (pip install numba): without it a frame takes minutes")
    return _sources(assets, backgrounds)


def run(args: argparse.Namespace) -> int:
    """Writes the clips that are not there yet."""
    if args.corpus != "drawn":
        sources_of(args.assets, args.backgrounds)
    args.out.mkdir(parents=True, exist_ok=True)
    for_each_clip(partial(_write_index, args), range(args.start, args.start + args.count), args.workers)
    return 0


def _write_index(args: argparse.Namespace, index: int) -> Path:
    kind = kind_of(args.corpus, args.seed, index, args.share)
    motion = motion_of(args)
    look = Look() if args.look == "plain" else None
    return write_footage(
        args.out, args.assets, args.backgrounds, args.seed, index, args.frames,
        kind=kind, look=look, framing=args.framing, motion=motion,
    )  # fmt: skip


def clip_path(folder: Path, kind: str, seed: int, index: int, num_frames: int) -> Path:
    """Where a clip is kept; trainers take every ``clip_*.safetensors``."""
    return folder / f"clip_{kind}_s{seed}_f{num_frames}_{index:07d}.safetensors"


def write_footage(
    folder: Path,
    assets: Path | None,
    backgrounds: Path | None,
    seed: int,
    index: int,
    num_frames: int,
    *,
    kind: str,
    look: Look | None,
    framing: str,
    motion: Mapping[str, Any],
) -> Path:
    """Makes one clip and writes it whole, unless its file exists."""
    path = clip_path(folder, kind, seed, index, num_frames)
    if path.exists():
        return path
    sources = sources_of(assets, backgrounds) if kind == "people" else None
    footage = make_footage(sources, seed, index, num_frames, kind, look, framing=framing, **motion)
    metadata = {"seed": str(seed), "index": str(index), **{k: json.dumps(v) for k, v in footage.about.items()}}
    save_arrays(footage, path, metadata)
    return path
