"""A lock on a folder that the operating system itself drops when its holder dies, `kill -9` and power loss included."""

from __future__ import annotations

import contextlib
import errno
import os
import sys
import time
from pathlib import Path
from types import TracebackType

from .errors import MediaError, storage_error

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

LOCK_NAME = "lock"
HELD_NAME = "held"
_BUSY = frozenset({errno.EAGAIN, errno.EACCES, errno.EWOULDBLOCK, errno.EDEADLK})
# Windows refuses reads of a locked range, so the locked byte lies beyond the owner's name.
_WINDOWS_LOCK_OFFSET = 1 << 20


class FolderBusyError(MediaError):
    """Another writer, reader or clean-up holds the folder."""


class FolderLock:
    """An exclusive (writers, removal) or shared (readers) lock on `folder`, held from construction to `release()`.

    `name` is the file that is locked: "lock" for as long as someone works on the folder, "held" for as long as a
    finished video needs it to stay.

    On Windows a shared lock is exclusive too: one reader at a time.
    Raises FolderBusyError when it is held elsewhere for `patience_s` (a listing holds it for an instant), MediaError
    when the folder cannot be used.
    """

    def __init__(self, folder: Path, *, shared: bool = False, patience_s: float = 0.5, name: str = LOCK_NAME) -> None:
        self.folder = folder
        path = folder / name
        deadline = time.monotonic() + patience_s
        while True:
            self._descriptor = _open(path, shared)
            try:
                _lock(self._descriptor, shared)
            except OSError as error:
                owner = _read_owner(path)
                os.close(self._descriptor)
                if error.errno in _BUSY:
                    if time.monotonic() < deadline:
                        time.sleep(0.02)
                        continue
                    raise FolderBusyError(
                        f"{folder} is in use by {owner}. Wait until that job has finished, or stop it, and queue again."
                    ) from error
                raise storage_error(folder, "locking", error) from error
            if _is_same_file(self._descriptor, path):
                break
            # Whoever held the lock before removed the folder: what we locked is no longer there.
            os.close(self._descriptor)
        if not shared and name == LOCK_NAME:
            os.ftruncate(self._descriptor, 0)
            os.write(self._descriptor, f"process {os.getpid()}".encode())

    def release(self) -> None:
        """Give the lock back; further calls do nothing."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def __enter__(self) -> FolderLock:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


def _open(path: Path, shared: bool) -> int:
    flags = os.O_RDONLY if shared and sys.platform != "win32" else os.O_RDWR | os.O_CREAT
    try:
        return os.open(path, flags, 0o644)
    except OSError as error:
        raise storage_error(path.parent, "locking", error) from error


def _lock(descriptor: int, shared: bool) -> None:
    if sys.platform == "win32":
        os.lseek(descriptor, _WINDOWS_LOCK_OFFSET, os.SEEK_SET)
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        os.lseek(descriptor, 0, os.SEEK_SET)
    else:
        fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)


def _is_same_file(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def _read_owner(path: Path) -> str:
    with contextlib.suppress(OSError):
        return path.read_text(encoding="utf-8", errors="replace").strip() or "another process"
    return "another process"
