#!/usr/bin/env python3
"""Run all checks: lint, format, types, tests. Arguments go to pytest.

--quick leaves out types, servers, browsers, trainings, and whatever else takes long.

Needs Python 3.10+ and access to PyPI; everything else it installs into `.venv/` and `.comfyui/` beside this folder.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import IO

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


def start_types(environment: dict[str, str], report: IO[str]) -> subprocess.Popen[bytes]:
    """Start the type checker, which writes what it finds into ``report``."""
    # Pyright finds ComfyUI's modules over PYTHONPATH, the others through the interpreter.
    paths = {"PYTHONPATH": os.pathsep.join([environment["PYTHONPATH"], environment["COMFYUI_PATH"]])}
    command = [sys.executable, "-m", "basedpyright", "--level", "error", "--pythonpath", sys.executable]
    return subprocess.Popen(command, cwd=ROOT, env={**environment, **paths}, stdout=report, stderr=subprocess.STDOUT)


def main() -> int:
    """Run the checks and return the exit status: 0 if all passed."""
    try:
        comfyui = bootstrap(ALL_TEST_REQUIREMENTS)
    except EnvironmentFault as error:
        say(f"Error: {error}")
        return 1
    is_quick = "--quick" in sys.argv
    apt_install(DRAWING_PACKAGES + ([] if is_quick else BROWSER_PACKAGES))
    cores = os.cpu_count() or 1
    processes = min(cores, MAX_PROCESSES)
    checks = {
        "ruff check": ["ruff", "check", "."],
        "ruff format": ["ruff", "format", "--check", "."],
        "pytest": ["pytest", "-q", "-rs", "--durations=15", *pytest_arguments(sys.argv[1:], processes)],
    }
    # The pack is installed in `.venv` alone, and Pyright does not follow editable installations.
    package = str(package_path())
    # Thread pools of several processes that spin on the same cores slow each other down.
    threads = str(max(1, cores // processes))
    environment = {
        "OMP_NUM_THREADS": threads,
        **os.environ,
        "COMFYUI_PATH": str(comfyui),
        "PYTHONPATH": package,
    }
    failed = []
    with tempfile.TemporaryFile("w+", encoding="utf-8") as report:
        # Beside the tests: it takes most of a minute and one core, and they leave a core free now and then.
        types = None if is_quick else start_types(environment, report)
        for name, command in checks.items():
            # pytest goes last, so that its closing line is the last one where all is well.
            say(f"== {name}")
            done = subprocess.run([sys.executable, "-m", *command], cwd=ROOT, env=environment)
            if done.returncode != 0:
                failed.append(name)
        if types is not None and types.wait() != 0:
            report.seek(0)
            say(f"== types\n{report.read()}")
            failed.append("types")
    if failed:
        say(f"Failed: {', '.join(failed)}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
