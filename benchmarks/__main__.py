"""Measure every stage of a video: audio, reference, network, decode, continuity, colour, writing to disk.

nano runs with its bundled weights. FlashHead Pro and Lite run with random weights of the same geometry, on CUDA (on a
CPU only with --large-on-cpu, in shorter chunks). Their VAEs and audio encoder are measured if COMFYUI_PATH is set to a
ComfyUI.
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
from pathlib import Path
from typing import Any

import torch

from ..models.family import MODELS
from .command import command_parser
from .geometries import load_geometry
from .report import as_json, as_table, machine
from .stages import measure


def parse_arguments(arguments: list[str] | None) -> argparse.Namespace:
    """Return the command line's options."""
    parser = command_parser("", __doc__)
    parser.add_argument("--json", type=Path, help="JSON file for the figures")
    parser.add_argument(
        "--seconds", type=float, default=5.0, help="seconds of audio for the audio stage (default: %(default)s)"
    )
    parser.add_argument("--geometry", choices=(*MODELS, "all"), default="all")
    parser.add_argument("--device", choices=("cpu", "cuda"), help="default: cuda if available")
    parser.add_argument(
        "--repeats", type=int, default=3, help="runs of each stage; the median is reported (default: %(default)s)"
    )
    parser.add_argument(
        "--large-on-cpu", action="store_true", help="run Pro and Lite on a CPU too (takes minutes and 7 GB of memory)"
    )
    options = parser.parse_args(arguments)
    if options.seconds <= 0 or options.repeats < 1:
        parser.error("--seconds must be positive and --repeats at least 1")
    if options.device == "cuda" and not torch.cuda.is_available():
        parser.error("--device cuda: this machine has none that PyTorch can use")
    return options


COMMANDS = (
    "long",
    "kill",
    "continuity",
    "watching",
    "hosts",
    "spool",
    "peers",
    "gpu",
    "precision",
    "vae",
    "batch",
    "contention",
    "throughput",
)


def main(arguments: list[str] | None = None) -> int:
    """Run the command and return its exit status."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if arguments and arguments[0] in COMMANDS:
        return importlib.import_module(f".{arguments[0]}", __package__).main(arguments[1:])
    options = parse_arguments(arguments)
    device = torch.device(options.device or ("cuda" if torch.cuda.is_available() else "cpu"))
    names = list(MODELS if options.geometry == "all" else (options.geometry,))
    if device.type == "cpu" and not options.large_on_cpu:
        skipped = [name for name in names if name != "nano"]
        names = [name for name in names if name == "nano"]
        if skipped:
            print(f"{' and '.join(skipped)}: left out on a CPU (--large-on-cpu measures them)", file=sys.stderr)
    result: dict[str, Any] = {"machine": machine(device), "geometries": []}
    print(", ".join(f"{key} {value}" for key, value in result["machine"].items()))
    for name in names:
        geometry = load_geometry(name, device)
        figures = as_json(geometry, list(measure(geometry, options.seconds, options.repeats)))
        result["geometries"].append(figures)
        print(f"\n{as_table(figures)}", flush=True)
        del geometry
    if options.json is not None:
        options.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    return 0 if names else 1


if __name__ == "__main__":
    sys.exit(main())
