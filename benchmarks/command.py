"""What the commands share: their parser, a folder for their files, and how they report."""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


def command_parser(command: str, description: str | None) -> argparse.ArgumentParser:
    """The parser of ``python -m asymtalker.benchmarks COMMAND``; ``description`` keeps its lines."""
    return argparse.ArgumentParser(
        prog=f"python -m asymtalker.benchmarks{command}",
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


@contextmanager
def scratch_folder(prefix: str, workdir: Path | None) -> Iterator[Path]:
    """A new folder in ``workdir`` (by default the system's temporary one), removed afterwards."""
    if workdir is not None:
        workdir.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=prefix, dir=workdir))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def report(figures: dict[str, Any], file: Path | None, hidden: Collection[str] = ()) -> int:
    """Print the figures but those that are ``hidden``, write all to ``file``; the exit status."""
    if file is not None:
        file.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    print(json.dumps({name: value for name, value in figures.items() if name not in hidden}, indent=1))
    return 0 if figures["passed"] else 1
