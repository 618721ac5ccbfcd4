"""Weight files in folders of any form: sharded, in a Hugging Face cache, or beside unreadable folders."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterable
from pathlib import Path

from ...models.checkpoint import numbered_parts
from ...models.files import is_file, is_folder
from ..messages import encodable

SUFFIXES = (".safetensors", ".sft", ".bin", ".pth", ".pt", ".ckpt")
"""Of files with the same name, the first of these is taken."""

_CACHE = "models--"
_REVISION = re.compile(r"[0-9A-Za-z_.-]{1,64}")


def entries(folder: Path) -> list[Path]:
    """What lies in ``folder``, sorted: nothing where it cannot be entered, no hidden names, none beyond UTF-8."""
    try:
        with os.scandir(folder) as found:
            names = sorted(entry.name for entry in found)
    except OSError as error:
        logging.debug("AsymTalker: %s is left out: %s", encodable(str(folder)), error)
        return []
    return [folder / name for name in names if not name.startswith(".") and encodable(name) == name]


def subfolders(folder: Path) -> list[Path]:
    """The folders in ``folder``, and links to folders."""
    return [entry for entry in entries(folder) if is_folder(entry)]


def weight_files(folder: Path) -> list[Path]:
    """One path for each set of weights in ``folder``: a file, or the first part of a set of numbered ones.

    Unfinished downloads are no weights. Of files that differ in their suffix alone, the preferred one is given.
    """
    files = [entry for entry in entries(folder) if is_file(entry)]
    names = {file.name for file in files}
    found: dict[str, Path] = {}
    for suffix in SUFFIXES:
        for file in files:
            if file.suffix.lower() == suffix and f"{file.name}.aria2" not in names:
                first = first_part(file)
                found.setdefault(first.stem, first)
    return sorted(found.values())


def first_part(file: Path) -> Path:
    """The first of the numbered files that ``file`` is one of (``-00002-of-00003``), else ``file``."""
    return file.with_name(numbered_parts(file.name)[1][0])


def parts(file: Path) -> tuple[Path, ...]:
    """``file``, or all of the numbered files that it is one of."""
    return tuple(file.with_name(name) for name in numbered_parts(file.name)[1])


def usual_stem(file: Path) -> str:
    """The file's name without its suffix and without its number in a set."""
    return numbered_parts(file.name)[0]


def without_further_parts(names: Iterable[str]) -> list[str]:
    """``names`` with one name left of each set of numbered files."""
    kept: dict[str, str] = {}
    for name in names:
        kept.setdefault(str(first_part(Path(name))), name)
    return list(kept.values())


def check_whole(file: Path, input_name: str) -> None:
    """Refuse a set of numbered files with some missing. Raises FileNotFoundError that names them."""
    parts = numbered_parts(file.name)[1]
    missing = [part for part in parts if not is_file(file.with_name(part))]
    if len(parts) > 1 and missing:
        more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
        raise FileNotFoundError(
            f"{input_name}: the checkpoint consists of {len(parts)} files, of which {', '.join(missing[:3])}{more} "
            f"{'is' if len(missing) == 1 else 'are'} missing from {file.parent}: download them too"
        )


def repository_name(folder: Path) -> str:
    """The name of a folder; of a repository in Hugging Face's cache layout (``models--org--name``), ``name``."""
    return folder.name.rsplit("--", 1)[-1] if folder.name.startswith(_CACHE) else folder.name


def content(folder: Path) -> Path:
    """The folder with a repository's files: ``folder``, or in Hugging Face's cache layout its current snapshot."""
    if not folder.name.startswith(_CACHE):
        return folder
    snapshots = subfolders(folder / "snapshots")
    try:
        with (folder / "refs" / "main").open(encoding="utf-8") as file:
            current = file.read(65).strip()
    except (OSError, UnicodeDecodeError):
        current = ""
    if _REVISION.fullmatch(current) and folder / "snapshots" / current in snapshots:
        return folder / "snapshots" / current
    return max(snapshots, key=_modified, default=folder)


def _modified(folder: Path) -> float:
    try:
        return folder.stat().st_mtime
    except OSError:
        return 0.0
