"""The benchmark command runs nano on the CPU and writes what it says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from asymtalker.benchmarks.__main__ import main


def test_nano_on_the_cpu(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "figures.json"
    assert (
        main(["--geometry", "nano", "--device", "cpu", "--repeats", "1", "--seconds", "0.2", "--json", str(file)]) == 0
    )
    (nano,) = json.loads(file.read_text(encoding="utf-8"))["geometries"]
    stages = {stage["name"]: stage for stage in nano["stages"]}
    assert list(stages) == [
        "audio features",
        "reference",
        "audio keys and values",
        "network, one step",
        "decode",
        "colour",
        "continuity encode",
        "hand-over to the spool",
        "mp4 encode",
    ]
    assert all(stage["seconds"] > 0 for stage in stages.values())
    assert stages["network, one step"]["calls_per_chunk"] >= nano["steps"]
    assert nano["chunk"]["complete"] and nano["chunk"]["fps"] > 0
    table = capsys.readouterr().out
    assert all(name in table for name in stages) and "whole chunk" in table


def test_contention_measures_in_one_process(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["contention", "--worker", "--adapt", "--seconds", "0"]) == 0
    assert float(capsys.readouterr().out) > 0


def test_large_geometries_are_left_out_on_a_cpu(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--geometry", "pro", "--device", "cpu"]) == 1
    assert "--large-on-cpu" in capsys.readouterr().err


@pytest.mark.parametrize("wrong", [["--seconds", "0"], ["--repeats", "0"], ["--geometry", "huge"]])
def test_wrong_options(wrong: list[str]) -> None:
    with pytest.raises(SystemExit):
        main(wrong)


def test_peers_wants_flashheads_code(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["peers", str(tmp_path)])
    assert "no clone of SoulX-FlashHead" in capsys.readouterr().err


def test_spool_says_how_frames_were_stored(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["spool", "--size", "64", "--chunks", "2"]) == 0
    assert "56 frames of 64x64" in capsys.readouterr().out
