"""The requirements files and the extras of pyproject.toml name the same packages."""

from __future__ import annotations

import pytest

from asymtalker.scripts._environment import (
    BATCH_REQUIREMENTS,
    ROOT,
    TEST_REQUIREMENTS,
    TRAINING_REQUIREMENTS,
    requirement_lines,
)
from asymtalker.training.core.config import tomllib


@pytest.mark.parametrize(
    ("extra", "path"),
    [("training", TRAINING_REQUIREMENTS), ("batch", BATCH_REQUIREMENTS), ("test", TEST_REQUIREMENTS)],
)
def test_extras_equal_requirements_files(extra: str, path: object) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    assert sorted(project["optional-dependencies"][extra]) == sorted(requirement_lines(path))  # type: ignore[arg-type]
