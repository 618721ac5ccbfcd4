"""A real server killed in mid-job: `python -m asymtalker.benchmarks kill` in small."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from asymtalker.benchmarks.kill import measure

pytestmark = [pytest.mark.server, pytest.mark.skipif(sys.platform == "win32", reason="sends SIGKILL")]


def test_killed_and_queued_again(comfyui: Path, tmp_path: Path) -> None:
    figures = measure(seconds=6.0, kills=2, seed=3, folder=tmp_path)
    assert figures["passed"], figures
    assert {kill["phase"] for kill in figures["kills"]} & {"sampling", "saving"}
