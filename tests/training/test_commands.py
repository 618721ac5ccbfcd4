"""What a user gave wrong is said in one line."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from asymtalker.scripts._environment import ROOT
from asymtalker.training.__main__ import main


def test_bad_input_is_one_line(tmp_path: Path) -> None:
    arguments = ["evaluate", "--network", "README.md", "--out", str(tmp_path / "out")]
    command = [sys.executable, "-m", "asymtalker.training", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 1
    assert "README.md is a text file" in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["teacher", "--data", "nowhere"], "nowhere holds no encoded clips"),
        (["audio", "--set", "stepz=1"], r"unknown keys \['stepz'\]"),
    ],
)
def test_bad_input_ends_the_command(
    arguments: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its message becomes the one line that Python prints, and the exit status 1."""
    monkeypatch.setattr(sys, "argv", ["training", *arguments, "--out", str(tmp_path / "out")])
    with pytest.raises(SystemExit, match=message):
        main()
