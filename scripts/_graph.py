"""Builds a workflow in both of its forms from what a server says about its nodes, laid out in columns of groups."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field
from typing import Any

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
# Where a graph opens: clear of the tool bars.
VIEW = {"scale": 0.6, "offset": [620, 230]}

Json = dict[str, Any]


@dataclass(frozen=True)
class Link:
    """An output of a node."""

    node: int
    index: int


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
        object_info: what the server says about its nodes.
        name: of the workflow's file; its id is derived from it.
    """

    def __init__(self, object_info: Json, name: str) -> None:
        self._object_info = object_info
        self._name = name
        self._nodes: list[Node] = []
        self.groups: list[Group] = []
        self._note: Json | None = None
        self._x = 40

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

    def add(self, class_type: str, tall: int, /, *, title: str | None = None, **inputs: Any) -> Node:
        """Add a node, so many pixels tall, at the end of the last group.

        `inputs` are links, and the values that differ from the defaults.

        Raises:
            ValueError: the server's node has no such input.
        """
        group, info = self.groups[-1], self._object_info[class_type]
        unknown = inputs.keys() - declared_inputs(info).keys()
        if unknown:
            raise ValueError(f"{self._name}: {class_type} has no input {', '.join(sorted(unknown))}")
        links = {name: value for name, value in inputs.items() if isinstance(value, Link)}
        values = {name: value for name, value in inputs.items() if name not in links}
        pos, size = (group.x, group.next_y), (group.width, tall)
        node = Node(len(self._nodes) + 1, class_type, title or class_type, pos, size, links, values, info)
        group.nodes.append(node)
        self._nodes.append(node)
        return node

    def nodes_of(self, class_type: str) -> list[Node]:
        """The nodes of a type, in order."""
        return [node for node in self._nodes if node.class_type == class_type]

    def note(self, text: str, height: int, width: int = 420) -> None:
        """Put a note left of everything."""
        self._note = {"text": text, "size": [width, height], "pos": [-width - 2 * GAP, 50]}

    def api_form(self) -> Json:
        """What is queued over HTTP."""
        graph: Json = {}
        for node in self._nodes:
            inputs: Json = {}
            for name, (_, options, kind) in declared_inputs(node.info).items():
                if name in node.links:
                    continue
                if _is_widget(kind, options):
                    inputs[name] = self._value(node, name, kind, options)
            inputs |= {name: [str(link.node), link.index] for name, link in self._ordered_links(node)}
            graph[str(node.id)] = {"class_type": node.class_type, "inputs": inputs, "_meta": {"title": node.title}}
        return graph

    def ui_form(self) -> Json:
        """What the front end loads."""
        links = [(link, node, name) for node in self._nodes for name, link in self._ordered_links(node)]
        numbers = {(node.id, name): number for number, (_, node, name) in enumerate(links, 1)}
        nodes = [self._ui_node(node, order, numbers) for order, node in enumerate(self._nodes)]
        if self._note is not None:
            nodes.append(self._ui_note(len(nodes)))
        return {
            "id": str(uuid.uuid5(uuid.NAMESPACE_URL, f"comfyui-asymtalker/{self._name}")),
            "revision": 0,
            "last_node_id": len(nodes),
            "last_link_id": len(links),
            "nodes": nodes,
            "links": [
                [numbers[node.id, name], link.node, link.index, node.id, self._slot(node, name), self._kind(link)]
                for link, node, name in links
            ],
            "groups": [
                {
                    "id": number,
                    "title": group.title,
                    "bounding": group.bounding(),
                    "color": group.color,
                    "font_size": 24,
                    "flags": {},
                }
                for number, group in enumerate(self.groups, 1)
            ],
            "config": {},
            "extra": {"ds": VIEW},
            "version": 0.4,
        }

    def _ui_node(self, node: Node, order: int, numbers: dict[tuple[int, str], int]) -> Json:
        inputs, values = [], []
        for name, (section, options, kind) in declared_inputs(node.info).items():
            entry: Json = {"name": name, "type": kind, "link": numbers.get((node.id, name))}
            if _is_widget(kind, options):
                entry["widget"] = {"name": name}
                values.append(self._value(node, name, kind, options))
                if options.get("control_after_generate"):
                    values.append("fixed")
            if section == "optional":
                entry["shape"] = OPTIONAL_SHAPE
            inputs.append(entry)
        outgoing: dict[int, list[int]] = {}
        for other in self._nodes:
            for name, link in self._ordered_links(other):
                if link.node == node.id:
                    outgoing.setdefault(link.index, []).append(numbers[other.id, name])
        outputs = [
            {"name": name, "type": kind, "links": outgoing.get(index)}
            for index, (name, kind) in enumerate(zip(node.info["output_name"], node.info["output"], strict=True))
        ]
        pack = "comfyui-asymtalker" if node.class_type.startswith("AsymTalker") else "comfy-core"
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
            "properties": {"cnr_id": pack, "Node name for S&R": node.class_type},
            "widgets_values": values + ADDED_WIDGETS.get(node.class_type, []),
        }
        if node.title != node.class_type:
            described["title"] = node.title
        return described

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

    def _ordered_links(self, node: Node) -> list[tuple[str, Link]]:
        return [(name, node.links[name]) for name in declared_inputs(node.info) if name in node.links]

    def _slot(self, node: Node, name: str) -> int:
        return list(declared_inputs(node.info)).index(name)

    def _kind(self, link: Link) -> str:
        return self._nodes[link.node - 1].info["output"][link.index]

    def _value(self, node: Node, name: str, kind: str, options: Json) -> Any:
        value = node.values.get(name, options.get("default"))
        if value is None and kind == "COMBO":
            value = options["options"][0]
        return value


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
