"""Reading workflows and holding them against what the server says about its nodes."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from asymtalker.scripts._client import ComfyClient, Graph
from asymtalker.scripts._environment import ROOT
from asymtalker.tests.server.media import speech_like, write_wav

NANO_GRAPH = ROOT / "workflows" / "api" / "asymtalker_nano.json"

MakeGraph = Callable[..., Graph]

WIDGET_TYPES = {"INT", "FLOAT", "STRING", "BOOLEAN", "COMBO"}
# Their choices are the files of an input folder.
FILE_INPUTS = {("LoadImage", "image"), ("LoadAudio", "audio"), ("LoadVideo", "file")}
OWN_PREFIX = "AsymTalker"
# Notes and the like live in the frontend alone.
FRONTEND_NODES = {"MarkdownNote", "Note", "Reroute", "PrimitiveNode"}

Declaration = tuple[str, dict[str, Any]]
"""Type of an input, with the choices of a COMBO under "options", and its options."""


def node_id(graph: Graph, class_type: str) -> str:
    """Return the id of the one node of a type."""
    (found,) = [key for key, value in graph.items() if value["class_type"] == class_type]
    return found


def node(graph: Graph, class_type: str) -> dict[str, Any]:
    """Return the inputs of the one node of a type."""
    return graph[node_id(graph, class_type)]["inputs"]


def declared_inputs(info: dict[str, Any], *sections: str) -> dict[str, Declaration]:
    """Return {name: declaration} of a node's inputs, in order; all of them where no section is named."""
    found: dict[str, Declaration] = {}
    for section in sections or ("required", "optional"):
        for name, declaration in info["input"].get(section, {}).items():
            kind, options = declaration[0], declaration[1] if len(declaration) > 1 else {}
            # The older form has the choices in place of the type.
            found[name] = ("COMBO", {**options, "options": kind}) if isinstance(kind, list) else (kind, options)
    return found


def is_widget(declaration: Declaration) -> bool:
    """Tell whether an input is shown as a widget."""
    kind, options = declaration
    return kind in WIDGET_TYPES and not options.get("forceInput")


def api_faults(graph: Graph, object_info: dict[str, Any]) -> list[str]:
    """Return what is wrong with a workflow in API form, one line per fault."""
    faults = []
    for key, entry in graph.items():
        class_type = entry["class_type"]
        if class_type not in object_info:
            faults.append(f"{key}: the server has no node {class_type}")
            continue
        declared = declared_inputs(object_info[class_type])
        missing = declared_inputs(object_info[class_type], "required").keys() - entry["inputs"].keys()
        faults += [f"{key} {class_type}: required input {name} is missing" for name in sorted(missing)]
        for name, value in entry["inputs"].items():
            where = f"{key} {class_type}.{name}"
            if name not in declared:
                faults.append(f"{where}: no such input")
            elif isinstance(value, list):
                faults += link_faults(where, value, declared[name], graph, object_info)
            elif (class_type, name) not in FILE_INPUTS:
                faults += value_faults(where, value, declared[name])
    return faults


def link_faults(
    where: str, link: list[Any], declaration: Declaration, graph: Graph, object_info: dict[str, Any]
) -> list[str]:
    """Return what is wrong with a link [source node id, output index]."""
    source, index = link
    if source not in graph or graph[source]["class_type"] not in object_info:
        return [f"{where}: comes from node {source}, which is not there"]
    outputs = object_info[graph[source]["class_type"]]["output"]
    if not 0 <= index < len(outputs):
        return [f"{where}: output {index} of {graph[source]['class_type']} does not exist"]
    given, wanted = outputs[index], declaration[0].split(",")
    return [] if given in wanted or "*" in (given, *wanted) else [f"{where}: {given} into {declaration[0]}"]


def value_faults(where: str, value: Any, declaration: Declaration) -> list[str]:
    """Return what is wrong with a widget's value."""
    kind, options = declaration
    if kind == "COMBO":
        return [] if value in options["options"] else [f"{where}: {value!r} is none of {options['options']}"]
    types = {"INT": int, "FLOAT": (int, float), "STRING": str, "BOOLEAN": bool}
    if kind not in types:
        return [f"{where}: a {kind} must be a link"]
    if not isinstance(value, types[kind]) or (kind != "BOOLEAN" and isinstance(value, bool)):
        return [f"{where}: {value!r} is no {kind}"]
    if kind in ("INT", "FLOAT") and not options.get("min", value) <= value <= options.get("max", value):
        return [f"{where}: {value} is not in {options['min']}..{options['max']}"]
    return []


def widget_values(info: dict[str, Any], class_type: str) -> list[tuple[str, Declaration] | None]:
    """Return what each entry of a UI node's `widgets_values` belongs to; None for one that the frontend adds."""
    slots: list[tuple[str, Declaration] | None] = []
    for name, declaration in declared_inputs(info).items():
        if is_widget(declaration):
            slots.append((name, declaration))
            if declaration[1].get("control_after_generate"):
                slots.append(None)
    # The frontend adds an upload button, and a player to audio.
    return slots + {"LoadImage": [None], "LoadAudio": [None, None], "LoadVideo": [None]}.get(class_type, [])


def ui_faults(workflow: dict[str, Any], object_info: dict[str, Any]) -> list[str]:
    """Return what is wrong with a workflow in UI form, one line per fault."""
    parts = {part["id"]: part for part in workflow.get("definitions", {}).get("subgraphs", [])}
    faults = [fault for part in parts.values() for fault in node_faults(part["nodes"], object_info, set())]
    return faults + node_faults(workflow["nodes"], object_info, set(parts)) + dangling_links(workflow)


def node_faults(nodes: list[dict[str, Any]], object_info: dict[str, Any], parts: set[str]) -> list[str]:
    """Return what is wrong with the nodes of a UI workflow; `parts` are the types that are subgraphs."""
    faults = []
    for entry in nodes:
        class_type = entry["type"]
        if class_type in FRONTEND_NODES or class_type in parts:
            continue
        if class_type not in object_info:
            faults.append(f"{entry['id']}: the server has no node {class_type}")
            continue
        info, where = object_info[class_type], f"{entry['id']} {class_type}"
        names = [socket["name"] for socket in entry.get("inputs", [])]
        faults += [f"{where}: no input {name}" for name in names if name not in declared_inputs(info)]
        kinds = [socket["type"] for socket in entry.get("outputs", [])]
        # A newer ComfyUI may give its own nodes further outputs, at the end.
        last = None if class_type.startswith(OWN_PREFIX) else len(kinds)
        if kinds != list(info["output"])[:last]:
            faults.append(f"{where}: outputs {kinds}, the server has {info['output']}")
        values, slots = entry.get("widgets_values", []), widget_values(info, class_type)
        if len(values) != len(slots):
            faults.append(f"{where}: {len(values)} widget values, the server's node has {len(slots)} widgets")
            continue
        for value, slot in zip(values, slots, strict=True):
            if slot is not None and (class_type, slot[0]) not in FILE_INPUTS:
                faults += value_faults(f"{where}.{slot[0]}", value, slot[1])
    return faults


def without_unused_outputs(workflow: dict[str, Any]) -> dict[str, Any]:
    """Return a graph in either form without the outputs of ComfyUI's nodes that nothing is linked to.

    Which of them there are depends on its version.
    """
    nodes = [
        entry
        if entry["type"].startswith(OWN_PREFIX) or "proxyWidgets" in entry["properties"]
        else {**entry, "outputs": [socket for socket in entry["outputs"] if socket["links"]]}
        for entry in workflow.get("nodes", [])
    ]
    return {**workflow, "nodes": nodes} if nodes else workflow


def dangling_links(workflow: dict[str, Any]) -> list[str]:
    """Return links of a UI workflow whose ends do not agree with the nodes."""
    by_id = {entry["id"]: entry for entry in workflow["nodes"]}
    faults = []
    for link, source, output, target, slot, kind in workflow["links"]:
        if source not in by_id or target not in by_id:
            faults.append(f"link {link}: a node is missing")
        elif link not in (by_id[source]["outputs"][output].get("links") or []):
            faults.append(f"link {link}: node {source} does not list it")
        elif by_id[target]["inputs"][slot].get("link") != link:
            faults.append(f"link {link}: node {target} does not list it")
        elif by_id[source]["outputs"][output]["type"] != kind:
            faults.append(f"link {link}: is {kind}, its source {by_id[source]['outputs'][output]['type']}")
    return faults


def nano_graph(
    client: ComfyClient,
    portrait: str,
    folder: Path,
    seconds: float = 0.5,
    rate: int = 16000,
    channels: int = 1,
    prefix: str = "test",
    as_shipped: bool = False,
) -> Graph:
    """Return the shipped nano graph with an uploaded portrait, and speech that is made in `folder` and uploaded.

    It makes frames of 64 x 64 pixels in one step, in a tenth of the time, unless its settings are to be `as_shipped`;
    places of the face are not tried then.
    """
    name = f"speech_{seconds}_{rate}_{channels}.wav"
    speech = client.upload(write_wav(folder / name, speech_like(seconds, rate, channels), rate))
    graph: Graph = copy.deepcopy(json.loads(NANO_GRAPH.read_text(encoding="utf-8")))
    node(graph, "LoadImage")["image"] = portrait
    node(graph, "LoadAudio")["audio"] = speech
    node(graph, "AsymTalkerMux")["filename_prefix"] = prefix
    if not as_shipped:
        node(graph, "AsymTalkerReference").update(width=64, height=64, tries=1)
        node(graph, "AsymTalkerSampler")["steps"] = 1
    return graph
