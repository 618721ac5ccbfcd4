"""The example files in ComfyUI's input folder: copied where they are missing, never over a user's file."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest

from asymtalker.tests.helpers import ROOT, Import

NAMES = sorted(file.name for file in (ROOT / "workflows" / "assets").iterdir())


def test_what_is_missing_is_copied_and_what_is_there_stays(pack: Import, tmp_path: Path) -> None:
    examples = pack("host.example_files")
    (tmp_path / NAMES[0]).write_bytes(b"the user's own")
    assert examples.copy_missing(examples.EXAMPLES, tmp_path) == NAMES[1:]
    assert (tmp_path / NAMES[0]).read_bytes() == b"the user's own"
    assert (tmp_path / NAMES[1]).read_bytes() == (examples.EXAMPLES / NAMES[1]).read_bytes()
    assert sorted(file.name for file in tmp_path.iterdir()) == NAMES
    assert examples.copy_missing(examples.EXAMPLES, tmp_path) == []


def test_a_dead_link_of_the_user_stays(pack: Import, tmp_path: Path) -> None:
    examples = pack("host.example_files")
    (tmp_path / NAMES[0]).symlink_to(tmp_path / "gone")
    assert examples.copy_missing(examples.EXAMPLES, tmp_path) == NAMES[1:]
    assert (tmp_path / NAMES[0]).readlink() == tmp_path / "gone"


def test_a_folder_that_cannot_be_written_costs_one_line_of_the_log(
    pack: Import, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    examples = pack("host.example_files")
    (tmp_path / "input").write_bytes(b"no folder")
    with caplog.at_level(logging.INFO):
        assert examples.copy_missing(examples.EXAMPLES, tmp_path / "input") == []
    (record,) = caplog.records
    assert str(examples.EXAMPLES) in record.getMessage() and record.levelno == logging.INFO


def test_importing_and_listing_nodes_without_a_server_copies_nothing(
    pack: Import, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    examples = pack("host.example_files")
    monkeypatch.setattr(examples.folder_paths, "get_input_directory", lambda: str(tmp_path))
    examples.provide()
    assert list(tmp_path.iterdir()) == []


def test_the_graphs_use_no_other_files() -> None:
    for path in (ROOT / "workflows" / "api").glob("*.json"):
        for node in json.loads(path.read_text(encoding="utf-8")).values():
            for kind, name in (("LoadImage", "image"), ("LoadAudio", "audio")):
                if node["class_type"] == kind:
                    assert node["inputs"][name] in NAMES, path.name
