"""The parts of ``benchmarks gpu``, each in a process of its own. Every figure is written as soon as it is known."""

from __future__ import annotations

import functools
import importlib
import json
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..models.files import write_text
from ..models.layers import Kernels
from . import comfyui, gpu_checks, gpu_video
from .geometries import Geometry, load_geometry
from .report import aligned, as_json, as_table
from .stages import Bench, Stage
from .timing import median_seconds

SPEECH_SECONDS = 5.0


class Figures:
    """Results by name in a JSON file, which is rewritten after each of them."""

    def __init__(self, file: Path | None) -> None:
        self._file = file
        self._found: dict[str, Any] = {}

    def put(self, name: str, value: Any) -> None:
        """Keep ``value``, in place of an earlier one of that name."""
        self._found[name] = value
        if self._file is not None:
            write_text(self._file, json.dumps(self._found) + "\n")


def run(part: str, device: torch.device, repeats: int, figures: Figures) -> None:
    """Run a part by its name."""
    if part == "checks":
        run_checks(device, figures)
    elif part == "video":
        gpu_video.run(device, figures.put)
    else:
        geometry = load_geometry(part, device, smallest=device.type == "cpu")
        bench = Bench(geometry, SPEECH_SECONDS)
        run_stages(geometry, bench, repeats, figures)
        if part != "nano":
            run_variants(geometry, bench, repeats, figures)


def run_checks(device: torch.device, figures: Figures) -> None:
    """Each check's outcome, printed as it comes."""
    found: dict[str, dict[str, Any]] = {}
    for name, check in gpu_checks.CHECKS.items():
        if name in gpu_checks.ONLY_ON_GPUS and device.type != "cuda":
            continue
        with _precision_restored():
            started = time.monotonic()
            outcome = _outcome(functools.partial(check, device))
        passed = "error" not in outcome
        found[name] = {"passed": passed, "seconds": round(time.monotonic() - started, 1), **outcome}
        figures.put("checks", found)
        print(f"{'ok    ' if passed else 'FAILED'} {name}: {outcome.get('found', outcome.get('error'))}", flush=True)


def run_stages(geometry: Geometry, bench: Bench, repeats: int, figures: Figures) -> None:
    """Seconds of every stage, and a table of them."""
    name = f"stages of {geometry.name}"
    stages: list[Stage] = []
    failed: dict[str, str] = {}
    for stage, (call, frames, calls) in bench.stages().items():
        with torch.inference_mode():
            outcome = _outcome(functools.partial(median_seconds, call, geometry.device, repeats))
        if "error" in outcome:
            failed[stage] = outcome["error"]
        else:
            stages.append(Stage(stage, outcome["found"], frames, calls))
        figures.put(name, {"seconds": {stage.name: stage.seconds for stage in stages}, "failed": failed})
    if not any(stage.calls_per_chunk for stage in stages):
        print(f"{name}: all failed: {failed}", flush=True)
        return
    result = {**as_json(geometry, stages), "failed": failed}
    result["chunk"]["complete"] &= not failed
    if geometry.device.type == "cuda":
        result["peak_gib"] = round(torch.cuda.max_memory_allocated(geometry.device) / gpu_checks.GIB, 2)
    figures.put(name, result)
    print("\n".join([as_table(result), *(f"FAILED {stage}: {error}" for stage, error in failed.items())]), flush=True)


def run_variants(geometry: Geometry, bench: Bench, repeats: int, figures: Figures) -> None:
    """Milliseconds of a step and of decoding as they are, and in other ways; None for one that failed."""
    found: dict[str, float | None] = {}
    for variant, prepare in _variants(geometry, bench):
        with torch.inference_mode():
            # What prepares may fail, too.
            outcome = _outcome(lambda prepare=prepare: median_seconds(prepare(), geometry.device, repeats))
        found[variant] = None if "error" in outcome else round(1000 * outcome["found"], 2)
        figures.put(f"variants of {geometry.name}", {"ms": found})
        if "error" in outcome:
            print(f"FAILED {variant}: {outcome['error']}", flush=True)
    rows = [(variant, "failed" if ms is None else f"{ms:.1f}") for variant, ms in found.items()]
    print(aligned([("variant", "ms"), *rows]), flush=True)


Prepare = Callable[[], Callable[[], object]]
"""Sets a variant up and returns one call of it. Variants stay set up for those after them."""


def _variants(geometry: Geometry, bench: Bench) -> Iterator[tuple[str, Prepare]]:
    """Quick ones first: the part has a time limit."""
    codec: Any = geometry.codec
    is_gpu = geometry.device.type == "cuda"

    def decode() -> Tensor:
        return codec.decode(bench.latents)

    def autotuned() -> Callable[[], object]:
        torch.backends.cudnn.benchmark = True
        return decode

    def channels_last() -> Callable[[], object]:
        comfyui.set_memory_format(codec.vae, torch.channels_last_3d)
        return decode

    def compiled() -> Callable[[], object]:
        for block in geometry.network.blocks:
            block.compile(fullgraph=True)
        return bench.step()

    yield "step", bench.step
    if is_gpu:
        yield "step, as a CUDA graph", functools.partial(_graphed, bench, geometry.device)
    if comfyui.importable(geometry.device):
        yield "step, with core's fused kernels", functools.partial(_fused_step, geometry, bench)
    if codec is not None:
        yield "decode", lambda: decode
        if is_gpu:
            yield "decode, cuDNN's autotuner", autotuned
        yield "decode, channels_last_3d too", channels_last
    if is_gpu:
        yield "step, blocks compiled", compiled


def _graphed(bench: Bench, device: torch.device) -> Callable[[], object]:
    """A step recorded once, so that the host launches one graph instead of its kernels."""
    step = bench.step()
    stream = torch.cuda.Stream(device)
    stream.wait_stream(torch.cuda.current_stream(device))
    with torch.cuda.stream(stream):
        step()
    torch.cuda.current_stream(device).wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    return graph.replay


def _fused_step(geometry: Geometry, bench: Bench) -> Callable[[], object]:
    """A step with the kernels of the ComfyUI that is installed; plain ones where it has none."""
    fused: Any = importlib.import_module("..host.fused", __package__)
    used = fused.kernels_in_use(geometry.device, geometry.dtype)
    print(f"core's fused kernels: {', '.join(used) or 'none'}", flush=True)
    modules: list[Any] = [module for module in geometry.network.modules() if hasattr(module, "kernels")]
    plain = [(module, module.kernels) for module in modules]
    tables = fused.with_matrices(geometry.network.rotary_tables(bench.latents.shape, geometry.device))
    step = bench.step(tables)

    def with_kernels() -> None:
        for module, kernels in plain:
            module.kernels = Kernels(kernels.attention, fused.rotate, fused.modulated_norm)
        try:
            step()
        finally:
            for module, kernels in plain:
                module.kernels = kernels

    return with_kernels


def _outcome(run: Callable[[], object]) -> dict[str, Any]:
    """What ``run`` returns as ``found``, or its ``error``: one that fails must not keep the others from running."""
    try:
        return {"found": run()}
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
