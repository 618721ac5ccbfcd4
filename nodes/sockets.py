"""The pack's own socket types; their values are frozen dataclasses."""

from __future__ import annotations

from comfy_api.latest import io

CATEGORY = "AsymTalker"

ReferenceSocket = io.Custom("ASYMTALKER_REFERENCE")
"""Carries ``models.reference.Reference``."""

AudioSocket = io.Custom("ASYMTALKER_AUDIO")
"""Carries ``models.listening.SpeechFeatures``."""

ContinuitySocket = io.Custom("ASYMTALKER_CONTINUITY")
"""Carries ``models.rollout.ContinuityOptions``."""

CropSocket = io.Custom("ASYMTALKER_CROP")
"""Carries ``media.crop.Crop``."""
