"""The golden data that are in the repository, for the node tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from asymtalker.tests.helpers import ROOT


@pytest.fixture(scope="session")
def golden() -> Path:
    """The folder of golden data."""
    return ROOT / "tests" / "data" / "golden"
