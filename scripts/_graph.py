"""Builds a workflow in both of its forms from a server's description of its nodes, laid out in columns of groups.

A part of it may be a subgraph: one node outside, which can be opened.
"""

from __future__ import annotations

import re
import uuid
from dataclasses import dataclass, field
from typing import Any, Protocol

COLUMN_WIDTH = 360
COLUMN_GAP = 90
GROUP_MARGIN = 20
GROUP_TITLE = 50
NODE_TITLE = 30
GAP = 40

WIDGET_TYPES = {"INT", "FLOAT", "STRING", "BOOLEAN", "COMBO"}
# What the front end adds behind a node's own widgets: upload buttons and players.
ADDED_WIDGETS: dict[str, list[Any]] = {
    "LoadImage": ["image"],
    "LoadAudio": [None, None],
    "LoadVideo": ["image"],
}
# The socket of an optional input.
OPTIONAL_SHAPE = 7
PACK = "comfyui-asymtalker"
# Where a graph opens: clear of the tool bars.
VIEW = {"scale": 0.6, "offset": [620, 230]}

INLINE_CODE = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")

# Ids of the nodes inside a subgraph that stand for its inputs and outputs.
INPUT_NODE, OUTPUT_NODE = -10, -20
BOUNDARY_WIDTH = 120

Json = dict[str, Any]


@dataclass(frozen=True)
class Link:
    """An output of a node."""

    node: int
    index: int


class Part(Protocol):
    """A subgraph (`_subgraph.Subgraph`), as the graph around it uses it."""

    id: str
    title: str
    input_names: list[str]
    outputs: list[tuple[str, Link]]
    promoted: list[list[str]]

    def info(self) -> Json:
        """What the server would say about the node outside."""
        ...

    def definition(self) -> Json:
        """What the front end opens."""
        ...

    def api_nodes(self, prefix: str, given: dict[int, list[Any] | None]) -> Json:
        """The nodes inside in API form."""
        ...

    def api_link(self, link: Link, prefix: str, given: dict[int, list[Any] | None]) -> list[Any] | None:
        """Where a link comes from."""
        ...


@dataclass
class Node:
    """One node of the graph under construction."""

    id: int
    class_type: str
    title: str
    pos: tuple[int, int]
    size: tuple[int, int]
    links: dict[str, Link]
    values: Json
    info: Json
    properties: Json = field(default_factory=dict)
    inside: Part | None = None

    def out(self, name: str) -> Link:
        """The output of that name."""
        return Link(self.id, self.info["output_name"].index(name))


@dataclass
class Group:
    """A titled frame around nodes that lie below one another."""

    title: str
    color: str
    x: int
    top: int
    width: int
    nodes: list[Node] = field(default_factory=list)

    @property
    def next_y(self) -> int:
        """Where the body of one more node begins."""
        if not self.nodes:
            return self.top + GROUP_TITLE + NODE_TITLE
        last = self.nodes[-1]
        return last.pos[1] + last.size[1] + GAP + NODE_TITLE

    @property
    def bottom(self) -> int:
        """Lower edge of the frame."""
        last = self.nodes[-1]
        return last.pos[1] + last.size[1] + GROUP_MARGIN

    def bounding(self) -> list[int]:
        """LiteGraph's form of the frame: left, top, width, height."""
        left = self.x - GROUP_MARGIN
        return [left, self.top, self.width + 2 * GROUP_MARGIN, self.bottom - self.top]


class GraphBuilder:
    """A workflow under construction.

    Args:
        object_info: the server's description of its nodes.
        name: of the workflow's file; its id is derived from it.
    """

    def __init__(self, object_info: Json, name: str) -> None:
        self.object_info = object_info
        self._name = name
        self._nodes: list[Node] = []
        self.groups: list[Group] = []
        self.extra: Json = {}
        self._note: Json | None = None
        self._x = 40
        self.first_id = 1

    def column(self, title: str, color: str, width: int = COLUMN_WIDTH) -> Group:
        """Begin a column right of the last one, with its first group."""
        if self.groups:
            self._x += self.groups[-1].width + COLUMN_GAP
        return self._group(title, color, 10, width)

    def below(self, title: str, color: str, top: int | None = None) -> Group:
        """Begin a group below the last one, in the same column; at `top` where it stands in a row with others."""
        last = self.groups[-1]
        return self._group(title, color, top or last.bottom + GAP, last.width)

    def _group(self, title: str, color: str, top: int, width: int) -> Group:
        self.groups.append(Group(title, color, self._x, top, width))
        return self.groups[-1]

    def add(self, class_type: str | Part, tall: int, /, *, title: str | None = None, **inputs: Any) -> Node:
        """Add a node, so many pixels tall, at the end of the last group.

        `inputs` are links, and the values that differ from the defaults.

        Raises:
            ValueError: the server's node has no such input.
        """
        inside = None
        if not isinstance(class_type, str):
            inside, title, class_type = class_type, title or class_type.title, class_type.id
        group, info = self.groups[-1], inside.info() if inside else self.object_info[class_type]
        unknown = inputs.keys() - self._declared(info).keys()
        if unknown:
            raise ValueError(f"{self._name}: {class_type} has no input {', '.join(sorted(unknown))}")
        links = {name: value for name, value in inputs.items() if isinstance(value, Link)}
        values = {name: value for name, value in inputs.items() if name not in links}
        pos, size = (group.x, group.next_y), (group.width, tall)
        node = Node(self.first_id + len(self._nodes), class_type, title or class_type, pos, size, links, values, info)
        node.inside = inside
        group.nodes.append(node)
        self._nodes.append(node)
        return node

    def nodes_of(self, class_type: str) -> list[Node]:
        """The nodes of a type, in order."""
        return [node for node in self._nodes if node.class_type == class_type]

    def app(self, inputs: list[tuple[Node, str]], outputs: list[Node]) -> None:
        """The inputs (widgets of nodes) and outputs (results of nodes) in ComfyUI's app mode."""
        asked = [[node.id, widget] for node, widget in inputs]
        self.extra["linearData"] = {"inputs": asked, "outputs": [node.id for node in outputs]}

    def note(self, text: str, height: int, width: int = 420) -> None:
        """Put a note left of everything.

        Names in backticks become italic: Nodes 2.0 draws inline code in blue on grey, which is unreadable on a note.
        """
        text = INLINE_CODE.sub(r"*\1*", text)
        self._note = {"text": text, "size": [width, height], "pos": [-width - 2 * GAP, 50]}

    def api_form(self) -> Json:
        """What is queued over HTTP."""
        return self.api_nodes("", {})

    def api_nodes(self, prefix: str, given: dict[int, list[Any] | None]) -> Json:
        """The nodes in API form; `given` are the sources of a subgraph's inputs by their index."""
        graph: Json = {}
        for node in self._nodes:
            links = {name: self.api_link(link, prefix, given) for name, link in self._ordered_links(node)}
            if node.inside is not None:
                outer = {index: links[name] for index, name in enumerate(node.inside.input_names) if name in links}
                graph |= node.inside.api_nodes(f"{prefix}{node.id}:", outer)
                continue
            inputs: Json = {}
            for name, (_, options, kind) in self._declared(node.info).items():
                if name not in node.links and _is_widget(kind, options):
                    inputs[name] = self._value(node, name, kind, options)
            # What is not connected outside a subgraph is not connected inside.
            inputs |= {name: link for name, link in links.items() if link is not None}
            meta = {"title": node.title}
            graph[f"{prefix}{node.id}"] = {"class_type": node.class_type, "inputs": inputs, "_meta": meta}
        return graph

    def api_link(self, link: Link, prefix: str, given: dict[int, list[Any] | None]) -> list[Any] | None:
        """Where a link comes from in API form; None: from an input of a subgraph that is not connected."""
        if link.node == INPUT_NODE:
            return given.get(link.index)
        source = self._node(link.node)
        if source.inside is None:
            return [f"{prefix}{link.node}", link.index]
        inner = source.inside.outputs[link.index][1]
        return source.inside.api_link(inner, f"{prefix}{source.id}:", {})

    def ui_form(self) -> Json:
        """What the front end loads."""
        links, numbers = self._links()
        nodes = self._ui_nodes(numbers)
        if self._note is not None:
            nodes.append(self._ui_note(len(nodes)))
        inside = {node.inside.id: node.inside for node in self._nodes if node.inside is not None}
        definitions = {"definitions": {"subgraphs": [one.definition() for one in inside.values()]}} if inside else {}
        return {
            "id": named_id(self._name),
            "revision": 0,
            "last_node_id": max(node["id"] for node in nodes),
            "last_link_id": len(links),
            "nodes": nodes,
            "links": [
                [numbers[node.id, name], link.node, link.index, node.id, self._slot(node, name), self._kind(link)]
                for link, node, name in links
            ],
            "groups": self._ui_groups(),
            **definitions,
            "config": {},
            "extra": {"ds": VIEW, **self.extra},
            "version": 0.4,
        }

    def _links(self) -> tuple[list[tuple[Link, Node, str]], dict[tuple[int, str], int]]:
        """Every link with the input that it goes to, and their numbers by (node id, input)."""
        links = [(link, node, name) for node in self._nodes for name, link in self._ordered_links(node)]
        return links, {(node.id, name): number for number, (_, node, name) in enumerate(links, 1)}

    def _ui_nodes(self, numbers: dict[tuple[int, str], int]) -> list[Json]:
        return [self._ui_node(node, order, numbers) for order, node in enumerate(self._nodes)]

    def _ui_groups(self) -> list[Json]:
        return [
            {
                "id": number,
                "title": group.title,
                "bounding": group.bounding(),
                "color": group.color,
                "font_size": 24,
                "flags": {},
            }
            for number, group in enumerate(self.groups, 1)
        ]

    def _ui_node(self, node: Node, order: int, numbers: dict[tuple[int, str], int]) -> Json:
        inputs, values = [], []
        for name, (section, options, kind) in self._declared(node.info).items():
            entry: Json = {"name": name, "type": kind, "link": numbers.get((node.id, name))}
            if _is_widget(kind, options):
                entry["widget"] = {"name": name}
                values.append(self._value(node, name, kind, options))
                if options.get("control_after_generate"):
                    values.append("fixed")
            if section == "optional":
                entry["shape"] = OPTIONAL_SHAPE
            inputs.append(entry)
        outgoing = self._outgoing(node.id, numbers)
        outputs = [
            {"name": name, "type": kind, "links": outgoing.get(index)}
            for index, (name, kind) in enumerate(zip(node.info["output_name"], node.info["output"], strict=True))
        ]
        own: Json = {"proxyWidgets": node.inside.promoted} if node.inside else {"Node name for S&R": node.class_type}
        is_core = not node.inside and not node.class_type.startswith("AsymTalker")
        described: Json = {
            "id": node.id,
            "type": node.class_type,
            "pos": list(node.pos),
            "size": list(node.size),
            "flags": {},
            "order": order,
            "mode": 0,
            "inputs": inputs,
            "outputs": outputs,
            "properties": {"cnr_id": "comfy-core" if is_core else PACK, **own, **node.properties},
            "widgets_values": values + ADDED_WIDGETS.get(node.class_type, []),
        }
        if node.title != node.class_type:
            described["title"] = node.title
        return described

    def _outgoing(self, source: int, numbers: dict[tuple[int, str], int]) -> dict[int, list[int]]:
        """Numbers of the links from each output of a node."""
        found: dict[int, list[int]] = {}
        for node in self._nodes:
            for name, link in self._ordered_links(node):
                if link.node == source:
                    found.setdefault(link.index, []).append(numbers[node.id, name])
        return found

    def _ui_note(self, order: int) -> Json:
        assert self._note is not None
        return {
            "id": order + 1,
            "type": "MarkdownNote",
            "pos": self._note["pos"],
            "size": self._note["size"],
            "flags": {},
            "order": order,
            "mode": 0,
            "inputs": [],
            "outputs": [],
            "title": "Read me",
            "properties": {},
            "widgets_values": [self._note["text"]],
            "color": "#432",
            "bgcolor": "#653",
        }

    def _node(self, number: int) -> Node:
        return self._nodes[number - self.first_id]

    def _ordered_links(self, node: Node) -> list[tuple[str, Link]]:
        return [(name, node.links[name]) for name in self._declared(node.info) if name in node.links]

    def _slot(self, node: Node, name: str) -> int:
        return list(self._declared(node.info)).index(name)

    def _kind(self, link: Link) -> str:
        return self._node(link.node).info["output"][link.index]

    @staticmethod
    def _declared(info: Json) -> dict[str, tuple[str, Json, str]]:
        """``declared_inputs`` in the front end's order: sockets first."""
        return dict(sorted(declared_inputs(info).items(), key=lambda entry: _is_widget(entry[1][2], entry[1][1])))

    def _value(self, node: Node, name: str, kind: str, options: Json) -> Any:
        value = node.values.get(name, options.get("default"))
        if value is None and kind == "COMBO":
            value = options["options"][0]
        return value


def named_id(name: str) -> str:
    """The id of a workflow, a subgraph or a socket of that name: the same whenever it is written."""
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"comfyui-asymtalker/{name}"))


def declared_inputs(info: Json) -> dict[str, tuple[str, Json, str]]:
    """{input: (section, options, type)} of a node in order; the choices of a COMBO are in its options."""
    found = {}
    for section in ("required", "optional"):
        for name, declaration in info["input"].get(section, {}).items():
            kind, options = declaration[0], declaration[1] if len(declaration) > 1 else {}
            # The older form has the choices in place of the type.
            is_list = isinstance(kind, list)
            options = {"options": kind, **options} if is_list else options
            found[name] = (section, options, "COMBO" if is_list else kind)
    return found


def _is_widget(kind: str, options: Json) -> bool:
    return kind in WIDGET_TYPES and not options.get("forceInput")
