"""What a user gave wrong is said in one line."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from scripts._environment import ROOT


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["teacher", "--data", "nowhere"], "nowhere holds no encoded clips"),
        (["audio", "--set", "stepz=1"], "unknown keys ['stepz']"),
        (["evaluate", "--network", "README.md"], "README.md is not a complete safetensors file"),
    ],
)
def test_bad_input_is_one_line(arguments: list[str], message: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "training", *arguments, "--out", str(tmp_path / "out")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 1
    assert message in done.stderr and "Traceback" not in done.stderr
