"""Prove the pack on this machine's CUDA device: checks against the CPU, then the speed of every stage, in 8 minutes.

Without ComfyUI, the networks are measured alone. With COMFYUI_PATH set, the published VAEs and the audio encoder are
measured too, and nano makes videos in a ComfyUI server: as it is, with overlapped decoding, and compiled. Weights of
Pro and Lite are random: their speed is the same.

Each part is a process with a time limit, so that one that fails or hangs costs the others nothing. The JSON file is
written after every part. --device cpu tries all of it at a small size on a machine without a GPU; its figures say
nothing about a GPU.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from ..models.files import write_text
from . import gpu_parts
from .command import command_parser
from .report import machine

MINUTES = 8.0
MOST_SECONDS = {"checks": 120.0, "pro": 150.0, "lite": 100.0, "nano": 60.0, "video": 120.0}
"""How long each part may take at most."""
LEAST_SECONDS = 20.0
"""What must be left for a part to begin."""


def parse_arguments(arguments: list[str] | None) -> argparse.Namespace:
    """Return the command line's options."""
    parser = command_parser(" gpu", __doc__)
    parser.add_argument("--json", type=Path, help="JSON file for all results")
    parser.add_argument("--minutes", type=float, default=MINUTES, help="time to use (default: %(default)s)")
    parser.add_argument("--checks", action="store_true", help="run the checks only")
    parser.add_argument("--repeats", type=int, default=5, help="runs of each stage (default: %(default)s)")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda", help="default: %(default)s")
    parser.add_argument("--part", choices=tuple(MOST_SECONDS), help=argparse.SUPPRESS)
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    """Run the command; its exit status is 1 if a check failed or a part did not finish."""
    options = parse_arguments(arguments)
    if options.device == "cuda" and not torch.cuda.is_available():
        print("PyTorch finds no CUDA device on this machine: nothing can be measured", file=sys.stderr)
        return 1
    device = torch.device("cuda", torch.cuda.current_device()) if options.device == "cuda" else torch.device("cpu")
    if options.part:
        gpu_parts.run(options.part, device, options.repeats, gpu_parts.Figures(options.json))
        return 0
    ends = time.monotonic() + 60 * options.minutes
    results: dict[str, Any] = {"machine": {**machine(device), "cuda": torch.version.cuda}, "left_out": [], "ended": {}}
    print(", ".join(f"{key} {value}" for key, value in results["machine"].items()), flush=True)
    for part in ["checks"] if options.checks else MOST_SECONDS:
        remaining = ends - time.monotonic()
        if remaining < LEAST_SECONDS:
            results["left_out"].append(part)
            continue
        print(f"\n== {part}", flush=True)
        command = [sys.executable, "-m", "asymtalker.benchmarks", "gpu", "--part", part]
        command += ["--device", options.device, "--repeats", str(options.repeats)]
        figures, ended = run_part(command, min(remaining, MOST_SECONDS[part]))
        results |= figures
        if ended:
            results["ended"][part] = ended
            print(f"{part} ended early, {ended}", flush=True)
        if options.json is not None:
            write_text(options.json, json.dumps(results, indent=1) + "\n")
    if results["left_out"]:
        print(f"\nleft out after {options.minutes:g} minutes: {', '.join(results['left_out'])}")
    passed = all(check["passed"] for check in results.get("checks", {}).values())
    return 0 if passed and not results["ended"] else 1


def run_part(command: list[str], seconds: float) -> tuple[dict[str, Any], str]:
    """Run ``command`` with --json and a file for at most ``seconds``.

    Returns:
        The figures that were in the file when it ended, and why it ended early; empty if it did not.
    """
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "figures.json"
        try:
            status = subprocess.run([*command, "--json", str(file)], timeout=seconds, check=False).returncode
            ended = f"exit status {status}" if status else ""
        except subprocess.TimeoutExpired:
            ended = f"stopped after {seconds:.0f} s"
        return json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}, ended


if __name__ == "__main__":
    sys.exit(main())
