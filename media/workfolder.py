"""A hidden folder beside a file that is being made, and the file's appearance under its name when it is whole.

The next writer removes what dead processes left in such folders.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import shutil
import time
import uuid
from collections.abc import Callable, Generator
from pathlib import Path

from ..models.files import PARTIAL_SUFFIX, sync_file
from .disk import storage_error
from .errors import MediaError
from .locks import LOCK_NAME, FolderLock

WORK_PREFIX = ".saving."
CLAIM_SUFFIX = ".claim"

_EXPIRES_S = 60
"""A working folder lacks its lock, and a claim exists, for an instant only: after this time their process is dead."""
_REMOVAL_ATTEMPTS = 20
_REMOVAL_PAUSE_S = 0.1


@contextlib.contextmanager
def working_folder(path: Path) -> Generator[Path, None, None]:
    """A locked folder beside `path`, removed afterwards together with those that dead processes left there.

    Raises MediaError when the folder of `path` cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Not named after the file, whose own name may be as long as the disk allows.
        work = path.parent / f"{WORK_PREFIX}{uuid.uuid4().hex[:12]}{PARTIAL_SUFFIX}"
        work.mkdir()
    except OSError as error:
        raise storage_error(path.parent, f"saving {path.name}", error) from error
    try:
        with FolderLock(work):
            _sweep(work)
            yield work
    finally:
        # What cannot be removed now (Windows: a virus scanner reads it) goes with a later sweep. Its error would hide
        # the one that matters, or turn a saved file into a failed job.
        shutil.rmtree(work, ignore_errors=True)


def publish(result: Path, path: Path, if_taken: Callable[[], Path] | None) -> Path:
    """Give the whole file `result` the name `path` in one step, and return that name.

    if_taken: see `encode_video`; without it, a file at `path` is replaced.
    Raises OSError; `path` then is as it was.
    """
    sync_file(result)
    if if_taken is None:
        result.replace(path)
        return path
    while True:
        try:
            _move_to_free_name(result, path)
            return path
        except FileExistsError:
            path = if_taken()


def _move_to_free_name(result: Path, path: Path) -> None:
    """Rename, never over another file. Raises FileExistsError where there is one."""
    if os.name == "nt":
        result.rename(path)
        return
    try:
        os.link(result, path)
    except FileExistsError:
        raise
    except OSError:
        # The file system has no hard links (FAT, some network and FUSE ones), or refuses every change: the next step
        # shows which.
        _rename_under_claim(result, path)


def _rename_under_claim(result: Path, path: Path) -> None:
    """Rename where the system's own rename would replace a file: one writer at a time looks and renames."""
    # Of one length, as the file's own name may be as long as the disk allows.
    claim = path.with_name(f".{hashlib.sha256(os.fsencode(path.name)).hexdigest()[:24]}{CLAIM_SUFFIX}")
    claim.mkdir()
    try:
        if os.path.lexists(path):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path))
        result.rename(path)
    finally:
        with contextlib.suppress(OSError):
            claim.rmdir()


def _sweep(own: Path) -> None:
    """Remove what dead processes left beside the working folder `own`."""
    for work in own.parent.glob(f".*.????????????{PARTIAL_SUFFIX}"):
        # Another user's leftovers cannot be removed, and must not prevent saving.
        with contextlib.suppress(OSError, MediaError):
            if (work / LOCK_NAME).is_file():
                if work != own and _is_abandoned(work):
                    _remove_abandoned(work)
            elif work.name.startswith(WORK_PREFIX) and _is_old(work, own):
                shutil.rmtree(work, ignore_errors=True)
    for claim in own.parent.glob(f".*{CLAIM_SUFFIX}"):
        with contextlib.suppress(OSError):
            if _is_old(claim, own):
                claim.rmdir()


def _is_abandoned(work: Path) -> bool:
    """Whether no process works there. Raises FolderBusyError, or FolderGoneError where it was removed meanwhile."""
    with FolderLock(work, patience_s=0) as lock:
        # On a disk without locks it may be another server's.
        return lock.is_exclusive


def _is_old(folder: Path, own: Path) -> bool:
    # Both times are by the clock of the disk, which may be another machine's.
    return own.stat().st_mtime - folder.stat().st_mtime > _EXPIRES_S


def _remove_abandoned(work: Path) -> None:
    """Remove a dead process's folder, into which its ffmpeg, which outlives it for a moment, may still write."""
    for _ in range(_REMOVAL_ATTEMPTS):
        shutil.rmtree(work, ignore_errors=True)
        if not work.exists():
            return
        time.sleep(_REMOVAL_PAUSE_S)
    # It marks the folder for the next sweep.
    (work / LOCK_NAME).touch()
