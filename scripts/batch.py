#!/usr/bin/env python3
"""Render a table of clips (see docs/batch.md): installs what it needs, then runs `python -m asymtalker.batch`.

Needs Python 3.10+ and access to PyPI. Everything else is installed to `.venv/` and `.comfyui/` beside this folder.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

# In place of this folder, whose test.py would hide the standard library's.
sys.path[0] = str(Path(__file__).resolve().parent.parent)

from scripts._environment import BATCH_REQUIREMENTS, EnvironmentFault, become, bootstrap, package_path, say


def main() -> int:
    """Prepare the environment, then run the batch command."""
    try:
        comfyui = bootstrap([BATCH_REQUIREMENTS])
    except EnvironmentFault as error:
        say(f"Error: {error}")
        return 2
    paths = [str(package_path()), *filter(None, [os.environ.get("PYTHONPATH")])]
    # Ray's processes inherit both.
    os.environ |= {"COMFYUI_PATH": str(comfyui), "PYTHONPATH": os.pathsep.join(paths)}
    sys.argv[:1] = ["-m", "asymtalker.batch"]
    become(Path(sys.executable))
    return 0


if __name__ == "__main__":
    sys.exit(main())
