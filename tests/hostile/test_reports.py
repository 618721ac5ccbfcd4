"""Drift Chart with reports that are damaged at every place: a picture, or one message."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Iterator
from typing import Any

import pytest

from tests.nodes.conftest import Import, comfy, pack

__all__ = ["comfy", "pack"]

REPORT: dict[str, Any] = {
    "model": "nano",
    "width": 256,
    "height": 256,
    "frames": 50,
    "seed": 2**64 - 1,
    "chunks": [
        {"first_frame": 0, "stats": {"reference_distance": 0.1, "sharpness": 1.0, "color_distance": 2.0}},
        {"first_frame": 25, "stats": {"reference_distance": 0.2, "sharpness": 0.9}},
    ],
}
VALUES = [None, "x", "\ud800", "a" * 10_000, math.nan, math.inf, -math.inf, -1, 10**400, 1e308, [], [1], {}, True]

Path = tuple[Any, ...]


def places(value: Any, path: Path = ()) -> Iterator[Path]:
    """The path of every value in nested lists and dictionaries."""
    yield path
    keys = value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    for key in keys:
        yield from places(value[key], (*path, key))


def replaced(path: Path, value: Any) -> Any:
    if not path:
        return value
    report = copy.deepcopy(REPORT)
    inner = report
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    return report


@pytest.mark.parametrize("path", places(REPORT), ids=lambda path: ".".join(map(str, path)) or "all")
def test_a_damaged_report_is_drawn_or_refused(pack: Import, monkeypatch: pytest.MonkeyPatch, path: Path) -> None:
    chart = pack("nodes.host.chart")
    # The lines are drawn as they are, but on a small canvas: it is the values that matter.
    monkeypatch.setattr(chart, "SCALE", 1)
    refused = 0
    for value in VALUES:
        try:
            image = chart.drift_chart(json.dumps(replaced(path, value)), "dark")
        except ValueError as error:
            assert str(error).startswith("report: this is not the report of a video; connect")
            refused += 1
        else:
            assert image.shape == (1, 670, 960, 3) and image.isfinite().all()
    assert refused >= len(VALUES) - 5


@pytest.mark.parametrize("text", ["[" * 100_000, '{"chunks":' * 50_000, "\ud800", "\x00", "NaN", "-" * 1000])
def test_text_that_is_no_report_is_refused(pack: Import, text: str) -> None:
    with pytest.raises(ValueError, match=r"^report: this is not the report of a video"):
        pack("nodes.host.chart").drift_chart(text, "dark")


@pytest.mark.parametrize("figure", [math.nan, math.inf])
def test_a_figure_that_is_no_number_is_left_out(pack: Import, figure: float) -> None:
    chart = pack("nodes.host.chart")
    report = replaced(("chunks", 1, "stats", "sharpness"), figure)
    assert chart.drift_chart(json.dumps(report), "light").shape == (1, 670, 960, 3)
