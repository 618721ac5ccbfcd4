"""The settings of core's Save Video, checked before the video is generated."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from .writing import Encoding, Look, check_encoding

SAVER = "SaveVideo"


def check_savers(prompt: Any, node_id: str | None, look: Look) -> None:
    """Refuse a graph whose Save Video could not write the video that a node is about to make.

    Args:
        prompt: the graph in API form, as ComfyUI hands it to a node.
        node_id: the node, whose first output is the video.

    Raises:
        ValueError: names the saver, the widget and the remedy.
    """
    if not isinstance(prompt, Mapping):
        return
    for saver, inputs in _savers(prompt):
        if _leads_to(prompt, inputs.get("video"), node_id):
            try:
                check_encoding(_encoding(inputs), look)
            except ValueError as error:
                raise ValueError(f"Save Video (node {saver}): {error}") from error


def _savers(prompt: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for key, node in prompt.items():
        if isinstance(node, Mapping) and node.get("class_type") == SAVER and isinstance(node.get("inputs"), Mapping):
            yield key, node["inputs"]


def _leads_to(prompt: Mapping[str, Any], link: Any, node_id: str | None) -> bool:
    """Whether a link comes from the node, also through nodes that take a `video` and give one."""
    seen: set[str] = set()
    while isinstance(link, list) and len(link) == 2 and link[0] not in seen:
        source, output = link
        if source == node_id:
            return output == 0
        seen.add(source)
        link = prompt.get(source, {}).get("inputs", {}).get("video")
    return False


def _encoding(inputs: Mapping[str, Any]) -> Encoding:
    """The saver's widgets; those of newer hosts lie below the choice that shows them."""

    def widget(*names: str) -> Any:
        return next((inputs[name] for name in names if isinstance(inputs.get(name), (str, int, float))), None)

    encoding = "format.codec.encoding", "codec.encoding"
    return Encoding(
        container=str(widget("format") or "auto"),
        codec=str(widget("format.codec", "codec") or "auto"),
        crf=widget(*(f"{name}.crf" for name in encoding)),
        color_space=widget(*(f"{name}.color_space" for name in encoding)),
    )
