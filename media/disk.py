"""Free disk space, and the translation of operating-system errors into messages with a remedy."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

from ..models.files import is_folder
from .errors import MediaError

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT} if hasattr(errno, "EDQUOT") else {errno.ENOSPC})
_READ_ONLY = frozenset({errno.EROFS, errno.EACCES, errno.EPERM})
_NOT_A_FOLDER = frozenset({errno.ENOTDIR, errno.EEXIST})


def format_bytes(num_bytes: float) -> str:
    """`num_bytes` in the unit a person would choose: "1.5 GB", "12.0 MB"."""
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if abs(num_bytes) >= scale:
            return f"{num_bytes / scale:.1f} {unit}"
    return f"{num_bytes:.0f} bytes"


def existing_parent(path: Path) -> Path:
    """The nearest folder at or above `path` that exists."""
    candidate = path.absolute()
    while not is_folder(candidate) and candidate != candidate.parent:
        candidate = candidate.parent
    return candidate


def free_bytes(path: Path) -> int:
    """Bytes a user may still write on the disk that holds, or will hold, `path`."""
    return shutil.disk_usage(existing_parent(path)).free


def check_disk(path: str | os.PathLike[str], num_bytes: int, purpose: str = "this job") -> None:
    """Raise MediaError with the numbers if the disk of `path` (which need not exist yet) lacks `num_bytes`."""
    free = free_bytes(Path(path))
    if free < num_bytes:
        raise MediaError(
            f"Not enough disk space for {purpose}: it needs about {format_bytes(num_bytes)} in {path}, and "
            f"{format_bytes(free)} is free. Free {format_bytes(num_bytes - free)}, choose a folder on another disk, "
            "or make the video shorter or smaller."
        )


def storage_error(folder: Path, action: str, error: OSError) -> MediaError:
    """The MediaError to raise from `error`; `action` is what failed, as in "writing frames"."""
    if error.errno in _FULL:
        free = format_bytes(free_bytes(folder))
        return MediaError(
            f"The disk is full: {action} in {folder} failed with {free} left. "
            "Free some space or choose a folder on another disk, then queue the job again."
        )
    if error.errno in _READ_ONLY:
        return MediaError(
            f"The folder {folder} cannot be written: {action} failed ({error.strerror}). "
            "Give this user write permission or choose another folder."
        )
    if error.errno in _NOT_A_FOLDER:
        return MediaError(f"{folder} is not a folder: {action} failed. Remove that file or choose another folder.")
    return MediaError(
        f"{action.capitalize()} in {folder} failed: {error}. Check that the disk is connected and healthy."
    )
