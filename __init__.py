"""ComfyUI-AsymTalker: a portrait and speech in, a talking-head video out."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from comfy_api.latest import ComfyExtension

WEB_DIRECTORY = "./web"


async def comfy_entrypoint() -> ComfyExtension:
    """Called by ComfyUI once at start-up; nothing is imported before."""
    from .nodes import AsymTalkerExtension

    return AsymTalkerExtension()
