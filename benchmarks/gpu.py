"""Prove the pack on this machine's CUDA device: checks against the CPU, then the speed of every stage, in 8 minutes.

Without ComfyUI, the networks are measured alone. With COMFYUI_PATH set, the published VAEs and the audio encoder are
measured too, and nano makes a video through the nodes' functions. Weights of Pro and Lite are random: their speed is
the same. Measurements that would begin after the time is up are left out and named.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from . import comfyui, gpu_checks
from .command import command_parser
from .geometries import Geometry, load_geometry
from .report import aligned, as_json, as_table, machine
from .stages import Bench, measure
from .timing import median_seconds

MINUTES = 8.0
RESERVE_S = {"stages": 40.0, "variants": 60.0, "video": 60.0}
"""What must be left for a measurement to begin."""
VIDEO_SECONDS = 10.0


def parse_arguments(arguments: list[str] | None) -> argparse.Namespace:
    """Return the command line's options."""
    parser = command_parser(" gpu", __doc__)
    parser.add_argument("--json", type=Path, help="JSON file for all results")
    parser.add_argument("--minutes", type=float, default=MINUTES, help="time to use (default: %(default)s)")
    parser.add_argument("--checks", action="store_true", help="run the checks only")
    parser.add_argument("--repeats", type=int, default=5, help="runs of each stage (default: %(default)s)")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    """Run the command; its exit status is 1 if a check failed."""
    options = parse_arguments(arguments)
    if not torch.cuda.is_available():
        print("PyTorch finds no CUDA device on this machine: nothing can be measured", file=sys.stderr)
        return 1
    device = torch.device("cuda", torch.cuda.current_device())
    ends = time.monotonic() + 60 * options.minutes
    results: dict[str, Any] = {"machine": {**machine(device), "cuda": torch.version.cuda}, "left_out": []}
    print(", ".join(f"{key} {value}" for key, value in results["machine"].items()), flush=True)
    results["checks"] = run_checks(device)
    if not options.checks:
        for part in measurements(device, options.repeats):
            name, kind, run = part
            if ends - time.monotonic() < RESERVE_S[kind]:
                results["left_out"].append(name)
                continue
            results[name] = _outcome(run)
            print(f"\n{results[name].pop('table', results[name])}", flush=True)
        if results["left_out"]:
            print(f"\nleft out after {options.minutes:g} minutes: {', '.join(results['left_out'])}")
    if options.json is not None:
        options.json.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    return 0 if all(check["passed"] for check in results["checks"].values()) else 1


def run_checks(device: torch.device) -> dict[str, dict[str, Any]]:
    """Each check's outcome, printed as it comes."""
    found: dict[str, dict[str, Any]] = {}
    for name, check in gpu_checks.CHECKS.items():
        with _precision_restored():
            started = time.monotonic()
            outcome = _outcome(lambda check=check: {"found": check(device)})
        passed = "error" not in outcome
        seconds = round(time.monotonic() - started, 1)
        found[name] = {"passed": passed, "seconds": seconds, **outcome}
        print(f"{'ok    ' if passed else 'FAILED'} {name}: {outcome.get('found', outcome.get('error'))}", flush=True)
        torch.cuda.empty_cache()
    return found


Measurement = tuple[str, str, Callable[[], dict[str, Any]]]


def measurements(device: torch.device, repeats: int) -> Iterator[Measurement]:
    """(name, kind, what runs it), the most telling first."""
    for name in ("pro", "lite", "nano"):
        yield f"stages of {name}", "stages", lambda name=name: _stages(name, device, repeats)
        if name != "nano":
            yield f"variants of {name}", "variants", lambda name=name: _variants(name, device, repeats)
    if comfyui.importable(device):
        yield "video of nano", "video", _video


def _stages(name: str, device: torch.device, repeats: int) -> dict[str, Any]:
    geometry = load_geometry(name, device)
    figures = as_json(geometry, list(measure(geometry, 5.0, repeats)))
    figures["peak_gib"] = round(torch.cuda.max_memory_allocated(device) / gpu_checks.GIB, 2)
    torch.cuda.reset_peak_memory_stats(device)
    return {**figures, "table": as_table(figures)}


def _variants(name: str, device: torch.device, repeats: int) -> dict[str, Any]:
    """Milliseconds of a step and of decoding as they are, compiled, and in other memory formats."""
    geometry = load_geometry(name, device)
    bench = Bench(geometry, 5.0)
    found: dict[str, Any] = {}
    for variant, seconds in _variant_seconds(geometry, bench, repeats):
        found[variant] = None if seconds is None else round(1000 * seconds, 2)
    rows = [(variant, "failed" if ms is None else f"{ms:.1f}") for variant, ms in found.items()]
    return {"ms": found, "table": f"{name}\n{aligned([('variant', 'ms'), *rows])}"}


def _variant_seconds(geometry: Geometry, bench: Bench, repeats: int) -> Iterator[tuple[str, float | None]]:
    device, network = geometry.device, geometry.network

    def timed(run: Callable[[], object]) -> float | None:
        outcome = _outcome(lambda: {"seconds": median_seconds(run, device, repeats)})
        return outcome.get("seconds")

    with torch.inference_mode():
        yield "step", timed(bench.step())
        eager = network.blocks
        for block in eager:
            block.compile(fullgraph=True)
        yield "step, blocks compiled", timed(bench.step())
        codec: Any = geometry.codec
        if codec is None:
            return
        yield "decode", timed(lambda: codec.decode(bench.latents))
        torch.backends.cudnn.benchmark = True
        yield "decode, cuDNN's autotuner", timed(lambda: codec.decode(bench.latents))
        codec.vae.to(memory_format=torch.channels_last_3d)
        yield "decode, autotuner and channels_last_3d", timed(lambda: codec.decode(bench.latents))
        torch.backends.cudnn.benchmark = False


def _video() -> dict[str, Any]:
    """nano through the nodes' functions, as in ComfyUI."""
    from .host import Host

    with tempfile.TemporaryDirectory() as folder:
        report = json.loads(Host("nano", Path(folder)).make(VIDEO_SECONDS).report)
    kept = {key: report[key] for key in ("fps", "seconds", "frames", "runs_on")}
    return {**kept, "table": f"nano through the nodes: {kept['fps']} frames a second on {kept['runs_on']['device']}"}


def _outcome(run: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What ``run`` returns, or its error: one that fails must not keep the others from running."""
    try:
        return run()
    except Exception as error:  # noqa: BLE001
        return {"error": f"{type(error).__name__}: {error}", "traceback": traceback.format_exc()}
    finally:
        torch.cuda.empty_cache()


@contextmanager
def _precision_restored() -> Iterator[None]:
    matmul, convolution = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = matmul, convolution


if __name__ == "__main__":
    sys.exit(main())
