"""Columns find their inputs, values fit them, and a clip's identity is its content."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from asymtalker.batch.graph import (
    CellFault,
    GraphFault,
    Target,
    bind,
    check_values,
    file_targets,
    find_graph,
    identity,
    prompt,
)

NANO = find_graph("nano")
SAMPLER, PICTURE, SOUND, SAVER = (
    next(key for key, node in NANO.items() if node["class_type"] == kind)
    for kind in ("AsymTalkerSampler", "LoadImage", "LoadAudio", "AsymTalkerMux")
)

WRONG_COLUMNS = {
    "colour": "unknown; use portrait, audio, output or node.input",
    "KSampler.seed": "the graph has no node KSampler; it has AsymTalker",
    "AsymTalkerSampler.stepz": "AsymTalkerSampler has no input stepz; it has audio_guidance",
    "AsymTalkerSampler.model": "connected to another node",
    "AsymTalkerMux.filename_prefix": "use the column output",
}


@pytest.mark.parametrize("column", WRONG_COLUMNS)
def test_a_wrong_column_is_refused_with_what_there_is(column: str) -> None:
    with pytest.raises(GraphFault) as raised:
        bind(NANO, ["portrait", column])
    assert str(raised.value).startswith(f"column {column}: ") and WRONG_COLUMNS[column] in str(raised.value)


def test_two_portraits_need_two_columns() -> None:
    graph = find_graph("asymtalker_portrait_batch")
    first, second = (f"{target.node}.image" for target in file_targets(graph) if target.name == "image")
    with pytest.raises(GraphFault, match=f"2 LoadImage nodes; name the columns {first} and {second}"):
        bind(graph, ["portrait"])
    assert bind(graph, [first, second]).columns[second] == (Target(second.removesuffix(".image"), "image"),)


def test_the_column_behind_a_node_that_failed() -> None:
    graph = find_graph("asymtalker_larger_picture")
    template = bind(graph, ["portrait", "audio", "AsymTalkerSampler.seed"])
    nodes = {node["class_type"]: node_id for node_id, node in graph.items()}
    assert template.column_behind(nodes["AsymTalkerFaceCrop"]) == "portrait"
    assert template.column_behind(nodes["AsymTalkerAudioFeatures"]) == "audio"
    assert template.column_behind(nodes["AsymTalkerMux"]) == ""
    assert template.column_behind(nodes["AsymTalkerLoader"]) == template.column_behind("") == ""


def test_two_columns_for_one_input() -> None:
    with pytest.raises(GraphFault, match=f"columns AsymTalkerSampler.seed and {SAMPLER}.seed set"):
        bind(NANO, ["AsymTalkerSampler.seed", f"{SAMPLER}.seed"])


def test_a_graph_is_found_by_name_or_file_and_must_generate_and_save(tmp_path: Path) -> None:
    assert find_graph("asymtalker_nano") == NANO
    with pytest.raises(GraphFault, match=r"--workflow nana: no such file, and no shipped graph \(asymtalker_"):
        find_graph("nana")
    for removed, message in ((("AsymTalkerSampler",), "has no AsymTalker Sampler"), (("AsymTalkerMux",), "saves")):
        kept = {key: node for key, node in NANO.items() if node["class_type"] not in removed}
        (tmp_path / "graph.json").write_text(json.dumps(kept))
        with pytest.raises(GraphFault, match=message):
            find_graph(str(tmp_path / "graph.json"))


@pytest.mark.parametrize(
    ("column", "cell", "value"),
    [
        ("AsymTalkerSampler.seed", str(2**63 + 1), 2**63 + 1),
        ("AsymTalkerSampler.shift", "2.5", 2.5),
        ("AsymTalkerMux.mark_generated", "No", False),
        ("AsymTalkerSampler.sampler", "euler", "euler"),
        ("AsymTalkerSampler.seed", "seven", "expected a number, got 'seven'"),
        ("AsymTalkerSampler.shift", "nan", "expected a number, got 'nan'"),
        ("AsymTalkerMux.mark_generated", "maybe", "expected true or false, got 'maybe'"),
    ],
)
def test_cells_take_the_kind_of_the_input(column: str, cell: str, value: Any) -> None:
    template = bind(NANO, [column])
    (target,) = template.columns[column]
    if isinstance(value, str) and value.startswith("expected"):
        with pytest.raises(CellFault) as raised:
            template.fill({column: cell})
        assert raised.value.column == column and str(raised.value) == value
    else:
        found = template.fill({column: cell})[target.node]["inputs"][target.name]
        assert found == value and type(found) is type(value)


def test_a_server_knows_more_about_values() -> None:
    declared = {"seed": ["INT", {"min": 0, "max": 9}], "sampler": ["COMBO", {"options": ["auto", "euler"]}]}
    object_info = {"AsymTalkerSampler": {"input": {"required": declared}}}
    columns = {"AsymTalkerSampler.seed": "10", "AsymTalkerSampler.sampler": "eulr"}
    for column, message in zip(columns, ("10 is not between 0 and 9", "'eulr' is not one of auto, euler"), strict=True):
        template = bind(NANO, [column])
        with pytest.raises(CellFault, match=message):
            check_values(template, template.fill({column: columns[column]}), object_info)


def test_the_identity_is_the_content() -> None:
    template = bind(NANO, ["portrait", "AsymTalkerSampler.seed"])
    files = {Target(PICTURE, "image"): "aa", Target(SOUND, "audio"): "bb"}
    first = template.fill({"portrait": "a.png", "AsymTalkerSampler.seed": 1})
    same = template.fill({"portrait": "copy of a.png", "AsymTalkerSampler.seed": "1"})
    assert identity(first, files) == identity(same, files)
    assert identity(first, {**files, Target(PICTURE, "image"): "cc"}) != identity(first, files)
    assert identity(template.fill({"AsymTalkerSampler.seed": 2}), files) != identity(first, files)


def test_what_is_queued_names_no_place_of_this_machine() -> None:
    object_info = {"PreviewAny": {}, "AsymTalkerSampler": {"output_name": ["video", "report"]}}
    queued = prompt(NANO, {Target(PICTURE, "image"): "asymtalker_batch/aa.png"}, "clip", object_info)
    assert queued[PICTURE]["inputs"]["image"] == "asymtalker_batch/aa.png"
    assert queued[SAVER]["inputs"]["filename_prefix"] == f"asymtalker_batch/clip/{SAVER}"
    # The colon of a node in a subgraph is no letter for files.
    assert queued[f"asymtalker_batch_{SAMPLER.replace(':', '-')}"]["inputs"]["source"] == [SAMPLER, 1]
    assert NANO[PICTURE]["inputs"]["image"] == "asymtalker_person.png"
