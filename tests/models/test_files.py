"""Files that are whole or absent."""

from __future__ import annotations

from pathlib import Path

import pytest

from asymtalker.models import rates
from asymtalker.models.files import replacing, write_text
from asymtalker.scripts import _progress


def test_an_error_leaves_the_old_file_and_nothing_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_text(path, "old")
    with pytest.raises(KeyError), replacing(path) as partial:
        partial.write_text("ne")
        raise KeyError
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]
    write_text(path, "né")
    assert path.read_text("utf-8") == "né" and list(tmp_path.iterdir()) == [path]


def test_a_link_in_the_temporary_file_s_place_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "other").write_text("theirs")
    (tmp_path / "a.json.part").symlink_to(tmp_path / "other")
    write_text(tmp_path / "a.json", "ours")
    assert (tmp_path / "other").read_text() == "theirs" and not (tmp_path / "a.json").is_symlink()


def test_writers_of_the_same_file_do_not_disturb_each_other(tmp_path: Path) -> None:
    path = tmp_path / "clip"
    with replacing(path, writer=".1") as first, replacing(path, writer=".2") as second:
        first.write_text("same")
        second.write_text("same")
    assert path.read_text() == "same" and list(tmp_path.iterdir()) == [path]


def test_the_command_line_counts_frames_at_the_same_rate() -> None:
    assert _progress.FPS == rates.FPS
