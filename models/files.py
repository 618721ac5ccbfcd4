"""Files that are complete or absent: written under a temporary name, synced to the disk, then renamed."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PARTIAL_SUFFIX = ".part"

# Some file systems do not support syncing; this must not discard a complete file.
_NO_SYNC = frozenset({errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EROFS})


@contextmanager
def replacing(path: Path, *, writer: str = "") -> Iterator[Path]:
    """Yield a temporary name beside ``path`` to write to. It is renamed to ``path`` if the block ends without an error.

    ``path`` therefore has either the old or the new content, never a part of it, even after a power failure.

    Args:
        writer: part of the temporary name, where several processes may write the same file.

    Raises:
        OSError: the disk or its permissions; ``path`` is unchanged.
    """
    partial = path.with_name(f"{path.name}{writer}{PARTIAL_SUFFIX}")
    # Always a new file: an existing one may be a link to a file of another program.
    partial.unlink(missing_ok=True)
    try:
        yield partial
        sync_file(partial)
        partial.replace(path)
        sync_folder(path.parent)
    finally:
        partial.unlink(missing_ok=True)


def is_file(path: Path) -> bool:
    """Whether there is a file, or a link to one; False where that cannot be checked."""
    try:
        return path.is_file()
    except OSError:
        return False


def is_folder(path: Path) -> bool:
    """Whether there is a folder, or a link to one; False where that cannot be checked."""
    try:
        return path.is_dir()
    except OSError:
        return False


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file in one step (see ``replacing``). Raises OSError."""
    with replacing(path) as partial, partial.open("xb") as file:
        file.write(content)


def write_text(path: Path, text: str) -> None:
    """Write a UTF-8 file in one step (see ``replacing``). Raises OSError."""
    write_bytes(path, text.encode())


def sync_file(path: Path) -> None:
    """Sync a file's content to the disk, so that its final name never refers to lost content. Raises OSError."""
    # Windows syncs only files that are open for writing.
    with path.open("rb+") as file:
        try:
            os.fsync(file.fileno())
        except OSError as error:
            if error.errno not in _NO_SYNC:
                raise


def sync_folder(folder: Path) -> None:
    """Make renames and removals in ``folder`` survive power loss (Windows does so on its own). Raises OSError."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
