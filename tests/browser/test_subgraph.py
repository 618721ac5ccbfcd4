"""A graph whose Sampler and Mux & Save lie in a subgraph, and one with a muted or bypassed node, in a real browser."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from asymtalker.scripts._client import ComfyClient, videos
from asymtalker.tests.browser.frontend import FrontEnd
from asymtalker.tests.browser.test_player import make_workflow, players

INTO_SUBGRAPH = """types => { const { graph } = window.app;
    graph.convertToSubgraph(new Set(graph.nodes.filter((node) => types.includes(node.type)))); }"""
OPEN_SUBGRAPH = """() => { const { canvas, graph } = window.app;
    const node = graph.nodes.find((node) => node.subgraph);
    canvas.openSubgraph(node.subgraph, node); }"""
MUTED, BYPASSED = 2, 4
SET_MODE = """([type, mode]) => { window.app.graph.nodes.find((node) => node.type === type).mode = mode; }"""


@pytest.fixture
def workflow(client: ComfyClient, tmp_path: Path) -> dict[str, Any]:
    """Small chunks of a job of its own."""
    return make_workflow(client, tmp_path, 3.0, seed=time.time_ns() % 2**32)


def test_sampler_and_mux_in_a_subgraph(front_end: FrontEnd, workflow: dict[str, Any]) -> None:
    front_end.load(workflow)
    front_end.page.evaluate(INTO_SUBGRAPH, ["AsymTalkerSampler", "AsymTalkerMux"])
    history = front_end.finish(front_end.queue())
    assert len(videos(history)) == 1 and all(":" in node for node in history["outputs"])
    front_end.page.evaluate(OPEN_SUBGRAPH)
    front_end.wait_until(lambda: any(player["state"] == "result" for player in players(front_end)), "the saved file")
    assert front_end.own_messages() == []


def test_muted_and_bypassed_nodes(front_end: FrontEnd, workflow: dict[str, Any]) -> None:
    front_end.load(workflow)
    front_end.page.evaluate(SET_MODE, ["AsymTalkerContinuity", BYPASSED])
    assert len(front_end.run()) == 1
    front_end.page.evaluate(SET_MODE, ["AsymTalkerContinuity", MUTED])
    assert len(front_end.run()) == 1
    # The front end itself remarks that nothing passes through the bypassed node.
    assert [text for text in front_end.own_messages() if "resolveOutput" not in text] == []
