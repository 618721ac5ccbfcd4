"""Generations on a simulated GPU, a process for each ComfyUI: cases as JSON on stdin, a line of results for each.

python -m asymtalker.tests.dryrun.render COMFYUI < cases.json
"""

from __future__ import annotations

import dataclasses
import importlib
import json
import sys
import tempfile
import traceback
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock
from weakref import WeakSet

import torch

from asymtalker.models.family import MODELS
from asymtalker.tests.helpers import PACK, Import

from . import dynamic_vram
from .device import GIB, Card, Counts, SimulatedCuda, simulated_cuda
from .geometries import load

FRAMES = 57
"""Two chunks of every kind."""
STEPS = 2
"""Of the sampler, which are all alike."""
STEADY = 1
"""The chunk that is counted: by then everything that lasts is on the device."""


@dataclass(frozen=True)
class Case:
    """One generation.

    ``vram`` is a ``VRAMState`` of core, ``fused`` takes its fused kernels for compiled ones, and ``plain_model`` takes
    the copy of the MODEL without dynamic VRAM, as core's compile node does.
    """

    kind: str
    weight_dtype: str = "default"
    file_dtype: str = "float32"
    vram: str = "NORMAL_VRAM"
    memory_gib: float = 80
    cached_gib: float = 0
    carry: str = "pixels"
    guidance: float = 0.0
    fp16_intermediates: bool = False
    model_device: str = ""
    fused: bool = False
    plain_model: bool = False

    @property
    def name(self) -> str:
        """What differs from the defaults."""
        plain = dataclasses.asdict(Case(self.kind))
        changed = [f"{key}={value}" for key, value in dataclasses.asdict(self).items() if value != plain[key]]
        return " ".join((self.kind, *changed))


@dataclass(frozen=True)
class Result:
    """``error`` is a traceback, empty where the video was made; ``steady`` are the counts of a chunk in the middle."""

    error: str
    dtypes: dict[str, str] = dataclasses.field(default_factory=dict)
    frames: int = 0
    chunks: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    stages: list[str] = dataclasses.field(default_factory=list)
    runs_on: dict[str, Any] = dataclasses.field(default_factory=dict)
    overlapped: int = 0

    @property
    def steady(self) -> Counts:
        return Counts(**self.chunks[STEADY])


def main() -> None:
    """Run the cases."""
    cases = [Case(**case) for case in json.load(sys.stdin)]
    host = SimpleNamespace(used=lambda: 0)
    with tempfile.TemporaryDirectory() as folder, simulated_cuda(Card(), lambda: host.used()) as cuda:
        pack = import_host(sys.argv[1], Path(folder))
        core = importlib.import_module("comfy.model_management")
        # Not core's list of loaded models: it takes those out that it is about to load, though they stay on the device.
        seen: WeakSet[Any] = WeakSet()
        host.used = lambda: sum({id(patcher.model): patcher.loaded_size() for patcher in seen}.values())
        load_models = core.load_models_gpu

        def counted(models: Any, *args: Any, **kwargs: Any) -> Any:
            cuda.note("loads")
            seen.update(models)
            return load_models(models, *args, **kwargs)

        # A hash of weights needs values.
        digest = mock.patch.object(pack("host.model"), "_content_digest", lambda tensor: b"")
        with digest, mock.patch.object(core, "load_models_gpu", counted):
            for case in cases:
                print(json.dumps(dataclasses.asdict(outcome(cuda, pack, core, case))), flush=True)


def outcome(cuda: SimulatedCuda, pack: Import, core: Any, case: Case) -> Result:
    """What ``render`` gives or raises."""
    try:
        return render(cuda, pack, core, case)
    # Whatever goes wrong is the result.
    except Exception:  # noqa: BLE001
        return Result(traceback.format_exc())


def import_host(comfyui: str, folder: Path) -> Import:
    """Import the ComfyUI as its server does on an NVIDIA card, and return the importer of the pack's modules."""
    sys.path.insert(0, comfyui)
    # Pinning the weights takes their addresses.
    sys.argv = ["comfyui", "--disable-pinned-memory"]
    importlib.import_module("comfy.options").enable_args_parsing()
    importlib.import_module("comfy.cli_args")
    dynamic_vram.enable()
    paths: Any = importlib.import_module("folder_paths")
    paths.set_user_directory(str(folder / "user"))
    return lambda name: importlib.import_module(f"{PACK}.{name}")


def render(cuda: SimulatedCuda, pack: Import, core: Any, case: Case) -> Result:
    """One generation through the functions that the nodes call."""
    cuda.card = Card(memory=int(case.memory_gib * GIB), cached=int(case.cached_gib * GIB))
    core.unload_all_models()
    core.vram_state = core.VRAMState[case.vram]
    core.args.fp16_intermediates = case.fp16_intermediates
    loaded = load(cuda, pack, case.kind, case.weight_dtype, getattr(torch, case.file_dtype))
    if case.model_device:
        move(loaded.model, torch.device(case.model_device))
    if case.plain_model:
        loaded = dataclasses.replace(loaded, model=plain_copy(loaded.model))
    size = MODELS[case.kind].size
    portrait = torch.rand(1, 96, 80, 3)
    reference = pack("host.portrait").encode_reference(loaded.model, loaded.vae, portrait, size, size, "temporal", None)
    if case.kind == "nano":
        # A face and a shift, as the node gives them: their work must not make the host wait.
        face = torch.rand(468, 2)
        reference = dataclasses.replace(reference, face=face, shift=(6, -6))
    sound = {"waveform": torch.randn(1, 1, FRAMES * 640), "sample_rate": 16_000}
    features = pack("host.audio").audio_features(loaded.audio_encoder, sound)
    rollout, sampling = pack("models.rollout"), pack("jobs.sampling")
    options = rollout.ContinuityOptions(carry=case.carry)
    detail = 1.0 if case.kind == "nano" else 0.0
    blinks = 60.0 if case.kind == "nano" else 0.0
    settings = sampling.Settings(7, STEPS, "auto", 0.0, case.guidance, options, "never", detail, blinks)
    cuda.counts = [Counts()]
    fused = pack("host.fused")
    names = {fused.ROTATION, fused.NORM} if case.fused and fused._kitchen() is not None else set()
    progress = pack("jobs.progress").RolloutProgress
    on_chunk = progress.on_chunk

    def marked(self: Any, chunk: Any) -> None:
        on_chunk(self, chunk)
        cuda.mark()

    compiled = mock.patch.object(fused, "compiled_kernels", lambda: names)
    with mock.patch.object(progress, "on_chunk", marked), compiled:
        _, report = sampling.generate(loaded.model, loaded.vae, reference, features, settings, None)
    made = json.loads(report)
    network = loaded.model.model
    dtypes = {
        "weights": str(network.get_dtype()),
        "compute": str(network.manual_cast_dtype or network.get_dtype()),
        "vae": str(loaded.vae.vae_dtype),
    }
    chunks = [dataclasses.asdict(counts) for counts in cuda.counts]
    stages = list(made["chunks"][STEADY]["seconds"])
    return Result("", dtypes, made["frames"], chunks, stages, made["runs_on"], made["chunks_overlapped"])


def move(model: Any, device: torch.device) -> None:
    """Do as nodes do that choose a MODEL's device."""
    model.load_device = device
    if hasattr(model, "register_load_device"):
        model.register_load_device(device)


def plain_copy(model: Any) -> Any:
    """The MODEL without dynamic VRAM, where the ComfyUI has that."""
    return model.clone(disable_dynamic=True) if hasattr(model, "cached_patcher_init") else model


if __name__ == "__main__":
    main()
