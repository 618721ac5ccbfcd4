"""A cache of fingerprints of weight files, with the files' sizes and times.

Without it, most of the loading time would be spent on hashing gigabytes that have not changed.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

import folder_paths
from torch import Tensor

from ...models.files import write_text
from ..model import weights_fingerprint

VERSION = 1
"""Version of the hashed content: raise it when files are read into other tensors than before."""
MAX_KEPT = 200
MAX_BYTES = 1 << 20


def kept_fingerprint(files: Sequence[Path], tensors: Mapping[str, Tensor]) -> str:
    """``weights_fingerprint`` of ``tensors``, which were read from ``files``; from the cache, if possible.

    A file counts as unchanged if its path, size and modification times are the same.
    """
    key = _key(files)
    place = Path(folder_paths.get_user_directory()) / "asymtalker" / "fingerprints.json"
    kept = _read(place)
    if key in kept:
        return kept[key]
    found = weights_fingerprint(tensors)
    # The files may have been replaced while they were read.
    if key and key == _key(files):
        kept[key] = found
        _write(place, dict(list(kept.items())[-MAX_KEPT:]))
    return found


def _key(files: Sequence[Path]) -> str:
    """The key of these files in the cache; empty if they cannot be read."""
    digest = hashlib.sha256(str(VERSION).encode())
    try:
        for file in files:
            status = file.stat()
            state = (str(file.resolve()), status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)
            digest.update(repr(state).encode())
    except OSError:
        return ""
    return digest.hexdigest()


def _read(place: Path) -> dict[str, str]:
    try:
        with place.open("rb") as file:
            kept = json.loads(file.read(MAX_BYTES))
    except (OSError, ValueError, RecursionError):
        return {}
    is_whole = isinstance(kept, dict) and all(isinstance(value, str) and len(value) == 64 for value in kept.values())
    return kept if is_whole else {}


def _write(place: Path, kept: Mapping[str, str]) -> None:
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        write_text(place, json.dumps(kept, indent=1))
    except OSError as error:
        logging.debug("AsymTalker: fingerprints cannot be stored: %s", error)
