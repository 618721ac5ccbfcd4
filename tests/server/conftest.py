"""What tests of the real ComfyUI share: its nodes, a portrait, the nano graph."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import pytest

from asymtalker.scripts._client import ComfyClient
from asymtalker.tests.server.graphs import MakeGraph, nano_graph
from asymtalker.tests.server.media import write_portrait


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
