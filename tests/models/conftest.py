"""Golden data."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from asymtalker.scripts._environment import ROOT

GOLDEN_FOLDERS = (ROOT.parent / "shared" / "golden", ROOT / "tests" / "data" / "golden")


@pytest.fixture
def golden_file() -> Callable[[str], Path]:
    """Return a function that gives the path of a golden file, or skips."""

    def find(name: str) -> Path:
        for folder in GOLDEN_FOLDERS:
            if (folder / name).is_file():
                return folder / name
        pytest.skip(f"{name} is not in ../shared/golden, and the repository keeps no copy of it")

    return find
