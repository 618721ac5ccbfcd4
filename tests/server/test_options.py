"""Options of ComfyUI's command line that change what it caches, where it writes and what it notes in files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import requests
import torch

from asymtalker.scripts._client import ComfyClient, Graph, videos
from asymtalker.scripts._server import ComfyServer
from asymtalker.tests.server.graphs import MakeGraph, nano_graph, node
from asymtalker.tests.server.media import Probe, probe, write_portrait

pytestmark = pytest.mark.server

SECONDS = 1.5
CHUNKS = 2
OPTIONS = {
    "nothing cached, no metadata": ("--cache-none", "--disable-metadata", "--fast"),
    "one result cached, several users": ("--cache-lru", "1", "--multi-user"),
    # No machine has so much free memory: every result goes as soon as its node is done.
    "results dropped for memory": ("--cache-ram", "100000"),
}


def run(client: ComfyClient, graph: Graph, target: Path) -> Probe:
    (file,) = videos(client.run(graph))
    return probe(client.download(file, target))


@pytest.fixture
def usual(client: ComfyClient, make_graph: MakeGraph, tmp_path: Path) -> Probe:
    """The video that a server without further options makes."""
    return run(client, make_graph(SECONDS), tmp_path / "usual.mp4")


@pytest.mark.parametrize("name", OPTIONS)
def test_a_server_with_options_makes_the_same_video(comfyui: Path, usual: Probe, tmp_path: Path, name: str) -> None:
    output = tmp_path / "elsewhere"
    options = (*OPTIONS[name], "--output-directory", str(output))
    cpu = not torch.cuda.is_available()
    with ComfyServer(comfyui, tmp_path / "server", cpu=cpu, options=options) as server:
        client = ComfyClient(server.url)
        portrait = client.upload(write_portrait(tmp_path / "portrait.png"))
        graph = nano_graph(client, portrait, tmp_path, SECONDS)
        first = run(client, graph, tmp_path / "first.mp4")
        # Another quality: what is cached is used, what is not is made again.
        node(graph, "AsymTalkerMux")["crf"] = 30
        second = run(client, graph, tmp_path / "second.mp4")
        jobs = requests.get(server.url + "/asymtalker/live", timeout=60).json()
    assert np.array_equal(first.frames, usual.frames)
    assert second.frames.shape == first.frames.shape
    assert ("prompt" in first.metadata) == ("--disable-metadata" not in options)
    assert "AI-generated" in first.metadata["comment"]
    assert len([file for file in output.iterdir() if file.suffix == ".mp4"]) == 2
    assert jobs and all(job["done"] == CHUNKS and job["state"] == "finished" for job in jobs)
