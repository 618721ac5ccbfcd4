"""Figures as a table and as JSON."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from typing import Any

import torch
from tabulate import SEPARATING_LINE, tabulate

from .geometries import Geometry
from .stages import Stage

HEADINGS = ("stage", "ms", "calls per chunk", "fps")


def chunk_seconds(stages: list[Stage]) -> float:
    """Seconds of one chunk's stages one after the other."""
    return sum(stage.seconds * stage.calls_per_chunk for stage in stages)


def machine(device: torch.device) -> dict[str, Any]:
    """What the figures were measured on."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or platform.machine()
    return {
        "device": device.type,
        "name": name,
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
    }


def as_json(geometry: Geometry, stages: list[Stage]) -> dict[str, Any]:
    """One geometry's figures."""
    seconds = chunk_seconds(stages)
    new_frames = max(stage.frames for stage in stages if stage.calls_per_chunk)
    return {
        "geometry": geometry.name,
        "size": geometry.size,
        "dtype": str(geometry.dtype).removeprefix("torch."),
        "sampler": geometry.sampling.sampler,
        "steps": geometry.sampling.steps,
        "frames_per_chunk": geometry.sampling.frames_per_chunk,
        "new_frames_per_chunk": new_frames,
        "notes": list(geometry.notes),
        "stages": [
            {
                "name": stage.name,
                "seconds": round(stage.seconds, 6),
                "frames": stage.frames,
                "calls_per_chunk": stage.calls_per_chunk,
                "fps": None if stage.fps is None else round(stage.fps, 2),
            }
            for stage in stages
        ],
        "chunk": {
            "seconds": round(seconds, 6),
            "fps": round(new_frames / seconds, 2),
            "complete": geometry.codec is not None,
        },
    }


def as_table(result: dict[str, Any]) -> str:
    """One geometry's figures as aligned text."""
    rows: list[Sequence[str]] = [HEADINGS]
    for stage in result["stages"]:
        calls = str(stage["calls_per_chunk"] or "-")
        rows.append((stage["name"], f"{1000 * stage['seconds']:.1f}", calls, _number(stage["fps"])))
    chunk = result["chunk"]
    name = "whole chunk" if chunk["complete"] else "chunk without VAE"
    rows += [SEPARATING_LINE, (name, f"{1000 * chunk['seconds']:.1f}", "", _number(chunk["fps"]))]
    title = (
        f"{result['geometry']} {result['size']}x{result['size']}, {result['dtype']}, {result['steps']} steps "
        f"({result['sampler']}), {result['new_frames_per_chunk']:g} new frames a chunk"
    )
    notes = [f"note: {note}" for note in result["notes"]]
    return "\n".join([title, *notes, aligned(rows)])


def aligned(rows: Sequence[Sequence[str]]) -> str:
    """Headings, a rule and rows, the first column to the left and the others to the right."""
    columns = ("left", *["right"] * (len(rows[0]) - 1))
    return tabulate(rows, headers="firstrow", colalign=columns, disable_numparse=True)


def _number(fps: float | None) -> str:
    return "-" if fps is None else f"{fps:.1f}"
