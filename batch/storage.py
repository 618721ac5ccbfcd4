"""Transfers files between the driver's machine and the workers': over a shared disk, or through Ray."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from ..models.files import replacing
from .shelf import Record, part_path

BLOCK_BYTES = 4 << 20


class Storage(Protocol):
    """Gives a worker the rows' files and takes the clips' files."""

    def fetch(self, path: Path, digest: str) -> Path:
        """A row's file on this machine."""
        ...

    def place(self, clip: str, number: int, suffix: str) -> Path:
        """Where to write one of a clip's files on this machine."""
        ...

    def deliver(self, record: Record) -> None:
        """Deliver the clip's files, which are complete, and then the record."""
        ...


class SharedStorage:
    """For workers that can access the driver's disk under the same paths."""

    def __init__(self, parts: Path) -> None:
        self._parts = parts

    def fetch(self, path: Path, digest: str) -> Path:
        """The file itself."""
        return path

    def place(self, clip: str, number: int, suffix: str) -> Path:
        """In the batch's folder for parts."""
        return part_path(self._parts, clip, number, suffix)

    def deliver(self, record: Record) -> None:
        """The files are there already."""
        record.save(self._parts)


class Depot:
    """On the driver's machine: sends blocks of the rows' files and receives those of the clips. An actor for Ray."""

    def __init__(self, parts: Path) -> None:
        self._parts = parts

    def read(self, path: Path, offset: int) -> bytes:
        """A block of a file; empty at its end."""
        with path.open("rb") as stream:
            stream.seek(offset)
            return stream.read(BLOCK_BYTES)

    def write(self, name: str, offset: int, block: bytes) -> None:
        """A block of a clip's file. The first one replaces what a failed attempt left."""
        with (self._parts / Path(name).name).open("r+b" if offset else "wb") as stream:
            stream.seek(offset)
            stream.write(block)

    def finish(self, record: Record) -> None:
        """Take the record of a clip whose files are all there."""
        record.save(self._parts)


class SentStorage:
    """For workers without access to the driver's disk: sends blocks through Ray, a few at a time, one per message.

    Args:
        folder: for files on this machine.
        read, write, finish: the methods of the driver's Depot, each waiting for its result.
    """

    def __init__(
        self,
        folder: Path,
        read: Callable[[Path, int], bytes],
        write: Callable[[str, int, bytes], None],
        finish: Callable[[Record], None],
    ) -> None:
        self._folder = folder
        self._read, self._write, self._finish = read, write, finish
        folder.mkdir(parents=True, exist_ok=True)

    def fetch(self, path: Path, digest: str) -> Path:
        """A copy of the file; files with the same content are copied once."""
        local = self._folder / f"{digest}{path.suffix}"
        if not local.is_file():
            with replacing(local) as partial, partial.open("wb") as stream:
                while block := self._read(path, stream.tell()):
                    stream.write(block)
        return local

    def place(self, clip: str, number: int, suffix: str) -> Path:
        """In the folder of this machine."""
        return part_path(self._folder, clip, number, suffix)

    def deliver(self, record: Record) -> None:
        """Send the files, then the record."""
        for number, part in enumerate(record.files):
            local = self.place(record.clip, number, part.suffix)
            with local.open("rb") as stream:
                self._write(local.name, 0, b"")
                while block := stream.read(BLOCK_BYTES):
                    self._write(local.name, stream.tell() - len(block), block)
            local.unlink()
        self._finish(record)
