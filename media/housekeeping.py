"""Listing, sizing and removing spools, and the disk checks that come before a job starts."""

from __future__ import annotations

import os
import shutil
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from .errors import MediaError, format_bytes, free_bytes, storage_error
from .locks import HELD_NAME, LOCK_NAME, FolderBusyError, FolderLock
from .manifest import HEADER_NAME, MANIFEST_NAME, SAVED_NAME, SpoolHeader, complete_segments, read_header

SPOOL_SHARE_OF_RAW = 1 / 3
"""Conservative compressed share of raw RGB: 3.9 GB for 600 s of 512x512 at 25 fps."""


@dataclass(frozen=True)
class SpoolInfo:
    """One spool as `list_spools` finds it; `modified` is seconds since the epoch, `num_bytes` its disk use.

    `saved`: a finished video was saved from it. `in_use`: it is being written or read, or a video refers to it.
    """

    folder: Path
    header: SpoolHeader | None
    num_segments: int
    num_frames: int
    num_bytes: int
    modified: float
    in_use: bool
    saved: bool


def list_spools(root: str | os.PathLike[str]) -> list[SpoolInfo]:
    """The spools directly below `root`, least recently written first; empty if `root` does not exist."""
    root = Path(root)
    if not root.is_dir():
        return []
    return sorted(
        (_describe(folder) for folder in root.iterdir() if _is_spool(folder)), key=lambda spool: spool.modified
    )


def spool_bytes(folder: str | os.PathLike[str]) -> int:
    """Bytes of all files of one spool."""
    total = 0
    for entry in Path(folder).iterdir():
        try:
            total += entry.stat().st_size
        except FileNotFoundError:
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
    """Delete a spool and its folder; nothing happens if it does not exist. Raises FolderBusyError if it is in use."""
    folder = Path(folder)
    if not folder.is_dir():
        return
    if not _is_spool(folder):
        raise MediaError(f"{folder} holds no stored frames and is not deleted. Give the folder of a job.")
    with FolderLock(folder) as lock, FolderLock(folder, name=HELD_NAME) as held:
        _remove_locked(folder, lock, held)


def _remove_locked(folder: Path, *locks: FolderLock) -> None:
    try:
        # The header goes first: a removal cut short leaves no spool, only files that the next opening clears.
        (folder / HEADER_NAME).unlink(missing_ok=True)
        for entry in list(folder.iterdir()):
            if entry.name not in (LOCK_NAME, HELD_NAME):
                entry.unlink()
        if os.name == "nt":
            for lock in locks:
                lock.release()
        shutil.rmtree(folder)
    except OSError as error:
        raise storage_error(folder, "deleting stored frames", error) from error


def enforce_cap(root: str | os.PathLike[str], max_bytes: int, keep: Collection[Path] = ()) -> list[SpoolInfo]:
    """Delete the oldest spools below `root` until all together take at most `max_bytes`; returns those deleted.

    Spools in use and those whose folder is in `keep` stay, so the cap may remain exceeded.
    """
    kept = {Path(folder).absolute() for folder in keep}
    spools = list_spools(root)
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
        total -= spool.num_bytes
        removed.append(spool)
    return removed


def estimate_spool_bytes(num_frames: int, width: int, height: int, state_bytes_per_frame: float = 0.0) -> int:
    """Disk space to keep free for a job's frames: an upper estimate for generated and camera-like content."""
    return round(num_frames * (width * height * 3 * SPOOL_SHARE_OF_RAW + state_bytes_per_frame))


def check_disk(path: str | os.PathLike[str], num_bytes: int, purpose: str = "this job") -> None:
    """Raise MediaError with the numbers if the disk of `path` (which need not exist yet) lacks `num_bytes`."""
    free = free_bytes(Path(path))
    if free < num_bytes:
        raise MediaError(
            f"Not enough disk space for {purpose}: it needs about {format_bytes(num_bytes)} in {path}, and "
            f"{format_bytes(free)} is free. Free {format_bytes(num_bytes - free)}, choose a folder on another disk, "
            "or make the video shorter or smaller."
        )


def _is_spool(folder: Path) -> bool:
    return (folder / HEADER_NAME).is_file() or (folder / MANIFEST_NAME).is_file()


def _describe(folder: Path) -> SpoolInfo:
    segments = complete_segments(folder)
    stamp = folder / MANIFEST_NAME
    return SpoolInfo(
        folder=folder,
        header=read_header(folder),
        num_segments=len(segments),
        num_frames=segments[-1].end_frame if segments else 0,
        num_bytes=spool_bytes(folder),
        modified=(stamp if stamp.exists() else folder).stat().st_mtime,
        in_use=_is_in_use(folder),
        saved=(folder / SAVED_NAME).exists(),
    )


def _is_in_use(folder: Path) -> bool:
    for name, shared in ((LOCK_NAME, True), (HELD_NAME, False)):
        if not (folder / name).exists():
            continue
        try:
            FolderLock(folder, shared=shared, patience_s=0, name=name).release()
        except FolderBusyError:
            return True
    return False
