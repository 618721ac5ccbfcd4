"""scripts/talk.py's options, as far as they need no server."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from asymtalker.scripts._environment import ROOT
from asymtalker.scripts._workflow import read_graph
from asymtalker.scripts.graphs import TEMPLATES, ui_stem

IMAGE = {"class_type": "LoadImage", "inputs": {}}

NO_GRAPHS = {
    "": "it is not JSON",
    "# Title": "it is not JSON",
    "[]": "it is not a graph in API form; export it",
    "7": "it is not a graph in API form",
    json.dumps({"nodes": [], "links": [], "version": 1}): "it is not a graph in API form",
    json.dumps({"1": {"class_type": "LoadImage"}}): "it is not a graph in API form",
    "{}": "the graph has no node LoadAudio and no node LoadImage",
    json.dumps({"1": IMAGE}): "the graph has no node LoadAudio",
}


@pytest.mark.parametrize(("content", "message"), NO_GRAPHS.items(), ids=range(len(NO_GRAPHS)))
def test_what_is_no_graph_is_refused_by_name(tmp_path: Path, content: str, message: str) -> None:
    file = tmp_path / "graph.json"
    file.write_text(content, encoding="utf-8")
    with pytest.raises(ValueError, match=rf"^--workflow .*graph\.json: {message}"):
        read_graph(file)


def test_binary_is_no_graph(tmp_path: Path) -> None:
    file = tmp_path / "graph.json"
    file.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match=r"^--workflow .*: it is not JSON"):
        read_graph(file)


@pytest.mark.parametrize("file", sorted((ROOT / "workflows").glob("*.json")), ids=lambda file: file.stem)
def test_a_graph_saved_for_the_browser_is_refused_and_its_api_form_is_taken(file: Path) -> None:
    with pytest.raises(ValueError, match=r"it is not a graph in API form; export it"):
        read_graph(file)
    (name,) = [template.name for template in TEMPLATES if ui_stem(template.name) == file.stem]
    api_form = file.parent / "api" / f"{name}.json"
    if "LoadImage" in api_form.read_text(encoding="utf-8"):
        assert read_graph(api_form)
    else:
        with pytest.raises(ValueError, match="the graph has no node LoadImage"):
            read_graph(api_form)
