"""Files that are whole or absent: written under a temporary name, put on the disk, then renamed."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PARTIAL_SUFFIX = ".part"

# A file system may have no such operation; that is no reason to lose a file that is complete.
_NO_SYNC = frozenset({errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EROFS})


@contextmanager
def replacing(path: Path, *, writer: str = "") -> Iterator[Path]:
    """Give a temporary name beside ``path`` to write to. It becomes ``path`` when the block ends without an error.

    So ``path`` holds the old content or the new, never a part, even after a power failure.

    Args:
        writer: part of the temporary name, where several processes may write the same file.

    Raises:
        OSError: the disk or its permissions; ``path`` is as it was.
    """
    partial = path.with_name(f"{path.name}{writer}{PARTIAL_SUFFIX}")
    # A new file: what lies there may be a link, whose target is not ours.
    partial.unlink(missing_ok=True)
    try:
        yield partial
        sync_file(partial)
        partial.replace(path)
        sync_folder(path.parent)
    finally:
        partial.unlink(missing_ok=True)


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file in one step (see ``replacing``). Raises OSError."""
    with replacing(path) as partial, partial.open("xb") as file:
        file.write(content)


def write_text(path: Path, text: str) -> None:
    """Write a UTF-8 file in one step (see ``replacing``). Raises OSError."""
    write_bytes(path, text.encode())


def sync_file(path: Path) -> None:
    """Put a file's content on the disk: its final name must not outlive a power failure without it. Raises OSError."""
    # Windows syncs only what is open for writing.
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
