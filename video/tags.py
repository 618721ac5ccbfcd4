"""The tags of a saved file: the workflow, and that the video is generated."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from ..host.messages import encodable
from ..media.disk import format_bytes

GENERATED_MARK = {
    "comment": "AI-generated video: made with ComfyUI-AsymTalker from a portrait and speech.",
    "software": "ComfyUI-AsymTalker",
    # The IPTC's term for media made by a trained model.
    "digital_source_type": "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia",
}
"""Tags that mark the file as generated."""

MAX_TAG_BYTES = 64_000_000
"""Of all tags together: players read them before the first frame."""


def file_tags(metadata: Mapping[Any, Any] | None, mark_generated: bool) -> tuple[dict[str, str], list[str]]:
    """What a file can hold of ``metadata``, with the mark if wanted.

    Values that are not text are written as JSON, as ComfyUI's own savers do. Entries that cannot be
    written are left out, because a tag must not cost the video.

    Returns:
        The tags, and a note for each entry that is not in them as it was.
    """
    tags = dict(GENERATED_MARK) if mark_generated else {}
    # ffmpeg ignores the case of tag names: `Comment` would replace `comment`.
    reserved = {key.casefold() for key in tags}
    notes: list[str] = []
    room = MAX_TAG_BYTES
    for name, value in (metadata or {}).items():
        key, text = _clean(str(name)), _text(value)
        if key.casefold() in reserved:
            continue
        if text is None:
            notes.append(f"`{key[:40]}` of the workflow's metadata cannot be written as JSON and is not in the file.")
            continue
        size = len(key.encode()) + len(text.encode())
        if size > room:
            notes.append(f"`{key[:40]}` of the workflow's metadata ({format_bytes(size)}) is too long for the file.")
            continue
        room -= size
        tags[key] = text
    return tags, notes


def _text(value: Any) -> str | None:
    """A tag's text; None for what JSON cannot hold."""
    if isinstance(value, str):
        return _clean(value)
    try:
        return json.dumps(value)
    except (TypeError, ValueError, RecursionError):
        return None


def _clean(text: str) -> str:
    """Text that UTF-8 and C strings hold."""
    return encodable(text.replace("\0", ""))
