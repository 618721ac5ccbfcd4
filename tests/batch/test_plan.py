"""Which rows are set aside and why, what is the same clip, and what is done already."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from asymtalker.batch.files import digest_of
from asymtalker.batch.graph import GraphFault, bind, find_graph
from asymtalker.batch.ledger import Ledger, LedgerFault, Output, Stamp
from asymtalker.batch.plan import Plan, make_plan, name_problem
from asymtalker.batch.table import read_table
from asymtalker.tests.batch.conftest import WriteTable

MakePlan = Callable[..., Plan]


@pytest.fixture
def plan_of(write_table: WriteTable, out: Path, ledger: Ledger) -> MakePlan:
    """Plan rows for the nano graph; each has the portrait, and the speech unless it names another."""

    def plan(*rows: dict[str, Any]) -> Plan:
        filled = [{"portrait": "face.png", "audio": "speech.wav", **row} for row in rows]
        table = read_table(write_table(*filled))
        return make_plan(table, bind(find_graph("nano"), table.columns), out, ledger)

    return plan


def test_bad_rows_are_named_by_row_and_column_and_the_others_stay(plan_of: MakePlan, tmp_path: Path) -> None:
    (tmp_path / "noise.wav").write_bytes(bytes(range(256)) * 8)
    (tmp_path / "cut.png").write_bytes((tmp_path / "face.png").read_bytes()[:200])
    seed = "AsymTalkerSampler.seed"
    plan = plan_of(
        {"output": "good", seed: 1},
        {"output": "missing", seed: 2, "audio": "none.wav"},
        {"output": "noise", seed: 3, "audio": "noise.wav"},
        {"output": "cut", seed: 4, "portrait": "cut.png"},
        {"output": "text", seed: "seven"},
        {"output": "twice", seed: 5},
        {"output": "TWICE.mp4", seed: 6},
        {"output": "../up", seed: 7},
    )
    found = {row: (fault.column, fault.reason) for row, fault in plan.faults.items()}
    assert [clip.names for clip in plan.clips.values()] == [["good"]]
    assert found.keys() == {3, 4, 5, 6, 7, 8, 9}
    assert found[3][0] == "audio" and found[3][1].endswith("none.wav: no such file or directory")
    assert found[4][0] == "audio" and "noise.wav: not an audio file" in found[4][1]
    assert found[5][0] == "portrait" and "cut.png: it cannot be read" in found[5][1]
    assert found[6] == (seed, "expected a number, got 'seven'")
    assert found[7] == ("output", "the output name 'twice' is also that of row 8; give each row its own")
    assert found[8][1].startswith("the output name 'twice' is also that of row 7")
    assert found[9] == ("output", "'../up' is not a file name in the output folder")


def test_rows_of_the_same_content_are_one_clip(plan_of: MakePlan, tmp_path: Path) -> None:
    (tmp_path / "copy.wav").write_bytes((tmp_path / "speech.wav").read_bytes())
    plan = plan_of({"output": "a"}, {"output": "b", "audio": "copy.wav"}, {"output": ""})
    (clip,) = plan.clips.values()
    # Without a name the output is called like its audio.
    assert clip.names == ["a", "b", "speech"] and clip.rows == [2, 3, 4] and clip.seconds == 0.5


def put(out: Path, ledger: Ledger, identity: str, name: str, content: bytes = b"video") -> Path:
    """A finished clip's file in the folder and the ledger."""
    path = out / name
    path.write_bytes(content)
    ledger.finish(identity, {"files": [{"suffix": ".mp4", "bytes": 5, "digest": digest_of(path)}]}, b"")
    ledger.note_output(name, Output(identity, 0, Stamp.of(path)))
    return path


def test_what_is_done_is_not_done_again(plan_of: MakePlan, out: Path, ledger: Ledger) -> None:
    (clip,) = plan_of({"output": "a"}).waiting()
    video = put(out, ledger, clip.identity, "a.mp4")
    assert plan_of({"output": "a"}).waiting() == []
    # Another value makes another clip, which replaces the file; a new name of the same clip is missing.
    assert len(plan_of({"output": "a", "AsymTalkerSampler.seed": 9}).waiting()) == 1
    (renamed,) = plan_of({"output": "a"}, {"output": "b"}).waiting()
    assert renamed.intact == ["a"]
    video.unlink()
    assert len(plan_of({"output": "a"}).waiting()) == 1


def test_files_that_are_not_the_batchs_are_never_replaced(plan_of: MakePlan, out: Path, ledger: Ledger) -> None:
    (clip,) = plan_of({"output": "a"}).waiting()
    video = put(out, ledger, clip.identity, "a.mp4")
    # Copied back from a backup, with another time.
    video.unlink()
    video.write_bytes(b"video")
    assert plan_of({"output": "a"}).faults == {}
    video.write_bytes(b"edited")
    (out / "b.mp4").write_bytes(b"someone's")
    plan = plan_of({"output": "a"}, {"output": "b", "AsymTalkerSampler.seed": 2})
    assert [str(fault).partition(";")[0] for fault in plan.faults.values()] == [
        "row 2, column output: a.mp4 was changed after it was rendered",
        "row 3, column output: b.mp4 exists and was not made by this batch",
    ]


def test_a_file_of_the_graph_that_is_not_there(write_table: WriteTable, out: Path, ledger: Ledger) -> None:
    graph = {key: {**node, "inputs": dict(node["inputs"])} for key, node in find_graph("nano").items()}
    (picture,) = (key for key, node in graph.items() if node["class_type"] == "LoadImage")
    graph[picture]["inputs"]["image"] = "elsewhere.png"
    with pytest.raises(GraphFault, match=rf"names elsewhere\.png, .* add the column {picture}\.image"):
        make_plan(read_table(write_table({"audio": "speech.wav"})), bind(graph, ["audio"]), out, ledger)


IMPOSSIBLE_NAMES = [
    *("", " ", "/etc/x", "a/../b", ".hidden", "a:b", "dir./a", "a\\b", "\ud800", "CON", "com1/x", "nul.tar", "a.mp4/b"),
    *("x" * 201, "x" * 201 + "/a", "ab/" * 300 + "x"),
]


@pytest.mark.parametrize("name", IMPOSSIBLE_NAMES)
def test_names_that_cannot_be_files(name: str) -> None:
    assert name_problem(name) is not None


def test_names_of_which_some_systems_make_one_file(plan_of: MakePlan) -> None:
    plan = plan_of({"output": "caf\u00e9"}, {"output": "Cafe\u0301", "AsymTalkerSampler.seed": 2})
    assert [fault.reason.rpartition(";")[0][-5:] for fault in plan.faults.values()] == ["row 3", "row 2"]


@pytest.mark.parametrize("path", ["a\0b.png", "\ud800.png"])
def test_a_path_that_no_file_can_have(path: str, tmp_path: Path, out: Path, ledger: Ledger) -> None:
    table = tmp_path / "clips.jsonl"
    table.write_text(json.dumps({"portrait": path}) + "\n", encoding="utf-8")
    plan = make_plan(read_table(table), bind(find_graph("nano"), ["portrait"]), out, ledger)
    assert plan.faults[1].column == "portrait" and "is not a file's name" in plan.faults[1].reason


def test_a_damaged_database(tmp_path: Path) -> None:
    (tmp_path / "ledger.sqlite").write_bytes(b"x" * 5000)
    with pytest.raises(LedgerFault, match=r"ledger\.sqlite cannot be read"):
        Ledger(tmp_path / "ledger.sqlite")


def test_two_batches_on_one_folder(ledger: Ledger, out: Path) -> None:
    with pytest.raises(LedgerFault, match="another batch is running on this folder"):
        Ledger(out / ".batch" / "ledger.sqlite")
