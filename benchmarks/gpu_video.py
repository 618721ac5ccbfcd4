"""The last part of ``benchmarks gpu``: nano in a real ComfyUI server, in the ways in which users run it.

Only a server uses dynamic VRAM, which is the default of later ComfyUIs on NVIDIA.
"""

from __future__ import annotations

import copy
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from ..scripts._client import ComfyClient, Graph, PromptFailed, PromptRefused
from ..scripts._environment import find_comfyui
from .report import aligned
from .served import nano_graph, node_id, start_server

SAMPLER = "AsymTalkerSampler"
SECONDS = {"cuda": 10.0, "cpu": 1.0}
REPORTED = ("fps", "seconds", "seconds_per_chunk", "frames", "chunks_overlapped", "runs_on")
"""Of the Sampler's report."""

Put = Callable[[str, Any], None]


def carried_latents(graph: Graph) -> None:
    """On a GPU, chunks are then decoded beside the next one's network."""
    inputs = {"carry": "latents", "color_strength": 1.0, "latents": 2}
    graph["continuity"] = {"class_type": "AsymTalkerContinuity", "inputs": inputs}
    graph[node_id(graph, SAMPLER)]["inputs"]["continuity"] = ["continuity", 0]


def compiled(graph: Graph) -> None:
    """With ComfyUI's compile node."""
    sampler = graph[node_id(graph, SAMPLER)]["inputs"]
    inputs = {"model": sampler["model"], "backend": "inductor"}
    graph["compiled"] = {"class_type": "TorchCompileModel", "inputs": inputs}
    sampler["model"] = ["compiled", 0]


WAYS: dict[str, Callable[[Graph], None]] = {
    "as it is": lambda graph: None,
    "carry latents": carried_latents,
    "compiled by ComfyUI's node": compiled,
}
ONLY_ON_GPUS = {"compiled by ComfyUI's node"}
"""Takes minutes on a CPU."""


def run(device: torch.device, put: Put) -> None:
    """Videos of nano in each way; what one failed with is put in place of its figures.

    Raises:
        SystemExit: one failed.
    """
    if find_comfyui() is None:
        print("left out: COMFYUI_PATH names no ComfyUI", flush=True)
        return
    found: dict[str, dict[str, Any]] = {}
    with (
        tempfile.TemporaryDirectory() as folder,
        # This process may be stopped at its time limit.
        start_server(Path(folder), cpu=device.type == "cpu", dies_with_us=True) as server,
    ):
        client = ComfyClient(server.url)
        graph = nano_graph(client, SECONDS[device.type], Path(folder))
        for way, change in WAYS.items():
            if way in ONLY_ON_GPUS and device.type == "cpu":
                continue
            changed = copy.deepcopy(graph)
            change(changed)
            try:
                # The first run loads and warms up.
                report = [reported(client, changed, seed) for seed in (1, 2)][-1]
                found[way] = {key: report[key] for key in REPORTED}
            except (PromptFailed, PromptRefused) as error:
                found[way] = {"error": str(error)}
                print(f"FAILED {way}: {error}", flush=True)
            put("videos of nano", found)
    rows = [(way, f"{one['fps']:.1f}", str(one["chunks_overlapped"])) for way, one in found.items() if "fps" in one]
    print(aligned([("nano in a server", "fps", "chunks overlapped"), *rows]), flush=True)
    if len(rows) < len(found):
        raise SystemExit(1)


def reported(client: ComfyClient, graph: Graph, seed: int) -> dict[str, Any]:
    """The Sampler's report of a run."""
    sampler = node_id(graph, SAMPLER)
    graph[sampler]["inputs"]["seed"] = seed
    graph["report"] = {"class_type": "PreviewAny", "inputs": {"source": [sampler, 1]}}
    return json.loads(client.run(graph)["outputs"]["report"]["text"][0])
