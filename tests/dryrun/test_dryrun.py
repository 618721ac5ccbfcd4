"""The nodes' whole path on a simulated GPU: no mixed devices or types anywhere, and little that crosses in a chunk.

COMFYUI_PATH decides on the version; one with dynamic VRAM runs with it, as on NVIDIA cards.
"""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch

from asymtalker.models.color import match_color

from .device import CUDA, GIB, Card, Counts, simulated_cuda
from .geometries import LAYERS
from .render import FRAMES, STEPS, Case, Result

FUSED = [Case("nano", fused=True)] if find_spec("comfy_kitchen") else []
"""Where the ComfyUI has fused kernels."""
STEADY = [Case(kind) for kind in ("pro", "lite", "nano")]
WEIGHT_DTYPES = ("bf16", "fp16", "fp8_e4m3fn", "fp8_e5m2", "fp8_e4m3fn_fast")
TYPES = [
    *(Case(kind, dtype) for kind in ("pro", "lite", "nano") for dtype in WEIGHT_DTYPES),
    *(Case("nano", dtype, "bfloat16") for dtype in WEIGHT_DTYPES),
]
OTHERS = [
    Case("nano", vram="HIGH_VRAM"),
    Case("nano", plain_model=True),
    *FUSED,
    # PyTorch's allocator holds so much of the card that core would empty its cache with each load.
    Case("nano", memory_gib=16, cached_gib=5),
    *(
        case
        for kind in ("nano", "lite")
        for case in (
            Case(kind, vram="LOW_VRAM"),
            Case(kind, model_device="cuda:1"),
            Case(kind, carry="latents", guidance=3.0),
            Case(kind, fp16_intermediates=True),
        )
    ),
]
IN_TURNS = [
    # MODEL and VAE fit one at a time, and neither fits whole.
    Case("lite", memory_gib=2.4),
    Case("lite", memory_gib=1.5),
    Case("nano", vram="NO_VRAM"),
]
RESIDENT = [*STEADY, *TYPES, *OTHERS]

MOST = Counts(to_host=2, to_device_bytes=6_000_000, syncs=1, emptied_caches=0, loads=0)
"""In a steady chunk: the frames and the state come back, and both are waited for at once."""


@pytest.fixture(scope="module")
def results(request: pytest.FixtureRequest, comfyui: Path) -> dict[Case, Result]:
    """What became of the cases of the tests that run."""
    items: list[Any] = list(request.session.items)
    parameters = [item.callspec.params for item in items if hasattr(item, "callspec")]
    values = (value for found in parameters for value in found.values())
    cases = list(dict.fromkeys(value for value in values if isinstance(value, Case)))
    command = [sys.executable, "-m", "asymtalker.tests.dryrun.render", str(comfyui)]
    asked = json.dumps([dataclasses.asdict(case) for case in cases])
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, input=asked, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    lines = done.stdout.splitlines()[-len(cases) :]
    return {case: Result(**json.loads(line)) for case, line in zip(cases, lines, strict=True)}


@pytest.mark.slow
@pytest.mark.parametrize("case", [*RESIDENT, *IN_TURNS], ids=lambda case: case.name)
def test_devices_and_types_fit_together(results: dict[Case, Result], case: Case) -> None:
    result = results[case]
    assert not result.error, result.error[-3000:]
    assert result.frames == FRAMES


@pytest.mark.slow
@pytest.mark.parametrize("case", RESIDENT, ids=lambda case: case.name)
def test_little_crosses_in_a_steady_chunk(results: dict[Case, Result], case: Case) -> None:
    steady = results[case].steady
    places = "\n".join(f"{times} {place}" for place, times in steady.places.items())
    for name in ("to_host", "to_device_bytes", "syncs", "emptied_caches", "loads"):
        assert getattr(steady, name) <= getattr(MOST, name), f"{name} {getattr(steady, name)}:\n{places}"


@pytest.mark.slow
@pytest.mark.parametrize(("fused", "plain"), [(case, Case("nano")) for case in FUSED])
def test_fused_kernels_replace_several(results: dict[Case, Result], fused: Case, plain: Case) -> None:
    """In each of the two blocks and steps: rotation, 4 by 1; two norms, 3 by 1. Their tables take 2 more."""
    assert results[fused].runs_on["fused_kernels"] and not results[plain].runs_on["fused_kernels"]
    fewer = results[plain].steady.kernels - results[fused].steady.kernels
    assert fewer == LAYERS * STEPS * (4 - 1 + 2 * (3 - 1)) - 2


@pytest.mark.slow
@pytest.mark.parametrize("case", [Case("nano", carry="latents", guidance=3.0)])
def test_latents_let_chunks_overlap(results: dict[Case, Result], case: Case) -> None:
    """The last one has nothing to overlap with. With dynamic VRAM, core moves weights on streams of its own."""
    assert results[case].overlapped == (0 if results[case].runs_on["dynamic_vram"] else 1)


@pytest.mark.slow
@pytest.mark.parametrize("case", IN_TURNS, ids=lambda case: case.name)
def test_models_that_do_not_fit_together_are_ordered_once_a_chunk(results: dict[Case, Result], case: Case) -> None:
    steady = results[case].steady
    assert steady.loads <= 2, steady.places


@pytest.mark.slow
@pytest.mark.parametrize("case", [*STEADY, *TYPES], ids=lambda case: case.name)
def test_the_network_computes_in_16_bits(results: dict[Case, Result], case: Case) -> None:
    types = results[case].dtypes
    stored = {"default": "float", "bf16": "bfloat16", "fp16": "float16"}.get(case.weight_dtype, "float8")
    assert stored in types["weights"]
    assert types["compute"] in ("torch.bfloat16", "torch.float16")


def test_the_simulation_refuses_what_a_gpu_refuses() -> None:
    with simulated_cuda(Card(), lambda: 0) as cuda:
        host, device = torch.ones(4, 4), torch.ones(4, 4, device=CUDA)
        with pytest.raises(RuntimeError, match="two different devices"):
            host + device
        with pytest.raises(RuntimeError, match="one type"):
            device.half() @ device
        with pytest.raises(RuntimeError, match="one type"):
            torch.nn.functional.scaled_dot_product_attention(device.half(), device, device)
        cuda.mark()
        host.to(CUDA)
        host.pin_memory().to(CUDA, non_blocking=True)
        assert device.sum().item() == device.cpu()[0, 0] == 0.5
    counts = cuda.counts[-1]
    assert (counts.to_device, counts.to_device_bytes, counts.to_host, counts.syncs) == (2, 128, 2, 3)


def test_the_memory_of_the_card_can_change() -> None:
    """One process runs cases on cards of different sizes."""
    with simulated_cuda(Card(), lambda: GIB) as cuda:
        cuda.card = Card(memory=4 * GIB, cached=2 * GIB)
        assert torch.cuda.mem_get_info() == (GIB, 4 * GIB)
        assert torch.cuda.memory_stats()["reserved_bytes.all.current"] == 2 * GIB


def test_colour_uses_no_matrix_products_on_a_gpu() -> None:
    """Where TF32 is allowed, they keep 10 bits."""
    with simulated_cuda(Card(), lambda: 0) as cuda:
        match_color(torch.ones(1, 3, 2, 8, 8, device=CUDA), torch.ones(1, 3, 1, 8, 8, device=CUDA), 0.5)
    assert not cuda.products
