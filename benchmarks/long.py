"""Measure the time per second of video, memory, disk use and drift of videos of any length.

Every length runs in its own process (`benchmarks.long_run`), so that peak memory is measured separately. Figures are
written after each length. A length that is already in the file is skipped unless --again is given. A length given
several times is measured several times: short runs around a long one show how steady the machine was. A stopped run is
measured from the beginning.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import torch

from .command import command_parser
from .host import SIZES
from .report import aligned, machine

LENGTHS = (10.0, 60.0, 600.0, 3600.0)
ROOT = Path(__file__).resolve().parents[1]


def parse_arguments(arguments: list[str] | None) -> argparse.Namespace:
    """Return the command line's options."""
    parser = command_parser(" long", __doc__)
    parser.add_argument(
        "--seconds", type=_numbers, default=LENGTHS, help="lengths in seconds (default: 10,60,600,3600)"
    )
    parser.add_argument("--geometries", type=_names, default=("nano",), help="nano, small or both (default: nano)")
    parser.add_argument(
        "--json",
        type=Path,
        default=ROOT / "docs" / "long.json",
        help="JSON file for the figures (default: %(default)s)",
    )
    parser.add_argument("--workdir", type=Path, help="folder for frames and videos (default: a temporary one)")
    parser.add_argument("--again", action="store_true", help="measure again what is already in the file")
    return parser.parse_args(arguments)


def _numbers(text: str) -> tuple[float, ...]:
    return tuple(float(part) for part in text.split(","))


def _names(text: str) -> tuple[str, ...]:
    names = tuple(text.split(","))
    if unknown := set(names) - set(SIZES):
        raise argparse.ArgumentTypeError(f"unknown: {', '.join(sorted(unknown))}; known: {', '.join(SIZES)}")
    return names


def main(arguments: list[str] | None = None) -> int:
    """Run the command and return its exit status."""
    options = parse_arguments(arguments)
    known = _read(options.json)
    for geometry in options.geometries:
        for number, seconds in _numbered(options.seconds):
            key = f"{geometry} {seconds:g}" + (f" #{number}" if number > 1 else "")
            if key in known["runs"] and not options.again:
                continue
            print(f"{key} s ...", file=sys.stderr, flush=True)
            known["runs"][key] = _run(geometry, seconds, options.workdir)
            known["machine"] = machine(torch.device("cpu"))
            options.json.write_text(json.dumps(known, indent=1) + "\n", encoding="utf-8")
    print(table(list(known["runs"].values())))
    return 0


def _numbered(lengths: Iterable[float]) -> Iterator[tuple[int, float]]:
    """Each length with how often it has come by now."""
    times: Counter[float] = Counter()
    for length in lengths:
        times[length] += 1
        yield times[length], length


def _read(file: Path) -> dict[str, Any]:
    if file.is_file():
        return json.loads(file.read_text(encoding="utf-8"))
    return {"machine": {}, "runs": {}}


def _run(geometry: str, seconds: float, workdir: Path | None) -> dict[str, Any]:
    if workdir is not None:
        workdir.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=f"{geometry}-", dir=workdir))
    try:
        figures = folder / "figures.json"
        command = [
            sys.executable,
            "-m",
            "asymtalker.benchmarks.long_run",
            "--geometry",
            geometry,
            "--seconds",
            str(seconds),
        ]
        subprocess.run([*command, "--workdir", str(folder), "--json", str(figures)], cwd=ROOT, check=True)
        return json.loads(figures.read_text(encoding="utf-8"))
    finally:
        shutil.rmtree(folder)


def table(runs: list[dict[str, Any]]) -> str:
    """Figures as aligned text."""
    headings = ("", "video s", "CPU s/s", "wall s/s", "save CPU s/s", "peak MB", "spool MB", "mp4 MB", "colour", "rest")
    rows = [headings, *(_row(run) for run in runs)]
    drift = [("", "video s", "distance", "colour", "sharpness", "motion", "seam", "frame ms", "sound ms")]
    return "\n".join((aligned(rows), "", aligned([*drift, *(_drift_row(run) for run in runs)])))


def _row(run: dict[str, Any]) -> tuple[str, ...]:
    generation, overhead = run["generation"], run["overhead"]
    figures = (generation["cpu_s_per_s"], generation["wall_s_per_s"], run["saving"]["cpu_s_per_s"])
    sizes = (run["peak_rss_mb"], run["spool_mb"], run["mp4_mb"])
    shares = (overhead["colour"], overhead["rest"])
    return (
        f"{run['geometry']} {run['size']}",
        f"{run['seconds']:g}",
        *(f"{value:.3f}" for value in figures),
        *(f"{value:.0f}" for value in sizes),
        *(f"{value:.1%}" for value in shares),
    )


def _drift_row(run: dict[str, Any]) -> tuple[str, ...]:
    pairs = [run["drift"][name] for name in ("reference_distance", "color_distance", "sharpness", "motion")]
    seam = run["drift"].get("seam", {}).get("median")
    return (
        f"{run['geometry']} {run['size']}",
        f"{run['seconds']:g}",
        *(f"{pair['first']:.3g} > {pair['last']:.3g}" for pair in pairs),
        "-" if seam is None else f"{seam:.2f}",
        f"{run['end']['frame_ms']:.2f}",
        f"{run['end']['sound_ms']:.2f}",
    )
