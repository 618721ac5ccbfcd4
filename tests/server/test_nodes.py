"""What the server says about the nodes, and the shipped workflows held against it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from asymtalker.scripts._client import ComfyClient
from asymtalker.scripts._environment import ROOT
from asymtalker.scripts._server import ComfyServer
from asymtalker.scripts.graphs import built
from asymtalker.tests.server.graphs import api_faults, declared_inputs, ui_faults, without_unused_outputs

pytestmark = pytest.mark.server

NODE_IDS = [
    "AsymTalkerFaceCrop",
    "AsymTalkerFacePaste",
    "AsymTalkerFaceTrack",
    "AsymTalkerConversation",
    "AsymTalkerLoader",
    "AsymTalkerReference",
    "AsymTalkerAudioFeatures",
    "AsymTalkerContinuity",
    "AsymTalkerSampler",
    "AsymTalkerDriftChart",
    "AsymTalkerMux",
    "AsymTalkerKeptJobs",
]
API_WORKFLOWS = sorted((ROOT / "workflows" / "api").glob("*.json"))
UI_WORKFLOWS = sorted((ROOT / "workflows").glob("*.json"))


@pytest.mark.parametrize("class_type", NODE_IDS)
def test_node_is_described(object_info: dict[str, Any], class_type: str) -> None:
    info = object_info[class_type]
    assert info["description"] and info["display_name"] and info["category"]
    untold = [name for name, (_, options) in declared_inputs(info).items() if not options.get("tooltip")]
    assert untold == []
    assert len(info["output_tooltips"]) == len(info["output"]) and all(info["output_tooltips"])


def test_the_pack_is_loaded_once_and_alone(server: ComfyServer, object_info: dict[str, Any]) -> None:
    name = server.pack_name
    own = {key: info["python_module"] for key, info in object_info.items() if "custom_nodes" in info["python_module"]}
    assert own == dict.fromkeys(NODE_IDS, f"custom_nodes.{name}")
    log = server.log.read_text(encoding="utf-8", errors="replace")
    imports = [line for line in log.splitlines() if " seconds" in line and str(Path("custom_nodes") / name) in line]
    assert len(imports) == 1 and "IMPORT FAILED" not in log


def test_workflows_are_shipped() -> None:
    assert {path.stem for path in API_WORKFLOWS} >= {"asymtalker_nano"}
    assert UI_WORKFLOWS


def test_the_graphs_are_what_their_program_writes(object_info: dict[str, Any]) -> None:
    """After a change of a node: python -m asymtalker.scripts.graphs."""
    differing = [
        str(path)
        for path, text in built(object_info).items()
        if content(text) != content((ROOT / path).read_text(encoding="utf-8"))
    ]
    assert differing == []


def content(text: str) -> dict[str, Any]:
    return without_unused_outputs(json.loads(text))


@pytest.mark.parametrize("path", API_WORKFLOWS, ids=lambda path: path.stem)
def test_api_workflow_fits_the_server(object_info: dict[str, Any], path: Path) -> None:
    assert api_faults(json.loads(path.read_text(encoding="utf-8")), object_info) == []


@pytest.mark.parametrize("path", UI_WORKFLOWS, ids=lambda path: path.stem)
def test_ui_workflow_fits_the_server(object_info: dict[str, Any], path: Path) -> None:
    assert ui_faults(json.loads(path.read_text(encoding="utf-8")), object_info) == []


@pytest.mark.parametrize("path", UI_WORKFLOWS, ids=lambda path: path.stem)
def test_template_browser_offers_the_workflow(client: ComfyClient, server: ComfyServer, path: Path) -> None:
    name = server.pack_name
    assert path.stem in client.get("/workflow_templates")[name]
    assert client.get(f"/api/workflow_templates/{name}/{path.name}") == json.loads(path.read_text(encoding="utf-8"))
    assert path.with_suffix(".jpg").is_file()
