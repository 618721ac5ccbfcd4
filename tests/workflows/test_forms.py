"""The shipped graphs: both forms say the same, and each has what the template browser shows."""

from __future__ import annotations

import json
from typing import Any

import pytest

from asymtalker.scripts._environment import ROOT
from asymtalker.scripts.graphs import TEMPLATES, ui_stem
from asymtalker.tests.helpers import shipped
from asymtalker.tests.workflows.convert import FRONTEND_NODES, to_api, widget_inputs

WORKFLOWS = ROOT / "workflows"
NAMES = [template.name for template in TEMPLATES]
THUMBNAIL_SIZE = (640, 360)
SEARCHED = ("talking head", "lip sync", "avatar", "portrait", "speech")
"""What people type who want what the pack does."""
MOST_NODES = 5


def read(name: str) -> dict[str, Any]:
    return json.loads((WORKFLOWS / "api" / f"{name}.json").read_text(encoding="utf-8"))


def levels(workflow: dict[str, Any]) -> list[dict[str, Any]]:
    """The graph and what is in its subgraphs, each with links as [number, source, output, target, slot, kind]."""
    inside = workflow.get("definitions", {}).get("subgraphs", [])
    keys = "id", "origin_id", "origin_slot", "target_id", "target_slot", "type"
    return [workflow, *({**part, "links": [[link[key] for key in keys] for link in part["links"]]} for part in inside)]


def test_every_template_is_there_and_nothing_else() -> None:
    stems = {ui_stem(name) for name in NAMES}
    assert {path.stem for path in WORKFLOWS.glob("*.json")} == stems == {path.stem for path in WORKFLOWS.glob("*.jpg")}
    assert {path.stem for path in (WORKFLOWS / "api").glob("*.json")} == set(NAMES)


def test_templates_are_found_by_what_people_type() -> None:
    """The browser shows and searches file names alone; the older one the beginning of them."""
    titles = [ui_stem(name)[:45].lower() for name in NAMES]
    assert [words for words in SEARCHED if not any(words in title for title in titles)] == []
    assert sum("lip sync" in ui_stem(name) for name in NAMES) > 1


def test_the_quick_start_comes_first_and_is_simple() -> None:
    assert ui_stem("asymtalker_nano").startswith("01 Quick start")
    workflow = shipped("asymtalker_nano")
    assert len([node for node in workflow["nodes"] if node["type"] not in FRONTEND_NODES]) <= MOST_NODES


def test_the_quick_start_is_an_app_too() -> None:
    workflow = shipped("asymtalker_nano")
    by_id = {node["id"]: node for node in workflow["nodes"]}
    parts = {part["id"]: part for part in workflow["definitions"]["subgraphs"]}
    asked = workflow["extra"]["linearData"]
    for number, widget in asked["inputs"]:
        node = by_id[number]
        own = [entry["name"] for entry in node["inputs"] if "widget" in entry]
        promoted = [name for _, name in node["properties"].get("proxyWidgets", [])]
        assert widget in (promoted if node["type"] in parts else own)
    assert [by_id[number]["type"] for number in asked["outputs"]] == ["AsymTalkerMux"]


def test_the_blueprint_is_the_quick_start_s_part_and_found_by_what_people_type() -> None:
    (path,) = (ROOT / "subgraphs").glob("*.json")
    blueprint = json.loads(path.read_text(encoding="utf-8"))
    (part,) = blueprint["definitions"]["subgraphs"]
    assert [part] == shipped("asymtalker_nano")["definitions"]["subgraphs"]
    assert [node["type"] for node in blueprint["nodes"]] == [part["id"]]
    words = " ".join([path.stem, part["description"], *blueprint["extra"]["BlueprintSearchAliases"]]).lower()
    assert [word for word in SEARCHED if word not in words] == []
    inner = {node["type"]: node for node in part["nodes"]}
    assert "face" in inner["AsymTalkerReference"]["widgets_values"]
    assert [entry["name"] for entry in part["inputs"]] == ["image", "audio", "mask"]
    assert [entry["type"] for entry in part["outputs"]] == ["VIDEO"]


def test_subgraphs_have_ids_that_differ_from_those_outside() -> None:
    workflow = shipped("asymtalker_nano")
    numbers = [node["id"] for level in levels(workflow) for node in level["nodes"]]
    assert len(set(numbers)) == len(numbers)


@pytest.mark.parametrize("name", NAMES)
def test_api_form_is_the_ui_form(name: str) -> None:
    assert to_api(shipped(name)) == read(name)


@pytest.mark.parametrize("name", NAMES)
def test_nodes_lie_in_groups_and_links_run_left_to_right(name: str) -> None:
    for level in levels(shipped(name)):
        by_id = {node["id"]: node for node in level["nodes"]}
        inner = [link for link in level["links"] if link[1] in by_id and link[3] in by_id]
        assert all(by_id[source]["pos"][0] < by_id[target]["pos"][0] for _, source, _, target, *_ in inner)
        for node in level["nodes"]:
            if node["type"] not in FRONTEND_NODES:
                assert sum(_inside(node, group["bounding"]) for group in level["groups"]) == 1, node["type"]


@pytest.mark.parametrize("name", NAMES)
def test_nothing_lies_on_something_else(name: str) -> None:
    for level in levels(shipped(name)):
        boxes = [(*node["pos"], *node["size"]) for node in level["nodes"]]
        frames = [tuple(group["bounding"]) for group in level["groups"]]
        for shapes in (boxes, frames):
            for number, (x, y, width, height) in enumerate(shapes):
                for left, top, other_width, other_height in shapes[number + 1 :]:
                    apart = x + width <= left or left + other_width <= x or y + height <= top
                    assert apart or top + other_height <= y


def _inside(node: dict[str, Any], bounding: list[float]) -> bool:
    (x, y), (width, height) = node["pos"], node["size"]
    left, top, group_width, group_height = bounding
    return left <= x and top <= y and x + width <= left + group_width and y + height <= top + group_height


@pytest.mark.parametrize("name", NAMES)
def test_notes_have_no_inline_code(name: str) -> None:
    """Nodes 2.0 draws it in blue on grey."""
    notes = [node for node in shipped(name)["nodes"] if node["type"] == "MarkdownNote"]
    prose = [part for note in notes for part in note["widgets_values"][0].split("```")[::2]]
    assert prose and not any("`" in part for part in prose)


@pytest.mark.parametrize("name", NAMES)
def test_thumbnail(name: str) -> None:
    image = pytest.importorskip("PIL.Image")
    with image.open(WORKFLOWS / f"{ui_stem(name)}.jpg") as thumbnail:
        assert (thumbnail.format, thumbnail.size) == ("JPEG", THUMBNAIL_SIZE)


def test_seed_control_is_no_input() -> None:
    widgets = [{"name": name, "widget": {"name": name}, "link": None} for name in ("seed", "steps")]
    node = {"inputs": [{"name": "model", "link": 1}, *widgets], "widgets_values": [7, "randomize", 4, "button"]}
    assert widget_inputs(node) == {"seed": 7, "steps": 4}
