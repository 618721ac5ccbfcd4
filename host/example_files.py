"""The example pictures and speech in ComfyUI's input folder, so that the shipped graphs run without changes."""

from __future__ import annotations

import logging
import os
import shutil
from pathlib import Path

import folder_paths

from ..media.errors import MediaError
from ..media.workfolder import publish, working_folder
from .messages import counted, encodable
from .server import prompt_server

EXAMPLES = Path(__file__).resolve().parents[1] / "workflows" / "assets"


def provide() -> None:
    """Copy missing examples to the input folder if a server runs. Errors never prevent its start."""
    if prompt_server() is not None:
        copy_missing(EXAMPLES, Path(folder_paths.get_input_directory()))


def copy_missing(source: Path, target: Path) -> list[str]:
    """Copy the files of ``source`` whose names are free in ``target``; existing files are never replaced.

    Returns:
        The names copied. What cannot be copied (a folder that is read-only, a full disk) is logged in one line.
    """
    copied: list[str] = []
    try:
        for file in sorted(source.iterdir()):
            if not os.path.lexists(target / file.name):
                _copy(file, target / file.name)
                copied.append(file.name)
    except (MediaError, OSError) as error:
        logging.info("AsymTalker: the example files could not be copied from %s: %s", source, encodable(str(error)))
    if copied:
        logging.info("AsymTalker: %s copied to %s", counted(len(copied), "example file"), target)
    return copied


def _copy(file: Path, target: Path) -> None:
    """Copy under a temporary name first. A file that another program creates in the meantime is kept."""
    with working_folder(target) as work:
        whole = Path(shutil.copyfile(file, work / file.name))
        publish(whole, target, lambda: _taken(target))


def _taken(target: Path) -> Path:
    raise FileExistsError(f"{target} was created meanwhile")
