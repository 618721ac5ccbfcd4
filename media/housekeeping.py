"""Listing, sizing and removing spools.

Other versions, servers and programs may leave files in the spool folder, and files get damaged. An invalid entry is
listed as unknown or left out. It never stops a job.
"""

from __future__ import annotations

import errno
import logging
import os
import re
import shutil
import stat
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from .disk import storage_error
from .errors import MediaError
from .locks import HELD_NAME, LOCK_NAME, FolderBusyError, FolderGoneError, FolderLock
from .manifest import (
    HEADER_NAME,
    MANIFEST_NAME,
    SAVED_NAME,
    SEGMENT_SUFFIX,
    SpoolHeader,
    complete_segments,
    read_header,
    remove_entry,
)

SPOOL_SHARE_OF_RAW = 0.4
"""Conservative compressed share of raw RGB, by the fastest codec: 4.7 GB for 600 s of 512x512 at 25 fps."""


_JOB_NAME = re.compile(r"[0-9a-f]{32}")

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class SpoolInfo:
    """One spool as `list_spools` finds it; `modified` is seconds since the epoch, `num_bytes` its disk use.

    `saved`: a finished video was saved from it. `in_use`: it is being written or read, or a video refers to it.
    `problem` is why it is unknown, and then `header` is None; it is empty for those that can be read.
    """

    folder: Path
    header: SpoolHeader | None
    num_segments: int
    num_frames: int
    num_bytes: int
    modified: float
    in_use: bool
    saved: bool
    problem: str = ""


def is_job_name(name: str) -> bool:
    """Whether `name` has the form of a job's folder. Anything with such a name belongs to the pack."""
    return _JOB_NAME.fullmatch(name) is not None


def list_spools(root: str | os.PathLike[str]) -> list[SpoolInfo]:
    """The spools directly below `root`, least recently written first; empty if `root` does not exist.

    Those that cannot be read are in it too, with their `problem`. Raises MediaError when `root` itself cannot be read.
    """
    root = Path(root)
    if not root.is_dir():
        return []
    try:
        entries = list(root.iterdir())
    except OSError as error:
        raise storage_error(root, "listing stored frames", error) from error
    spools = (_describe(entry) for entry in entries if _is_spool(entry))
    return sorted((spool for spool in spools if spool is not None), key=lambda spool: spool.modified)


def spool_bytes(folder: str | os.PathLike[str]) -> int:
    """Bytes of all files of one spool, as far as they can be seen."""
    total = 0
    for entry in _entries(Path(folder)):
        try:
            total += entry.lstat().st_size
        except OSError:
            # Renamed or removed by its writer since it was listed.
            continue
    return total


def has_frames(folder: str | os.PathLike[str]) -> bool:
    """Whether a spool has any complete chunk."""
    return bool(complete_segments(Path(folder)))


def mark_saved(folder: str | os.PathLike[str]) -> None:
    """Note that a finished video was saved from a spool, until it is written to again. Raises MediaError."""
    try:
        (Path(folder) / SAVED_NAME).touch()
    except OSError as error:
        raise storage_error(Path(folder), "noting that the video was saved", error) from error


def remove_spool(folder: str | os.PathLike[str]) -> None:
    """Delete a spool and its folder, whatever is left of it; nothing happens if it does not exist.

    A link in its place is deleted, and what it points to stays.
    Raises FolderBusyError if it is in use, MediaError if it is no spool or cannot be deleted.
    """
    folder = Path(folder)
    if not os.path.lexists(folder):
        return
    if not _is_spool(folder):
        raise MediaError(f"{folder} holds no stored frames and is not deleted. Give the folder of a job.")
    try:
        if folder.is_symlink() or not folder.is_dir():
            folder.unlink()
        else:
            _remove_folder(folder)
    except (FileNotFoundError, FolderGoneError):
        # Another process removes it too.
        return
    except OSError as error:
        raise storage_error(folder, "deleting stored frames", error) from error


def _remove_folder(folder: Path) -> None:
    """Raises OSError, FolderBusyError, MediaError."""
    locks: list[FolderLock] = []
    try:
        for name in (LOCK_NAME, HELD_NAME):
            if not _is_other_than_file(folder / name):
                locks.append(FolderLock(folder, name=name))
        # The header goes first: a removal cut short leaves no frames that could be taken for a job's.
        for entry in sorted(_entries(folder), key=lambda entry: entry.name != HEADER_NAME):
            if entry.name not in (LOCK_NAME, HELD_NAME):
                remove_entry(entry)
        if os.name == "nt":
            for lock in locks:
                lock.release()
        try:
            shutil.rmtree(folder)
        except OSError as error:
            # A job has started in it again meanwhile, so the folder belongs to that job.
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
    finally:
        for lock in locks:
            lock.release()


def enforce_cap(root: str | os.PathLike[str], max_bytes: int, keep: Collection[Path] = ()) -> list[SpoolInfo]:
    """Delete the oldest spools below `root` until all together take at most `max_bytes`; returns those deleted.

    Spools in use and those whose folder is in `keep` stay, so the cap may remain exceeded. Unknown ones stay and do not
    count, nor do those that cannot be deleted, which are logged: the good ones do not go in their place.
    """
    kept = {Path(folder).absolute() for folder in keep}
    spools = [spool for spool in list_spools(root) if not spool.problem]
    total = sum(spool.num_bytes for spool in spools)
    removed: list[SpoolInfo] = []
    for spool in spools:
        if total <= max_bytes:
            break
        if spool.in_use or spool.folder.absolute() in kept:
            continue
        try:
            remove_spool(spool.folder)
        except FolderBusyError:
            # Its job started again since it was listed.
            continue
        except MediaError as error:
            logger.warning("The oldest frames were not removed: %s", error)
        else:
            removed.append(spool)
        total -= spool.num_bytes
    return removed


def estimate_spool_bytes(num_frames: int, width: int, height: int) -> int:
    """Disk space to keep free for a job's frames: an upper estimate for generated and camera-like content."""
    return round(num_frames * width * height * 3 * SPOOL_SHARE_OF_RAW)


def _is_spool(path: Path) -> bool:
    """Whether `path` is a job's, by its name or by what lies in it."""
    if is_job_name(path.name):
        return True
    return not path.is_symlink() and any(
        entry.name in (HEADER_NAME, MANIFEST_NAME) or entry.name.endswith(SEGMENT_SUFFIX) for entry in _entries(path)
    )


def _entries(folder: Path) -> list[Path]:
    """What lies in `folder`; nothing where it is none or cannot be looked into."""
    try:
        return list(folder.iterdir())
    except OSError:
        return []


def _is_other_than_file(path: Path) -> bool:
    return os.path.lexists(path) and not stat.S_ISREG(path.lstat().st_mode)


def _describe(folder: Path) -> SpoolInfo | None:
    """The entry of `list_spools` for one spool; None if it was removed meanwhile."""
    try:
        problem = _problem(folder)
        if problem:
            return _unknown(folder, problem)
        segments = complete_segments(folder)
        stamp = folder / MANIFEST_NAME
        info = SpoolInfo(
            folder=folder,
            header=read_header(folder),
            num_segments=len(segments),
            num_frames=segments[-1].end_frame if segments else 0,
            num_bytes=spool_bytes(folder),
            modified=(stamp if stamp.exists() else folder).stat().st_mtime,
            in_use=_is_in_use(folder),
            saved=(folder / SAVED_NAME).exists(),
        )
    except (OSError, MediaError) as error:
        return _unknown(folder, str(error)) if os.path.lexists(folder) else None
    if info.header is None and not info.in_use:
        return (
            _unknown(folder, "its description is missing, damaged or of another version") if _entries(folder) else None
        )
    return info


def _problem(folder: Path) -> str:
    if folder.is_symlink():
        return "it is a link, which is not followed"
    if not stat.S_ISDIR(folder.lstat().st_mode):
        return "it is not a folder"
    try:
        os.scandir(folder).close()
    except PermissionError:
        return "this user has no permission to read it"
    return ""


def _unknown(folder: Path, problem: str) -> SpoolInfo | None:
    try:
        status = folder.lstat()
    except OSError:
        return None
    logger.info("%s is skipped: %s", folder, problem)
    num_bytes = spool_bytes(folder) if stat.S_ISDIR(status.st_mode) else status.st_size
    return SpoolInfo(folder, None, 0, 0, num_bytes, status.st_mtime, in_use=False, saved=False, problem=problem)


def _is_in_use(folder: Path) -> bool:
    for name, shared in ((LOCK_NAME, True), (HELD_NAME, False)):
        if not (folder / name).exists():
            continue
        try:
            FolderLock(folder, shared=shared, patience_s=0, name=name).release()
        except FolderBusyError:
            return True
        except FolderGoneError:
            return False
    return False
