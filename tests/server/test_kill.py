"""A real server killed in mid-job: `python -m asymtalker.benchmarks kill` in small."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from asymtalker.benchmarks.kill import measure

pytestmark = [pytest.mark.server, pytest.mark.skipif(sys.platform == "win32", reason="sends SIGKILL")]


def test_killed_and_queued_again(comfyui: Path, tmp_path: Path) -> None:
    # With this seed, at nine tenths of the job: most of so short a one is loading and the portrait.
    figures = measure(seconds=4.0, kills=1, seed=46, folder=tmp_path)
    assert figures["passed"], figures
    assert figures["kills"][0]["phase"] in ("sampling", "saving")
