"""The pack's own socket types, whose values are frozen dataclasses, and the parts that several schemas share."""

from __future__ import annotations

import dataclasses
from typing import Any

from comfy_api.latest import io

CATEGORY = "AsymTalker"


def search_words(*words: str) -> dict[str, Any]:
    """The Schema's argument for words that a node is found by, empty where ComfyUI does not have it yet."""
    known = {field.name for field in dataclasses.fields(io.Schema)}
    return {"search_aliases": list(words)} if "search_aliases" in known else {}


def margin_input(tooltip: str) -> io.Float.Input:
    """The space around a face."""
    return io.Float.Input("margin", default=0.5, min=0.0, max=3.0, step=0.05, tooltip=tooltip)


def face_index_input(tooltip: str) -> io.Int.Input:
    """The choice among several faces."""
    return io.Int.Input("face_index", default=0, min=0, max=99, tooltip=tooltip)


def with_experts(schema: io.Schema, *names: str) -> io.Schema:
    """The schema with these inputs shown on request only, where ComfyUI can: their defaults are right for most."""
    for slot in schema.inputs:
        if slot.id in names and hasattr(slot, "advanced"):
            setattr(slot, "advanced", True)  # noqa: B010 -- unknown to the lowest supported ComfyUI
    return schema


ReferenceSocket = io.Custom("ASYMTALKER_REFERENCE")
"""Carries ``models.reference.Reference``."""

AudioSocket = io.Custom("ASYMTALKER_AUDIO")
"""Carries ``models.streaming.SpeechFeatures``."""

ContinuitySocket = io.Custom("ASYMTALKER_CONTINUITY")
"""Carries ``models.chunks.ContinuityOptions``."""

CropSocket = io.Custom("ASYMTALKER_CROP")
"""Carries ``media.crop.Crop``."""
