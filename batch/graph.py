"""The graph that the rows fill in: the inputs that columns set, and the values that are valid for them."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..scripts._environment import ROOT
from ..scripts._graph import declared_inputs
from ..scripts._workflow import EXPORT, Graph, read_graph
from .table import Cell

SHIPPED = ROOT / "workflows" / "api"
ASSETS = ROOT / "workflows" / "assets"

FILE_INPUTS = {"LoadImage": "image", "LoadImageMask": "image", "LoadAudio": "audio", "LoadVideo": "file"}
"""Core's nodes that read a file of the server's input folder, and the input that names it."""

SHORTHANDS = {"portrait": "LoadImage", "audio": "LoadAudio"}
OUTPUT = "output"
SAVER_INPUT = "filename_prefix"
REPORT = "report"
FOLDER = "asymtalker_batch"
"""Subfolder of the servers' input and output folders."""

TRUTHS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


class GraphFault(ValueError):
    """The graph cannot be used, or a column does not fit it."""


class CellFault(ValueError):
    """A cell's value does not fit the input that it sets."""

    def __init__(self, column: str, problem: str) -> None:
        super().__init__(problem)
        self.column = column


@dataclass(frozen=True)
class Target:
    """An input of a node."""

    node: str
    name: str


@dataclass(frozen=True)
class Template:
    """A graph, and the inputs that each column of the table sets."""

    graph: Graph
    columns: dict[str, tuple[Target, ...]]

    def fill(self, cells: Mapping[str, Cell]) -> Graph:
        """The graph with a row's cells in it.

        Raises:
            CellFault: a value is not of the input's kind.
        """
        filled = dict(self.graph)
        for column, targets in self.columns.items():
            if column not in cells:
                continue
            for target in targets:
                current = self.graph[target.node]["inputs"][target.name]
                try:
                    set_value(filled, target, converted(cells[column], current))
                except ValueError as error:
                    raise CellFault(column, str(error)) from None
        return filled

    def column_of(self, target: Target) -> str | None:
        """The column that sets an input."""
        return next((column for column, targets in self.columns.items() if target in targets), None)

    def column_behind(self, node: str) -> str:
        """The column that alone sets what a node gets, directly or through other nodes; empty if there are several."""
        waiting, seen = [node], set[str]()
        while waiting:
            found = waiting.pop()
            if found in self.graph and found not in seen:
                seen.add(found)
                waiting += [value[0] for value in self.graph[found]["inputs"].values() if is_link(value)]
        columns = [column for column, targets in self.columns.items() if any(target.node in seen for target in targets)]
        return columns[0] if len(columns) == 1 else ""


def find_graph(name: str) -> Graph:
    """The graph in a file, or a shipped one by its name ("nano" is short for "asymtalker_nano").

    Raises:
        GraphFault: it does not exist, or it generates or saves no video.
    """
    path = Path(name)
    if not path.is_file():
        shipped = {file.stem: file for file in sorted(SHIPPED.glob("*.json"))}
        known = shipped.get(name) or shipped.get(f"asymtalker_{name}")
        if known is None:
            raise GraphFault(f"--workflow {name}: no such file, and no shipped graph ({', '.join(shipped)})")
        path = known
    try:
        graph = read_graph(path, needed=())
    except (ValueError, OSError) as error:
        raise GraphFault(str(error)) from error
    if not samplers(graph):
        raise GraphFault(f"--workflow {name}: the graph has no AsymTalker Sampler, so it generates nothing; {EXPORT}")
    if not savers(graph):
        raise GraphFault(f"--workflow {name}: no node saves a file; add AsymTalker Mux & Save")
    return graph


def samplers(graph: Graph) -> list[str]:
    """The nodes that generate."""
    return [
        node_id
        for node_id, node in graph.items()
        if node["class_type"].startswith("AsymTalker") and "Sampler" in node["class_type"]
    ]


def savers(graph: Graph) -> list[str]:
    """The nodes that save a file under a prefix."""
    return [node_id for node_id, node in graph.items() if SAVER_INPUT in node["inputs"]]


def file_targets(graph: Graph) -> list[Target]:
    """The inputs that name a file."""
    found = [Target(node_id, FILE_INPUTS.get(node["class_type"], "")) for node_id, node in graph.items()]
    return [
        target
        for target in found
        if target.name in graph[target.node]["inputs"] and not is_link(graph[target.node]["inputs"][target.name])
    ]


def is_link(value: Any) -> bool:
    """Whether an input's value is another node's output."""
    return isinstance(value, list)


def bind(graph: Graph, columns: Iterable[str]) -> Template:
    """Find the inputs that the columns set.

    Raises:
        GraphFault: a column is unknown or names an input that is not there, is connected, or is not unique.
    """
    bound = {column: targets_of(graph, column) for column in columns if column != OUTPUT}
    owners: dict[Target, str] = {}
    for column, targets in bound.items():
        for target in targets:
            if target in owners:
                raise GraphFault(f"columns {owners[target]} and {column} set the same input; remove one")
            owners[target] = column
    return Template(graph, bound)


def targets_of(graph: Graph, column: str) -> tuple[Target, ...]:
    """The inputs that a column sets: of one node by its id or title, or of all nodes of a type."""
    if column in SHORTHANDS:
        kind = SHORTHANDS[column]
        nodes = [node_id for node_id, node in graph.items() if node["class_type"] == kind]
        if len(nodes) != 1:
            several = " and ".join(f"{node_id}.{FILE_INPUTS[kind]}" for node_id in nodes)
            remedy = f"name the columns {several}" if nodes else "remove the column"
            raise GraphFault(f"column {column}: the graph has {len(nodes)} {kind} nodes; {remedy}")
        return (Target(nodes[0], FILE_INPUTS[kind]),)
    name, dot, input_name = column.rpartition(".")
    if not dot:
        raise GraphFault(f"column {column}: unknown; use portrait, audio, {OUTPUT} or node.input")
    nodes = [node_id for node_id, node in graph.items() if name in (node_id, node["class_type"], _title(node))]
    if not nodes:
        present = ", ".join(sorted({node["class_type"] for node in graph.values()}))
        raise GraphFault(f"column {column}: the graph has no node {name}; it has {present}")
    for node_id in nodes:
        inputs = graph[node_id]["inputs"]
        if input_name not in inputs:
            widgets = ", ".join(sorted(key for key, value in inputs.items() if not is_link(value)))
            raise GraphFault(f"column {column}: {name} has no input {input_name}; it has {widgets}")
        if is_link(inputs[input_name]):
            raise GraphFault(f"column {column}: this input is connected to another node, so it has no value to set")
        if input_name == SAVER_INPUT:
            raise GraphFault(f"column {column}: the batch sets where servers save; use the column {OUTPUT}")
    return tuple(Target(node_id, input_name) for node_id in nodes)


def _title(node: Mapping[str, Any]) -> str | None:
    return (node.get("_meta") or {}).get("title")


def converted(cell: Cell, current: Any) -> Any:
    """A cell converted to the type of the graph's value. Raises ValueError if it has another type."""
    if isinstance(current, bool):
        truth = TRUTHS.get(str(cell).lower())
        if truth is None:
            raise ValueError(f"expected true or false, got {cell!r}")
        return truth
    if isinstance(current, (int, float)):
        return _number(cell)
    return cell if isinstance(current, str) is isinstance(cell, str) else str(cell)


def _number(cell: Cell) -> int | float:
    if not isinstance(cell, bool):
        try:
            # As text, so that seeds beyond 2^53 stay exact.
            return int(str(cell))
        except ValueError:
            try:
                value = float(cell)
            except ValueError:
                value = math.nan
        if math.isfinite(value):
            return value
    raise ValueError(f"expected a number, got {cell!r}")


def value_fault(value: Any, kind: Any, options: Mapping[str, Any]) -> str | None:
    """Why a server would refuse a value of an input with this declaration; None if it would accept it."""
    if kind == "COMBO":
        choices = options.get("options", [])
        return None if value in choices else f"{value!r} is not one of {', '.join(map(str, choices[:12]))}"
    if kind not in ("INT", "FLOAT"):
        return None
    if kind == "INT" and value != int(value):
        return f"expected a whole number, got {value}"
    low, high = options.get("min", -math.inf), options.get("max", math.inf)
    return None if low <= value <= high else f"{value} is not between {low} and {high}"


def check_values(template: Template, filled: Graph, object_info: Mapping[str, Any]) -> None:
    """Check the columns of a filled graph against a server's node infos.

    Raises:
        CellFault: the server would refuse a value.
    """
    for column, targets in template.columns.items():
        for target in targets:
            node = filled[target.node]
            if FILE_INPUTS.get(node["class_type"]) == target.name:
                continue
            declared = declared_inputs(object_info[node["class_type"]]).get(target.name)
            problem = None if declared is None else value_fault(node["inputs"][target.name], declared[2], declared[1])
            if problem is not None:
                raise CellFault(column, problem)


def check_nodes(graph: Graph, object_info: Mapping[str, Any]) -> None:
    """Raise GraphFault if a server lacks nodes of the graph."""
    missing = sorted({node["class_type"] for node in graph.values()} - object_info.keys())
    if missing:
        raise GraphFault(f"the server has no node {', '.join(missing)}; install or update the pack that contains it")


def identity(filled: Graph, digests: Mapping[Target, str]) -> str:
    """Hash of what a filled graph generates: its nodes, values and links, and the content of its files."""
    content: dict[str, Any] = {}
    for node_id, node in filled.items():
        inputs = {name: value for name, value in node["inputs"].items() if name != SAVER_INPUT}
        for target, digest in digests.items():
            if target.node == node_id:
                inputs[target.name] = {"content": digest}
        content[node_id] = [node["class_type"], inputs]
    text = json.dumps(content, sort_keys=True, ensure_ascii=False)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def prompt(filled: Graph, names: Mapping[Target, str], clip: str, object_info: Mapping[str, Any]) -> Graph:
    """The graph to queue: files by their names on the server, savers with the clip's prefix, reports as text outputs.

    It does not depend on the machine, because it is embedded in the video, whose bytes must be the same everywhere.
    """
    queued = dict(filled)
    for target, name in names.items():
        set_value(queued, target, name)
    for node_id in savers(filled):
        set_value(queued, Target(node_id, SAVER_INPUT), f"{FOLDER}/{clip}/{in_file_name(node_id)}")
    if "PreviewAny" in object_info:
        for node_id in samplers(filled):
            outputs = object_info[filled[node_id]["class_type"]]["output_name"]
            if REPORT in outputs:
                source = [node_id, outputs.index(REPORT)]
                queued[report_node(node_id)] = {"class_type": "PreviewAny", "inputs": {"source": source}}
    return queued


def set_value(graph: Graph, target: Target, value: Any) -> None:
    """Set an input in a graph that shares its nodes with others."""
    node = graph[target.node]
    graph[target.node] = {**node, "inputs": {**node["inputs"], target.name: value}}


def report_node(sampler: str) -> str:
    """The id of the node that shows a Sampler's report."""
    return f"{FOLDER}_{in_file_name(sampler)}"


def in_file_name(node_id: str) -> str:
    """A node's id as part of a file's name: those of nodes in subgraphs have colons."""
    return node_id.replace(":", "-")
