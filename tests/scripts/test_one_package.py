"""Everything is imported by one name, so that no module of the pack exists twice in a process."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

from asymtalker.tests.helpers import ROOT

PROGRAM = """
import collections, importlib, pathlib, pkgutil, sys
import asymtalker
from asymtalker.training.core.host import use_comfyui

root = pathlib.Path(asymtalker.__path__[0])
use_comfyui()
for room in sorted(path.parent.name for path in root.glob("*/__init__.py")):
    package = importlib.import_module(f"asymtalker.{room}")
    for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
        commands = [f"asymtalker.scripts.{name}" for name in ("batch", "talk", "test")]
        if not module.name.endswith("__main__") and module.name not in commands:
            importlib.import_module(module.name)
assert "ray" not in sys.modules, "Ray is imported where it is used"
files = collections.Counter(
    module.__file__ for module in list(sys.modules.values())
    if getattr(module, "__file__", None) and pathlib.Path(module.__file__).is_relative_to(root)
    and ".venv" not in module.__file__ and ".comfyui" not in module.__file__
)
print(len(files), [file for file, count in files.items() if count > 1])
"""


def test_no_module_of_the_pack_exists_twice(comfyui: Path) -> None:
    environment = {**os.environ, "COMFYUI_PATH": str(comfyui)}
    command = [sys.executable, "-c", PROGRAM]
    done = subprocess.run(command, cwd=ROOT.parent, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    count, twice = done.stdout.splitlines()[-1].split(" ", 1)
    assert int(count) > 150 and twice == "[]"


def test_modules_are_imported_by_their_full_names() -> None:
    """An import such as `models.config` would load the module a second time."""
    rooms = {path.parent.name for path in ROOT.glob("*/__init__.py")}
    found = []
    for file in ROOT.glob("*/**/*.py"):
        if any(part.startswith(".") for part in file.relative_to(ROOT).parts) or file.parent.name == "scripts":
            continue
        for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), start=1):
            words = line.split()
            # ComfyUI has a module `nodes` too.
            if len(words) > 1 and words[0] in ("from", "import") and words[1].split(".")[0] in rooms - {"nodes"}:
                found.append(f"{file.relative_to(ROOT)}:{number}: {line.strip()}")
    assert found == []


MAY_IMPORT = {
    "models": set(),
    "media": {"models"},
    "host": {"models", "media"},
    "video": {"host", "models", "media"},
    "live": {"host", "models", "media"},
    "faces": {"video", "host", "models", "media"},
    "jobs": {"live", "faces", "video", "host", "models", "media"},
    "nodes": {"jobs", "live", "faces", "video", "host", "models", "media"},
    "batch": {"scripts", "host.server", "models.files"},
    "training": {"models", "media", "host", "faces", "scripts"},
}
"""Rooms and modules that a room may import; CONTRIBUTING.md describes the rooms.

The command of `batch` runs without PyTorch, so it may import two modules alone of the rooms that ComfyUI imports.
"""


def test_rooms_import_in_one_direction() -> None:
    wrong = []
    for room, allowed in MAY_IMPORT.items():
        for file in (ROOT / room).rglob("*.py"):
            package = list(file.relative_to(ROOT).parent.parts)
            for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
                if isinstance(node, ast.ImportFrom) and node.level:
                    target = package[: len(package) - node.level + 1] + (node.module or "").split(".")
                    if target[0] != room and allowed.isdisjoint((target[0], ".".join(target[:2]))):
                        wrong.append(f"{file.relative_to(ROOT)}: {'.'.join(target)}")
    assert wrong == []
