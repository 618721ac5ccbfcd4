"""The results of `metrics` for readers: a table and plots."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ...models.rates import FPS
from ..core.images import figure
from ..core.tables import markdown_table
from .syncnet import MAX_OFFSET

# Name in the results -> (as tables print it, decimals).
COLUMNS = {
    "fid": ("FID ↓", 2),
    "fvd": ("FVD ↓", 2),
    "sync_c": ("Sync-C ↑", 2),
    "sync_d": ("Sync-D ↓", 2),
    "sync_c_real": ("Sync-C, real", 2),
    "sync_d_real": ("Sync-D, real", 2),
    "identity": ("identity ↑", 3),
    "psnr": ("PSNR ↑ (dB)", 2),
    "ssim": ("SSIM ↑", 3),
}
Curves = Mapping[str, Mapping[str, list[float]]]


def write_report(result: Mapping[str, Any], curves: Curves, out: Path) -> None:
    """Write `metrics.md`, and a plot for each of ``curves`` that has any."""
    (out / "metrics.md").write_text(markdown(result), "utf-8")
    plots = {
        "identity": ("seconds", "similarity to the portrait", lambda values: np.arange(len(values)) / FPS),
        "psnr": ("seconds", "PSNR (dB)", lambda values: np.arange(len(values)) / FPS),
        "sync": (
            "offset (frames; positive where the sound is early)",
            "distance",
            lambda values: MAX_OFFSET - np.arange(len(values)),
        ),
    }
    for name, (x_label, y_label, places) in plots.items():
        if curves.get(name):
            _plot(curves[name], x_label, y_label, places, out / f"{name}.png")


def markdown(result: Mapping[str, Any]) -> str:
    """The means, then every video's own numbers, then what was not measured."""
    columns = [name for name in COLUMNS if name in result["mean"]]
    rows = [
        _row(f"all {result['counts']['videos']}", result["mean"], columns),
        *(_row(row["name"], row, columns) for row in result["videos"]),
    ]
    lines = [markdown_table(["videos", *(COLUMNS[name][0] for name in columns)], rows)]
    lines += [f"- {COLUMNS[name][0]}: {reason}" for name, reason in result["not_measured"].items()]
    lines += [f"- {name} is left out: {reason}" for name, reason in result["left_out"].items()]
    return "\n".join(lines) + "\n"


def _row(name: str, values: Mapping[str, Any], columns: list[str]) -> list[str]:
    return [name, *(f"{values[key]:.{COLUMNS[key][1]}f}" if key in values else "" for key in columns)]


def _plot(curves: Mapping[str, list[float]], x_label: str, y_label: str, places: Any, path: Path) -> None:
    with figure(path, (9, 3.5)) as (axes,):
        for name, values in curves.items():
            axes.plot(places(values), values, linewidth=1, alpha=0.7, label=name)
        if len(curves) <= 8:
            axes.legend(fontsize="small")
        axes.set_xlabel(x_label)
        axes.set_ylabel(y_label)
