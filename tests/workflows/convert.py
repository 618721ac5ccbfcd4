"""UI form to API form, as the frontend does it when a graph is queued."""

from __future__ import annotations

from typing import Any

# Nodes that live in the frontend alone.
FRONTEND_NODES = {"MarkdownNote", "Note"}
# What the frontend puts behind a seed: no input of the node.
SEED_CONTROLS = {"fixed", "increment", "decrement", "randomize"}
# The nodes of a subgraph that stand for its inputs and outputs.
INPUT_NODE, OUTPUT_NODE = -10, -20

Source = list[Any]
"""A link in API form: [node id, output index]."""


def to_api(workflow: dict[str, Any]) -> dict[str, Any]:
    """The API form of a workflow whose nodes list their widgets among `inputs`."""
    parts = {part["id"]: part for part in workflow.get("definitions", {}).get("subgraphs", [])}
    links = {number: (source, output) for number, source, output, *_ in workflow["links"]}
    return _nodes(workflow["nodes"], links, parts, "", {})


def _nodes(
    nodes: list[dict[str, Any]],
    links: dict[int, tuple[int, int]],
    parts: dict[str, dict[str, Any]],
    prefix: str,
    given: dict[int, Source],
) -> dict[str, Any]:
    """The nodes of one graph; `given` are the sources of the inputs of the subgraph that it is."""
    by_id = {node["id"]: node for node in nodes}

    def source(number: int) -> Source | None:
        origin, output = links[number]
        if origin == INPUT_NODE:
            return given.get(output)
        part = parts.get(by_id[origin]["type"])
        if part is None:
            return [f"{prefix}{origin}", output]
        (inner,) = [link for link in part["links"] if (link["target_id"], link["target_slot"]) == (OUTPUT_NODE, output)]
        return [f"{prefix}{origin}:{inner['origin_id']}", inner["origin_slot"]]

    graph: dict[str, Any] = {}
    for node in nodes:
        if node["type"] in FRONTEND_NODES:
            continue
        found = {entry["name"]: source(entry["link"]) for entry in node["inputs"] if entry["link"] is not None}
        linked = {name: link for name, link in found.items() if link is not None}
        if (part := parts.get(node["type"])) is not None:
            inner = {link["id"]: (link["origin_id"], link["origin_slot"]) for link in part["links"]}
            names = [entry["name"] for entry in part["inputs"]]
            outer = {names.index(name): link for name, link in linked.items()}
            graph |= _nodes(part["nodes"], inner, parts, f"{prefix}{node['id']}:", outer)
            continue
        title = node.get("title", node["type"])
        inputs = {**widget_inputs(node), **linked}
        graph[f"{prefix}{node['id']}"] = {"class_type": node["type"], "inputs": inputs, "_meta": {"title": title}}
    return graph


def widget_inputs(node: dict[str, Any]) -> dict[str, Any]:
    """{input: value} of a node's widgets; seed control and upload buttons are no inputs."""
    values = list(node["widgets_values"])
    found: dict[str, Any] = {}
    for entry in node["inputs"]:
        if "widget" not in entry:
            continue
        found[entry["name"]] = values.pop(0)
        if entry["name"] == "seed" and values and values[0] in SEED_CONTROLS:
            values.pop(0)
    return found
