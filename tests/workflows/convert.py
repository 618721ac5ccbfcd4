"""UI form to API form, as the frontend does it when a graph is queued."""

from __future__ import annotations

from typing import Any

# Nodes that live in the frontend alone.
FRONTEND_NODES = {"MarkdownNote", "Note"}
# What the frontend puts behind a seed: no input of the node.
SEED_CONTROLS = {"fixed", "increment", "decrement", "randomize"}


def to_api(workflow: dict[str, Any]) -> dict[str, Any]:
    """The API form of a workflow whose nodes list their widgets among `inputs`, in order."""
    sources = {link: [str(source), output] for link, source, output, *_ in workflow["links"]}
    graph: dict[str, Any] = {}
    for node in workflow["nodes"]:
        if node["type"] in FRONTEND_NODES:
            continue
        linked = {entry["name"]: sources[entry["link"]] for entry in node["inputs"] if entry["link"] is not None}
        title = node.get("title", node["type"])
        inputs = {**widget_inputs(node), **linked}
        graph[str(node["id"])] = {"class_type": node["type"], "inputs": inputs, "_meta": {"title": title}}
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
