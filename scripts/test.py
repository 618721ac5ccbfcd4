#!/usr/bin/env python3
"""Run all checks: lint, format, types, tests. Arguments go to pytest; --quick leaves out servers, browsers, trainings.

Needs Python 3.10+ and access to PyPI; everything else it installs into `.venv/` and `.comfyui/` beside this folder.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

# In place of this folder, whose test.py would hide the standard library's.
sys.path[0] = str(Path(__file__).resolve().parent.parent)

from scripts._environment import ROOT, EnvironmentFault, apt_install, bootstrap, package_path, say

# What some tests need; they skip with a reason where it is missing.
DRAWING_PACKAGES = ["libegl1", "libgl1"]
BROWSER_PACKAGES = ["chromium"]


def pytest_arguments(arguments: list[str]) -> list[str]:
    """Return pytest's arguments for those of this command."""
    if "--quick" not in arguments:
        return arguments
    return ["-m", "not server and not browser and not slow", *(text for text in arguments if text != "--quick")]


def main() -> int:
    """Run the checks and return the exit status: 0 if all passed."""
    try:
        comfyui = bootstrap(with_tests=True)
    except EnvironmentFault as error:
        say(f"Error: {error}")
        return 1
    apt_install(DRAWING_PACKAGES + ([] if "--quick" in sys.argv else BROWSER_PACKAGES))
    # Pyright finds ComfyUI's modules over PYTHONPATH, the others through the interpreter.
    types = ["basedpyright", "--level", "error", "--pythonpath", sys.executable]
    checks = {
        "ruff check": ["ruff", "check", "."],
        "ruff format": ["ruff", "format", "--check", "."],
        "types": types,
        "pytest": ["pytest", "-q", "-rs", "--durations=15", *pytest_arguments(sys.argv[1:])],
    }
    # The pack is installed in `.venv` alone, and Pyright does not follow editable installations.
    paths = [str(package_path())]
    environment = {**os.environ, "COMFYUI_PATH": str(comfyui), "PYTHONPATH": os.pathsep.join(paths)}
    failed = []
    for name, command in checks.items():
        # pytest goes last, so that its closing line is the last one where all is well.
        say(f"== {name}")
        extra = {"PYTHONPATH": os.pathsep.join([*paths, str(comfyui)])} if command is types else {}
        done = subprocess.run([sys.executable, "-m", *command], cwd=ROOT, env={**environment, **extra})
        if done.returncode != 0:
            failed.append(name)
    if failed:
        say(f"Failed: {', '.join(failed)}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
