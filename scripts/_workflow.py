"""Reads a workflow in API form. Standard library only: this runs before anything is installed."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

Graph = dict[str, dict[str, Any]]
"""A workflow in API form: {node id: {"class_type": ..., "inputs": {...}}}."""

EXPORT = "export it in ComfyUI with File > Export (API), or use one from workflows/api"


def read_graph(file: Path, needed: Iterable[str] = ("LoadImage", "LoadAudio")) -> Graph:
    """Return the graph in API form that a file holds.

    Raises:
        ValueError: it does not contain a graph in API form, or a node of one of the `needed` types is missing.
    """
    try:
        graph: Any = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"--workflow {file}: it is not JSON ({error}); {EXPORT}") from error
    nodes = list(graph.values()) if isinstance(graph, dict) else [graph]
    if not all(
        isinstance(node, dict) and isinstance(node.get("inputs"), dict) and "class_type" in node for node in nodes
    ):
        raise ValueError(f"--workflow {file}: it is not a graph in API form; {EXPORT}")
    missing = set(needed) - {node["class_type"] for node in nodes}
    if missing:
        raise ValueError(f"--workflow {file}: the graph has no node {' and no node '.join(sorted(missing))}")
    return graph
