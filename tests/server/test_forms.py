"""What the front end makes of subgraphs, muted and bypassed nodes before it queues a graph."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from asymtalker.scripts._client import ComfyClient, Graph, videos
from asymtalker.tests.server.graphs import MakeGraph, node, node_id
from asymtalker.tests.server.media import Probe, probe

pytestmark = pytest.mark.server


@pytest.fixture
def graph(make_graph: MakeGraph) -> Graph:
    """A job of one small chunk."""
    return make_graph(0.5)


def saved(client: ComfyClient, history: dict[str, Any], folder: Path) -> Probe:
    (file,) = videos(history)
    return probe(client.download(file, folder / "video.mp4"))


def in_subgraph(graph: Graph, *class_types: str) -> Graph:
    """The graph with these nodes in a subgraph that is node 12: their ids begin with its id."""
    names = {node_id(graph, class_type): f"12:{node_id(graph, class_type)}" for class_type in class_types}

    def renamed(value: Any) -> Any:
        return [names.get(value[0], value[0]), value[1]] if isinstance(value, list) else value

    return {
        names.get(key, key): {**entry, "inputs": {name: renamed(value) for name, value in entry["inputs"].items()}}
        for key, entry in graph.items()
    }


def test_sampler_and_mux_in_a_subgraph(client: ComfyClient, graph: Graph, tmp_path: Path) -> None:
    graph = in_subgraph(graph, "AsymTalkerSampler", "AsymTalkerMux")
    sampler = node_id(graph, "AsymTalkerSampler")
    told: dict[str, set[str]] = {"progress": set(), "progress_text": set(), "asymtalker.live": set()}

    def on_event(kind: str, data: dict[str, Any]) -> None:
        if kind in told:
            told[kind].add(data["node"])

    node(graph, "AsymTalkerSampler")["seed"] = 12
    video = saved(client, client.run(graph, on_event=on_event), tmp_path)
    assert sampler.startswith("12:") and len(video.frames) == 13
    assert sampler in told["progress"] and sampler in told["progress_text"]
    jobs = client.get("/asymtalker/live")
    assert jobs[-1]["node"] == sampler


def test_a_bypassed_option_node_leaves_the_defaults(client: ComfyClient, graph: Graph, tmp_path: Path) -> None:
    whole = saved(client, client.run(graph), tmp_path)
    defaults = {"carry": "pixels", "color_strength": 1.0, "latents": 2}
    graph["options"] = {"class_type": "AsymTalkerContinuity", "inputs": defaults}
    node(graph, "AsymTalkerSampler")["continuity"] = ["options", 0]
    client.free()
    assert np.array_equal(saved(client, client.run(graph), tmp_path).frames, whole.frames)


def test_a_muted_mux_can_follow_later(client: ComfyClient, graph: Graph, tmp_path: Path) -> None:
    """What was generated without it is saved, not generated again."""
    node(graph, "AsymTalkerSampler")["seed"] = 13
    mux = {node_id(graph, "AsymTalkerMux"): graph.pop(node_id(graph, "AsymTalkerMux"))}
    graph["report"] = {"class_type": "PreviewAny", "inputs": {"source": [node_id(graph, "AsymTalkerSampler"), 1]}}
    assert videos(client.run(graph)) == []
    client.free()
    history = client.run({**graph, **mux})
    assert len(saved(client, history, tmp_path).frames) == 13
    (report,) = history["outputs"]["report"]["text"]
    assert '"chunks_resumed": 1' in report
