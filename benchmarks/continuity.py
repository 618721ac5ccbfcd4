"""Measure how the options of AsymTalker Continuity affect drift, seams and time, with one nano video per option.

Figures are written after each video. An option that is already in the file is not measured again.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..models.drift import color_distance
from ..models.rates import FPS
from .command import command_parser
from .host import Host, Made
from .long_run import Cost, drift
from .report import aligned

OPTIONS: tuple[dict[str, Any], ...] = (
    {},
    {"carry": "latents"},
    {"color_strength": 0.0},
    {"carry": "latents", "color_strength": 0.0},
    {"latents": 1},
    {"latents": 4},
)
SHOWN_FRAMES = FPS
"""Frames at the beginning and at the end whose colours are held against the portrait's."""


def parse_arguments(arguments: list[str] | None) -> argparse.Namespace:
    """Return the command line's options."""
    parser = command_parser(" continuity", __doc__)
    parser.add_argument("--seconds", type=float, default=60.0, help="length of each video (default: %(default)s)")
    parser.add_argument("--json", type=Path, help="JSON file for the figures; options already in it are skipped")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    """Run the command and return its exit status."""
    options = parse_arguments(arguments)
    file: Path | None = options.json
    known: dict[str, Any] = json.loads(file.read_text(encoding="utf-8")) if file is not None and file.is_file() else {}
    with tempfile.TemporaryDirectory() as folder:
        host = Host("nano", Path(folder))
        for changes in OPTIONS:
            name = ", ".join(f"{option} {value}" for option, value in changes.items()) or "defaults"
            if name in known:
                continue
            print(f"{name} ...", file=sys.stderr, flush=True)
            known[name] = _measured(host, options.seconds, changes)
            if file is not None:
                file.write_text(json.dumps(known, indent=1) + "\n", encoding="utf-8")
    print(table(known))
    return 0


def _measured(host: Host, seconds: float, changes: dict[str, Any]) -> dict[str, Any]:
    started = Cost.now()
    made = host.make(seconds, **changes)
    cost = Cost.now().since(started)
    report = json.loads(made.report)
    return {
        "seconds": seconds,
        "cpu_s_per_s": cost.cpu / seconds,
        "chunks": len(report["chunks"]),
        "drift": drift(report["chunks"]),
        "shown_color_distance": _shown(made, host.reference.portrait),
    }


def _shown(made: Made, portrait: Tensor) -> dict[str, float]:
    """Lab distance of the frames as they are shown, at the beginning and at the end."""
    count = made.video.get_frame_count()
    frames: Iterator[Any] = made.video.frames()
    first = list(islice(frames, SHOWN_FRAMES))
    last = list(islice(frames, max(0, count - 2 * SHOWN_FRAMES), None))
    return {name: color_distance(_pixels(some), portrait) for name, some in (("first", first), ("last", last))}


def _pixels(frames: list[Any]) -> Tensor:
    """uint8 [H, W, 3] each -> [1, 3, n, H, W] in [-1, 1]."""
    return torch.from_numpy(np.stack(frames)).permute(3, 0, 1, 2)[None] / 127.5 - 1


def table(options: dict[str, Any]) -> str:
    """Figures as aligned text: beginning > end."""
    headings = ("", "distance", "colour shown", "sharpness", "motion", "seam", "worst", "CPU s/s")
    return aligned([headings, *map(_row, options.items())])


def _row(item: tuple[str, dict[str, Any]]) -> tuple[str, ...]:
    name, run = item
    found = run["drift"]
    pairs = (found["reference_distance"], run["shown_color_distance"], found["sharpness"], found["motion"])
    seam = found["seam"]
    return (
        name,
        *(f"{pair['first']:.3g} > {pair['last']:.3g}" for pair in pairs),
        f"{seam['median']:.2f}",
        f"{seam['worst']:.2f}",
        f"{run['cpu_s_per_s']:.2f}",
    )
