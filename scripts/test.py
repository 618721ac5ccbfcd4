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

from scripts._environment import (
    ALL_TEST_REQUIREMENTS,
    ROOT,
    EnvironmentFault,
    apt_install,
    bootstrap,
    package_path,
    say,
)

# What some tests need; they skip with a reason where it is missing.
DRAWING_PACKAGES = ["libegl1", "libgl1"]
BROWSER_PACKAGES = ["chromium"]


# Each process that runs tests of a server starts one; more processes gain little.
MAX_PROCESSES = 4


def pytest_arguments(arguments: list[str], processes: int) -> list[str]:
    """Return pytest's arguments for those of this command; whole runs are spread over ``processes``."""
    others = [text for text in arguments if text != "--quick"]
    # In the order of their names: by default the files with few tests come last, and they are the long ones.
    spread = [] if others else ["--numprocesses", str(processes), "--dist", "loadfile", "--no-loadscope-reorder"]
    quick = ["-m", "not server and not browser and not slow"] if "--quick" in arguments else []
    return [*spread, *quick, *others]


def main() -> int:
    """Run the checks and return the exit status: 0 if all passed."""
    try:
        comfyui = bootstrap(ALL_TEST_REQUIREMENTS)
    except EnvironmentFault as error:
        say(f"Error: {error}")
        return 1
    apt_install(DRAWING_PACKAGES + ([] if "--quick" in sys.argv else BROWSER_PACKAGES))
    cores = os.cpu_count() or 1
    processes = min(cores, MAX_PROCESSES)
    # Pyright finds ComfyUI's modules over PYTHONPATH, the others through the interpreter.
    types = ["basedpyright", "--level", "error", "--pythonpath", sys.executable]
    checks = {
        "ruff check": ["ruff", "check", "."],
        "ruff format": ["ruff", "format", "--check", "."],
        "types": types,
        "pytest": ["pytest", "-q", "-rs", "--durations=15", *pytest_arguments(sys.argv[1:], processes)],
    }
    # The pack is installed in `.venv` alone, and Pyright does not follow editable installations.
    paths = [str(package_path())]
    # Thread pools of several processes that spin on the same cores slow each other down.
    threads = str(max(1, cores // processes))
    environment = {
        "OMP_NUM_THREADS": threads,
        **os.environ,
        "COMFYUI_PATH": str(comfyui),
        "PYTHONPATH": os.pathsep.join(paths),
    }
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
