"""The database of a batch on the driver's disk: checked files, every attempt, finished clips, files in the folder."""

from __future__ import annotations

import json
import sqlite3
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

SCHEMA = """
CREATE TABLE IF NOT EXISTS files (
    path TEXT, kind TEXT, size INTEGER, mtime_ns INTEGER, digest TEXT, seconds REAL, fault TEXT,
    PRIMARY KEY (path, kind));
CREATE TABLE IF NOT EXISTS attempts (
    id INTEGER PRIMARY KEY, clip TEXT, worker TEXT, started REAL, ended REAL, outcome TEXT, reason TEXT);
CREATE INDEX IF NOT EXISTS attempts_of_clip ON attempts (clip);
CREATE TABLE IF NOT EXISTS clips (clip TEXT PRIMARY KEY, result TEXT, thumbnail BLOB);
CREATE TABLE IF NOT EXISTS outputs (path TEXT PRIMARY KEY, clip TEXT, part INTEGER, size INTEGER, mtime_ns INTEGER);
"""
RUNNING = "running"
STOPPED = "the batch was stopped"


class LedgerFault(RuntimeError):
    """Another batch uses the folder, or the database is damaged."""


@dataclass(frozen=True)
class Stamp:
    """Size and time of a file, which show whether it was changed."""

    size: int
    mtime_ns: int

    @classmethod
    def of(cls, path: Path) -> Stamp:
        """The stamp of a file. Raises OSError if there is none."""
        status = path.stat()
        return cls(status.st_size, status.st_mtime_ns)


@dataclass(frozen=True)
class Output:
    """A file that the batch put into its folder: of which clip, and which of the clip's files."""

    clip: str
    part: int
    stamp: Stamp


class Ledger:
    """The database; a context manager. Changes are on the disk after `commit`.

    Raises:
        LedgerFault: another process has it open, or it is damaged.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._database = sqlite3.connect(path, timeout=0.2, check_same_thread=False)
        try:
            # The lock is held until the process ends in any way; a second batch on the folder is refused.
            self._database.execute("PRAGMA locking_mode = EXCLUSIVE")
            self._database.execute("PRAGMA journal_mode = WAL")
            self._database.executescript(SCHEMA)
            self._database.execute(
                "UPDATE attempts SET ended = ?, outcome = 'stopped', reason = ? WHERE outcome = ?",
                (time.time(), STOPPED, RUNNING),
            )
            self._database.commit()
        except sqlite3.DatabaseError as error:
            self._database.close()
            if "locked" in str(error):
                raise LedgerFault(f"{path.parent.parent}: another batch is running on this folder") from error
            raise LedgerFault(
                f"{path} cannot be read ({error}). Restore it from a backup, or use another folder for --out: without "
                "it, the videos in this folder count as files that the batch did not make"
            ) from error

    def __enter__(self) -> Ledger:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._database.commit()
        self._database.close()

    def commit(self) -> None:
        """Write the changes to the disk."""
        self._database.commit()

    def file(self, path: Path, kind: str, stamp: Stamp) -> tuple[str, float | None, str | None] | None:
        """(digest, seconds, fault) of a file that was checked before and has not changed since."""
        query = "SELECT digest, seconds, fault FROM files WHERE path = ? AND kind = ? AND size = ? AND mtime_ns = ?"
        return self._database.execute(query, (str(path), kind, stamp.size, stamp.mtime_ns)).fetchone()

    def note_file(
        self, path: Path, kind: str, stamp: Stamp, digest: str, seconds: float | None, fault: str | None
    ) -> None:
        """Store the result of checking a file."""
        values = (str(path), kind, stamp.size, stamp.mtime_ns, digest, seconds, fault)
        self._database.execute("REPLACE INTO files VALUES (?, ?, ?, ?, ?, ?, ?)", values)

    def begin_attempt(self, clip: str, worker: str) -> int:
        """Record that a worker begins a clip; returns the attempt's number."""
        query = "INSERT INTO attempts (clip, worker, started, outcome) VALUES (?, ?, ?, ?)"
        number = self._database.execute(query, (clip, worker, time.time(), RUNNING)).lastrowid
        assert number is not None
        return number

    def end_attempt(self, number: int, outcome: str, reason: str = "") -> None:
        """Record how an attempt ended."""
        query = "UPDATE attempts SET ended = ?, outcome = ?, reason = ? WHERE id = ?"
        self._database.execute(query, (time.time(), outcome, reason, number))

    def attempts(self, clip: str) -> list[dict[str, Any]]:
        """Every attempt at a clip, oldest first."""
        query = "SELECT worker, started, ended, outcome, reason FROM attempts WHERE clip = ? ORDER BY id"
        names = ("worker", "started", "ended", "outcome", "reason")
        return [dict(zip(names, row, strict=True)) for row in self._database.execute(query, (clip,))]

    def finish(self, clip: str, result: dict[str, Any], thumbnail: bytes) -> None:
        """Keep the result of a finished clip."""
        self._database.execute("REPLACE INTO clips VALUES (?, ?, ?)", (clip, json.dumps(result), thumbnail))

    def result(self, clip: str) -> dict[str, Any] | None:
        """The result of a finished clip."""
        row = self._database.execute("SELECT result FROM clips WHERE clip = ?", (clip,)).fetchone()
        return None if row is None else json.loads(row[0])

    def thumbnail(self, clip: str) -> bytes:
        """The JPEG of a finished clip; empty where there is none."""
        row = self._database.execute("SELECT thumbnail FROM clips WHERE clip = ?", (clip,)).fetchone()
        return b"" if row is None else row[0]

    def note_output(self, path: str, output: Output) -> None:
        """Note a file in the folder; `path` is relative to it."""
        values = (path, output.clip, output.part, output.stamp.size, output.stamp.mtime_ns)
        self._database.execute("REPLACE INTO outputs VALUES (?, ?, ?, ?, ?)", values)

    def outputs(self) -> dict[str, Output]:
        """Every file that was put into the folder."""
        rows = self._database.execute("SELECT path, clip, part, size, mtime_ns FROM outputs")
        return {path: Output(clip, part, Stamp(size, mtime)) for path, clip, part, size, mtime in rows}
