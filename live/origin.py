"""The nodes that generate and save a watchable job."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from comfy_execution.utils import get_executing_context

SAVERS = ("AsymTalkerMux", "SaveVideo")


@dataclass(frozen=True)
class Origin:
    """Ids of the node, the prompt, the workflow, and the nodes that save the video, if known.

    ``own_savers``: those of the savers that save the video as it is, not as a part of another one.
    """

    node_id: str | None = None
    prompt_id: str | None = None
    workflow_id: str | None = None
    savers: tuple[str, ...] = ()
    own_savers: tuple[str, ...] = ()

    @classmethod
    def of_this_run(cls, hidden: Any) -> Origin:
        """Of the prompt that is being executed. ``hidden``: the node's hidden inputs."""
        context = get_executing_context()
        prompt_id = None if context is None else context.prompt_id
        savers = tuple(savers_of(hidden.prompt, hidden.unique_id))
        own = tuple(key for key in savers if hidden.prompt[key]["inputs"].get("video") == [hidden.unique_id, 0])
        return cls(hidden.unique_id, prompt_id, workflow_id(hidden.extra_pnginfo), savers, own)


def workflow_id(extra_pnginfo: Any) -> str | None:
    """Id of the workflow that a node is executed for; None if the prompt has no valid one."""
    workflow = extra_pnginfo.get("workflow") if isinstance(extra_pnginfo, Mapping) else None
    found = workflow.get("id") if isinstance(workflow, Mapping) else None
    return found if isinstance(found, str) else None


def savers_of(prompt: Any, node_id: str | None) -> Iterator[str]:
    """Ids of the nodes in ``prompt`` (API form) that save the node's video, however many nodes lie between."""
    if not isinstance(prompt, Mapping):
        return
    for key, node in prompt.items():
        if isinstance(node, Mapping) and node.get("class_type") in SAVERS and node_id in _sources(prompt, key):
            yield key


def _sources(prompt: Mapping[str, Any], key: str) -> set[str]:
    """Ids of all nodes on which a node depends, over any number of links."""
    found: set[str] = set()
    waiting = [key]
    while waiting:
        node = prompt.get(waiting.pop())
        inputs = node.get("inputs") if isinstance(node, Mapping) else None
        for value in inputs.values() if isinstance(inputs, Mapping) else ():
            if isinstance(value, list) and len(value) == 2 and isinstance(value[0], str) and value[0] not in found:
                found.add(value[0])
                waiting.append(value[0])
    return found
