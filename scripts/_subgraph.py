"""A subgraph, which is one node in the outer graph, and the blueprint that ComfyUI lists with its nodes."""

from __future__ import annotations

from typing_extensions import override

from ._graph import (
    BOUNDARY_WIDTH,
    COLUMN_GAP,
    COLUMN_WIDTH,
    INPUT_NODE,
    OPTIONAL_SHAPE,
    OUTPUT_NODE,
    GraphBuilder,
    Json,
    Link,
    Node,
    named_id,
)


class Subgraph(GraphBuilder):
    """A subgraph: a part of a workflow that is one node in the outer graph.

    Args:
        object_info: the server's node infos.
        title: title of the outer node.
        description: its description; `words` are its search terms.
    """

    def __init__(self, object_info: Json, title: str, description: str, words: list[str]) -> None:
        super().__init__(object_info, title)
        # The front end needs ids that differ from those of the outer graph.
        self.first_id = 101
        self.id, self.title, self.description, self.words = named_id(title), title, description, words
        self.input_names: list[str] = []
        self._inputs: list[tuple[str, str, bool]] = []
        self.outputs: list[tuple[str, Link]] = []
        self.promoted: list[list[str]] = []

    def input(self, name: str, kind: str, *, optional: bool = False) -> Link:
        """Declare an input; the link from it, for nodes inside."""
        self.input_names.append(name)
        self._inputs.append((name, kind, optional))
        return Link(INPUT_NODE, len(self._inputs) - 1)

    def output(self, name: str, link: Link) -> None:
        """Declare an output, which a node inside gives."""
        self.outputs.append((name, link))

    def promote(self, node: Node, *widgets: str) -> None:
        """Show widgets of an inner node on the outer node."""
        self.promoted += [[str(node.id), widget] for widget in widgets]

    def info(self) -> Json:
        """The outer node's info, in the server's form."""
        inputs: Json = {"required": {}, "optional": {}}
        for name, kind, optional in self._inputs:
            inputs["optional" if optional else "required"][name] = [kind, {}]
        kinds = [self._kind(link) for _, link in self.outputs]
        return {"input": inputs, "output": kinds, "output_name": [name for name, _ in self.outputs]}

    def definition(self) -> Json:
        """The subgraph in the front end's form."""
        links, numbers = self._links()
        wires: list[Json] = [
            self._wire(numbers[node.id, name], link, node.id, self._slot(node, name)) for link, node, name in links
        ]
        outer = {index: len(links) + 1 + index for index in range(len(self.outputs))}
        nodes = self._ui_nodes(numbers)
        for index, (_, link) in enumerate(self.outputs):
            wires.append(self._wire(outer[index], link, OUTPUT_NODE, index))
            socket = nodes[link.node - self.first_id]["outputs"][link.index]
            socket["links"] = [*(socket["links"] or []), outer[index]]
        given = self._outgoing(INPUT_NODE, numbers)
        right = self.groups[-1].x + self.groups[-1].width + COLUMN_GAP
        return {
            "id": self.id,
            "version": 1,
            "state": {"lastGroupId": len(self.groups), "lastNodeId": nodes[-1]["id"], "lastLinkId": len(wires)}
            | {"lastRerouteId": 0},
            "revision": 0,
            "config": {},
            "name": self.title,
            "description": self.description,
            "category": "AsymTalker",
            "inputNode": self._boundary(INPUT_NODE, -BOUNDARY_WIDTH - COLUMN_GAP, len(self._inputs)),
            "outputNode": self._boundary(OUTPUT_NODE, right, len(self.outputs)),
            "inputs": [
                self._socket("input", index, name, kind, given.get(index, []))
                | ({"shape": OPTIONAL_SHAPE} if optional else {})
                for index, (name, kind, optional) in enumerate(self._inputs)
            ],
            "outputs": [
                self._socket("output", index, name, self._kind(link), [outer[index]])
                for index, (name, link) in enumerate(self.outputs)
            ],
            "widgets": [],
            "nodes": nodes,
            "groups": self._ui_groups(),
            "links": wires,
            "extra": {"BlueprintDescription": self.description, "BlueprintSearchAliases": self.words},
        }

    def blueprint(self) -> Json:
        """A workflow of this one node, which the front end lists with its nodes."""
        outside = GraphBuilder(self.object_info, f"{self._name} blueprint")
        outside.column(self.title, "", COLUMN_WIDTH)
        outside.add(self, 240)
        form = outside.ui_form()
        form["groups"] = []
        form["extra"] = {"BlueprintDescription": self.description, "BlueprintSearchAliases": self.words}
        return form

    def _wire(self, number: int, link: Link, target: int, slot: int) -> Json:
        ends = {"origin_id": link.node, "origin_slot": link.index, "target_id": target, "target_slot": slot}
        return {"id": number, **ends, "type": self._kind(link)}

    def _socket(self, side: str, index: int, name: str, kind: str, links: list[int]) -> Json:
        return {"id": named_id(f"{self.title}/{side}/{index}"), "name": name, "type": kind, "linkIds": links}

    @staticmethod
    def _boundary(number: int, x: int, sockets: int) -> Json:
        return {"id": number, "bounding": [x, 40, BOUNDARY_WIDTH, 40 + 20 * sockets]}

    @override
    def _kind(self, link: Link) -> str:
        return self._inputs[link.index][1] if link.node == INPUT_NODE else super()._kind(link)
