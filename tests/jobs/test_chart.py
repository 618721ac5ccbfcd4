"""The drift chart: what it draws of a report."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch

from asymtalker.tests.helpers import Import

COLORS = {
    "reference_distance": (0x4A, 0x90, 0xD9),
    "sharpness": (0xC7, 0x7A, 0x1E),
    "color_distance": (0x3F, 0x9B, 0x6B),
}
PANELS = {"reference_distance": (88, 238), "sharpness": (282, 432), "color_distance": (476, 626)}


def report(values: dict[str, list[float]], **changes: Any) -> str:
    chunks = [
        {"first_frame": 28 * index, "stats": dict(zip(values, stats, strict=True))}
        for index, stats in enumerate(zip(*values.values(), strict=True))
    ]
    fields = {"model": "nano", "width": 256, "height": 256, "frames": 28 * len(chunks), "seed": 7, "chunks": chunks}
    return json.dumps({**fields, **changes})


def rows_of(image: torch.Tensor, figure: str, x: int) -> torch.Tensor:
    """The rows of a figure's panel where its colour is, in column x."""
    top, bottom = PANELS[figure]
    wanted = torch.tensor(COLORS[figure]) / 255
    return top + torch.nonzero((image[0, top:bottom, x] - wanted).abs().amax(-1) < 0.12).flatten()


@pytest.mark.parametrize("theme", ["dark", "light"])
def test_curves_go_where_the_figures_go(pack: Import, theme: str) -> None:
    rising = [0.1 + 0.01 * index for index in range(40)]
    values = {"reference_distance": rising, "sharpness": rising[::-1], "color_distance": [0.5] * 40}
    image = pack("jobs.chart").drift_chart(report(values), theme)
    assert image.shape[0] == 1 and image.shape[2:] == (960, 3) and image.min() >= 0 and image.max() <= 1
    left, right = 60, 820
    heights = {figure: (rows_of(image, figure, left), rows_of(image, figure, right)) for figure in COLORS}
    assert all(len(rows) for pair in heights.values() for rows in pair)
    means = {figure: [rows.float().mean().item() for rows in pair] for figure, pair in heights.items()}
    assert means["reference_distance"][0] > means["reference_distance"][1] + 40
    assert means["sharpness"][0] < means["sharpness"][1] - 40
    assert means["color_distance"][0] == pytest.approx(means["color_distance"][1], abs=2)


def test_one_chunk_and_missing_figures_are_drawn(pack: Import) -> None:
    image = pack("jobs.chart").drift_chart(report({"sharpness": [0.6]}), "dark")
    assert len(rows_of(image, "sharpness", 24)) > 0
    assert len(rows_of(image, "reference_distance", 24)) == 0


@pytest.mark.parametrize(
    "text", ["", "no JSON", "[]", "7", '{"chunks": []}', report({"sharpness": []}), '{"chunks": [1]}']
)
def test_anything_else_is_refused(pack: Import, text: str) -> None:
    with pytest.raises(ValueError, match=r"^report: .*AsymTalker Sampler"):
        pack("jobs.chart").drift_chart(text, "dark")
