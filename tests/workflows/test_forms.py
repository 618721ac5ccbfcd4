"""The shipped graphs: both forms say the same, and each has what the template browser shows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from asymtalker.scripts._environment import ROOT
from asymtalker.tests.workflows.convert import FRONTEND_NODES, to_api, widget_inputs

WORKFLOWS = sorted((ROOT / "workflows").glob("*.json"))
THUMBNAIL_SIZE = (640, 360)


def read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8"))


def test_these_graphs_are_shipped() -> None:
    assert {path.stem for path in WORKFLOWS} == {
        "asymtalker_nano",
        "asymtalker_flashhead_pro",
        "asymtalker_flashhead_lite",
        "asymtalker_leaptalk",
        "asymtalker_long_speech",
        "asymtalker_continuity_comparison",
        "asymtalker_portrait_batch",
        "asymtalker_larger_picture",
        "asymtalker_two_people",
        "asymtalker_dubbing",
    }


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_api_form_is_the_ui_form(path: Path) -> None:
    assert to_api(read(path)) == read(path.parent / "api" / path.name)


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_nodes_lie_in_groups_and_links_run_left_to_right(path: Path) -> None:
    workflow = read(path)
    by_id = {node["id"]: node for node in workflow["nodes"]}
    assert all(by_id[source]["pos"][0] < by_id[target]["pos"][0] for _, source, _, target, *_ in workflow["links"])
    for node in workflow["nodes"]:
        if node["type"] not in FRONTEND_NODES:
            assert sum(_inside(node, group["bounding"]) for group in workflow["groups"]) == 1, node["type"]


def _inside(node: dict[str, Any], bounding: list[float]) -> bool:
    (x, y), (width, height) = node["pos"], node["size"]
    left, top, group_width, group_height = bounding
    return left <= x and top <= y and x + width <= left + group_width and y + height <= top + group_height


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_thumbnail(path: Path) -> None:
    image = pytest.importorskip("PIL.Image")
    with image.open(path.with_suffix(".jpg")) as thumbnail:
        assert (thumbnail.format, thumbnail.size) == ("JPEG", THUMBNAIL_SIZE)


def test_seed_control_is_no_input() -> None:
    widgets = [{"name": name, "widget": {"name": name}, "link": None} for name in ("seed", "steps")]
    node = {"inputs": [{"name": "model", "link": 1}, *widgets], "widgets_values": [7, "randomize", 4, "button"]}
    assert widget_inputs(node) == {"seed": 7, "steps": 4}
