"""Functions and types that tests of several folders share; fixtures are in the conftest files."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

from asymtalker.scripts._environment import ROOT

PACK = "asymtalker"
NUM_FRAMES = 70
"""Of the video that the fixture `scene` makes."""

Import = Callable[[str], ModuleType]

__all__ = ["NUM_FRAMES", "PACK", "ROOT", "Import", "generate", "module_from_file"]


def module_from_file(name: str, file: Path, **options: Any) -> ModuleType:
    """Import ``file`` as the module ``name``."""
    spec = importlib.util.spec_from_file_location(name, file, **options)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def generate(pack: Import, scene: SimpleNamespace, **changes: Any) -> tuple[Any, dict[str, Any]]:
    settings = dataclasses.replace(scene.settings, **changes)
    video, report = pack("jobs.sampling").generate(
        scene.model, scene.vae, scene.reference, scene.features, settings, None
    )
    return video, json.loads(report)
