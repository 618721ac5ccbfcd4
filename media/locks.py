"""A lock on a folder that the operating system itself drops when its holder dies, `kill -9` and power loss included.

Some network and FUSE file systems do not support such locks (`flock`). A lock then works within this process only, and
`FolderLock.is_exclusive` is False. Two processes must not use one folder on such a disk.

portalocker is not used. Its shared locks need pywin32 on Windows, it follows a link in the place of the lock file (no
`O_NOFOLLOW`), and on a disk without locks it raises an error, where a job here continues with `is_exclusive` False.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sys
import threading
import time
from pathlib import Path
from types import TracebackType

from .disk import storage_error
from .errors import MediaError

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

LOCK_NAME = "lock"
HELD_NAME = "held"
_BUSY = frozenset({errno.EAGAIN, errno.EACCES, errno.EWOULDBLOCK, errno.EDEADLK})
_NO_LOCKS = frozenset({errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS, errno.EINVAL})
_NOT_A_FILE = frozenset({errno.ELOOP, errno.EISDIR, errno.ENXIO})
# Windows refuses reads of a locked range, so the locked byte lies beyond the owner's name.
_WINDOWS_LOCK_OFFSET = 1 << 20


class FolderBusyError(MediaError):
    """Another writer, reader or clean-up holds the folder."""


class FolderGoneError(MediaError):
    """The folder, or the file that is locked in it, was removed, as by another process."""


class _Holders:
    """Who holds which file in this process, for disks that have no locks: -1 (exclusive) or the number of readers."""

    def __init__(self) -> None:
        self._counts: dict[Path, int] = {}
        self._guard = threading.Lock()

    def take(self, key: Path, shared: bool) -> bool:
        """Whether `key` was free, and is held now."""
        with self._guard:
            count = self._counts.get(key, 0)
            if count < 0 or (count > 0 and not shared):
                return False
            self._counts[key] = count + 1 if shared else -1
            return True

    def give_back(self, key: Path) -> None:
        """One holder less."""
        with self._guard:
            left = max(self._counts.get(key, 0), 1) - 1
            if left:
                self._counts[key] = left
            else:
                self._counts.pop(key, None)


_HOLDERS = _Holders()


class FolderLock:
    """An exclusive (writers, removal) or shared (readers) lock on `folder`, held from construction to `release()`.

    `name` is the file that is locked: "lock" for as long as someone works on the folder, "held" for as long as a
    finished video needs it to stay. A link in its place is not followed. `is_exclusive` is False where the disk has no
    locks, so that other processes are not kept out.

    On Windows a shared lock is exclusive too: one reader at a time.
    Raises FolderBusyError when it is held elsewhere for `patience_s` (a listing holds it for an instant),
    FolderGoneError when the folder is not there, MediaError when it cannot be used.
    """

    def __init__(self, folder: Path, *, shared: bool = False, patience_s: float = 0.5, name: str = LOCK_NAME) -> None:
        self.folder = folder
        self.is_exclusive = True
        self._descriptor = -1
        self._key: Path | None = None
        path = folder / name
        deadline = time.monotonic() + patience_s
        while True:
            self._descriptor = _open(path, shared)
            try:
                if self._is_taken(path, shared):
                    if _is_same_file(self._descriptor, path):
                        break
                    # The previous holder removed the folder, so the locked file no longer exists.
                elif time.monotonic() < deadline:
                    time.sleep(0.02)
                else:
                    raise FolderBusyError(
                        f"{folder} is in use by {_read_owner(path)}. Wait until that job has finished, or stop it, and "
                        "queue again."
                    )
            except OSError as error:
                self.release()
                raise storage_error(folder, "locking", error) from error
            except BaseException:
                self.release()
                raise
            self.release()
        if not shared and name == LOCK_NAME:
            # The owner's name is only for messages, so a full disk must not be an error here.
            with contextlib.suppress(OSError):
                os.ftruncate(self._descriptor, 0)
                os.write(self._descriptor, f"process {os.getpid()}".encode())

    def release(self) -> None:
        """Give the lock back; further calls do nothing."""
        if self._key is not None:
            _HOLDERS.give_back(self._key)
            self._key = None
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def __enter__(self) -> FolderLock:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    def _is_taken(self, path: Path, shared: bool) -> bool:
        """Try once. Raises OSError if locking fails for another reason than an existing lock."""
        try:
            _lock(self._descriptor, shared)
        except OSError as error:
            if error.errno in _BUSY:
                return False
            if error.errno not in _NO_LOCKS:
                raise
            key = path.resolve()
            if not _HOLDERS.take(key, shared):
                return False
            self._key, self.is_exclusive = key, False
        return True


def _open(path: Path, shared: bool) -> int:
    flags = os.O_RDONLY if shared and sys.platform != "win32" else os.O_RDWR | os.O_CREAT
    try:
        return os.open(path, flags | getattr(os, "O_NOFOLLOW", 0), 0o644)
    except FileNotFoundError as error:
        raise FolderGoneError(
            f"{path.parent} is no longer there: its frames were removed. Queue the job again to regenerate them."
        ) from error
    except OSError as error:
        if error.errno in _NOT_A_FILE:
            raise MediaError(
                f"{path} is not a plain file, so the folder {path.parent} cannot be used. Delete that folder and queue "
                "the job again."
            ) from error
        raise storage_error(path.parent, f"locking the file {path.name}", error) from error


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
    with contextlib.suppress(OSError), path.open(encoding="utf-8", errors="replace") as file:
        return file.read(100).strip() or "another process"
    return "another process"
