"""What tests of the real ComfyUI share: its nodes, a portrait, the nano graph."""

from __future__ import annotations

import copy
import functools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from asymtalker.scripts._client import ComfyClient, Graph
from asymtalker.scripts._environment import ROOT
from asymtalker.tests.server.graphs import node
from asymtalker.tests.server.media import speech_like, write_portrait, write_wav

NANO_GRAPH = ROOT / "workflows" / "api" / "asymtalker_nano.json"

MakeGraph = Callable[..., Graph]


@pytest.fixture(scope="session")
def object_info(client: ComfyClient) -> dict[str, Any]:
    """The server's description of its nodes."""
    return client.object_info()


@pytest.fixture(scope="session")
def portrait(client: ComfyClient, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Name of a portrait in the input folder."""
    return client.upload(write_portrait(tmp_path_factory.mktemp("portrait") / "portrait.png"))


@pytest.fixture
def make_graph(client: ComfyClient, portrait: str, tmp_path: Path) -> MakeGraph:
    """Return a function that gives the shipped nano graph with speech of a length, saved under a prefix."""
    return functools.partial(nano_graph, client, portrait, tmp_path)


def nano_graph(
    client: ComfyClient,
    portrait: str,
    folder: Path,
    seconds: float = 0.5,
    rate: int = 16000,
    channels: int = 1,
    prefix: str = "test",
) -> Graph:
    """Return the shipped nano graph with an uploaded portrait, and speech that is made in `folder` and uploaded."""
    name = f"speech_{seconds}_{rate}_{channels}.wav"
    speech = client.upload(write_wav(folder / name, speech_like(seconds, rate, channels), rate))
    graph: Graph = copy.deepcopy(json.loads(NANO_GRAPH.read_text(encoding="utf-8")))
    node(graph, "LoadImage")["image"] = portrait
    node(graph, "LoadAudio")["audio"] = speech
    node(graph, "AsymTalkerMux")["filename_prefix"] = prefix
    return graph
