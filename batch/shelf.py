"""The output folder: files appear in it only when they are complete, and a stop at any moment loses none.

A worker writes a clip's files to `.batch/parts`, and a record when they are complete. The driver renames the files,
enters them in the ledger and removes the record. The next start completes the steps that a stop interrupted.
"""

from __future__ import annotations

import base64
import json
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..models.files import write_text
from .ledger import Ledger, Output, Stamp
from .plan import Clip, Plan, output_paths

WORK_FOLDER = ".batch"


class ShelfFault(RuntimeError):
    """A finished file cannot be put under its name."""


@dataclass(frozen=True)
class Part:
    """One of a clip's files."""

    suffix: str
    bytes: int
    digest: str


@dataclass(frozen=True)
class Record:
    """A worker's record of a finished clip: its files, the figures of its report, and a JPEG."""

    clip: str
    files: tuple[Part, ...]
    figures: dict[str, Any]
    thumbnail: bytes

    def save(self, parts: Path) -> None:
        """Write it beside the files; from then on the clip is finished."""
        text = json.dumps({**asdict(self), "thumbnail": base64.b64encode(self.thumbnail).decode()})
        write_text(parts / f"{self.clip}.json", text)

    @classmethod
    def load(cls, parts: Path, clip: str) -> Record:
        """The record of a clip. Raises OSError if there is none."""
        fields = json.loads((parts / f"{clip}.json").read_text(encoding="utf-8"))
        files = tuple(Part(**part) for part in fields["files"])
        return cls(clip, files, fields["figures"], base64.b64decode(fields["thumbnail"]))


def part_path(parts: Path, clip: str, number: int, suffix: str) -> Path:
    """Where a worker leaves a clip's file."""
    return parts / f"{clip}.{number}{suffix}"


class Shelf:
    """The output folder of a batch.

    Args:
        folder: exists and can be written to.
    """

    def __init__(self, folder: Path, ledger: Ledger) -> None:
        self._folder = folder
        self._ledger = ledger
        self.parts = folder / WORK_FOLDER / "parts"
        self.parts.mkdir(parents=True, exist_ok=True)
        self._finish_moves()
        self._outputs = ledger.outputs()

    def recover(self, plan: Plan) -> None:
        """Publish clips that workers finished after the last stop, and clips that exist under another name."""
        finished = {file.stem for file in self.parts.glob("*.json")}
        self.publish([clip for clip in plan.waiting() if clip.identity in finished], plan)
        for file in self.parts.glob("*"):
            file.unlink()
        copied = [clip for clip in plan.waiting() if clip.intact]
        moves = [move for clip in copied for move in self._copies(clip, plan)]
        self._move(moves)

    def publish(self, clips: list[Clip], plan: Plan) -> dict[str, str]:
        """Move finished clips' files to their final names.

        Returns:
            The reasons, by identity, for clips whose name is taken by a file that must not be replaced.

        Raises:
            OSError: the folder cannot be written.
        """
        moves: list[Move] = []
        refused: dict[str, str] = {}
        for clip in clips:
            record = Record.load(self.parts, clip.identity)
            try:
                moves += self._first_moves(clip, record, plan)
            except ShelfFault as fault:
                refused[clip.identity] = str(fault)
                continue
            files = [asdict(part) for part in record.files]
            self._ledger.finish(clip.identity, {"files": files, **record.figures}, record.thumbnail)
        self._move(moves)
        for clip in clips:
            for file in self.parts.glob(f"{clip.identity}.*") if clip.identity in refused else []:
                file.unlink()
            (self.parts / f"{clip.identity}.json").unlink(missing_ok=True)
        return refused

    def _first_moves(self, clip: Clip, record: Record, plan: Plan) -> list[Move]:
        suffixes = [part.suffix for part in record.files]
        sources = [part_path(self.parts, clip.identity, *numbered) for numbered in enumerate(suffixes)]
        moves = []
        for name in clip.names:
            paths = output_paths(name, suffixes)
            for path in paths:
                self._check_name(clip, path, plan)
            if name == clip.names[0]:
                moves += [Move(clip, name, *move) for move in zip(sources, paths, range(len(paths)), strict=True)]
            else:
                moves += [self._copy(clip, name, *move) for move in zip(sources, paths, range(len(paths)), strict=True)]
        return moves

    def _copies(self, clip: Clip, plan: Plan) -> list[Move]:
        """For a clip's missing names, copies of the files under an existing name."""
        suffixes = self._suffixes(clip.identity)
        sources = [self._folder / path for path in output_paths(clip.intact[0], suffixes)]
        moves = []
        for name in clip.names:
            if name not in clip.intact:
                for number, (source, path) in enumerate(zip(sources, output_paths(name, suffixes), strict=True)):
                    self._check_name(clip, path, plan)
                    moves.append(self._copy(clip, name, source, path, number))
        return moves

    def _copy(self, clip: Clip, name: str, source: Path, path: str, number: int) -> Move:
        copied = self.parts / f"{clip.identity}.{clip.names.index(name)}.{number}.copy"
        shutil.copyfile(source, copied)
        return Move(clip, name, copied, path, number)

    def _move(self, moves: list[Move]) -> None:
        """Record the moves, then rename the files; `_finish_moves` completes them after a stop in between."""
        for move in moves:
            output = Output(move.clip.identity, move.number, Stamp.of(move.source))
            self._outputs[move.path] = output
            self._ledger.note_output(move.path, output)
        self._ledger.commit()
        for move in moves:
            self._rename(move.source, move.path)
            if move.name not in move.clip.intact:
                move.clip.intact.append(move.name)

    def _finish_moves(self) -> None:
        outputs = self._ledger.outputs()
        finished = {file.stem: False for file in self.parts.glob("*.json")}
        for path, output in outputs.items():
            if output.clip in finished:
                for file in self.parts.glob(f"{output.clip}.*"):
                    if Stamp.of(file) == output.stamp:
                        self._rename(file, path)
                        finished[output.clip] = True
        for clip, is_moved in finished.items():
            if is_moved:
                (self.parts / f"{clip}.json").unlink()

    def _rename(self, source: Path, path: str) -> None:
        target = self._folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        source.replace(target)

    def _check_name(self, clip: Clip, path: str, plan: Plan) -> None:
        """Raise ShelfFault if the file under a name was not written by the batch, or belongs to another row."""
        owner = self._outputs.get(path)
        if not (self._folder / path).exists() or (owner is not None and owner.clip == clip.identity):
            return
        if owner is None:
            raise ShelfFault(f"{path} exists and was not made by this batch; move it, or choose another name")
        other = plan.clips.get(owner.clip)
        taken = [] if other is None else [output_paths(name, self._suffixes(owner.clip)) for name in other.names]
        if other is not None and any(path in paths for paths in taken):
            raise ShelfFault(f"{path} is also a file of row {other.rows[0]}; choose another name")

    def _suffixes(self, clip: str) -> list[str]:
        result = self._ledger.result(clip)
        return [] if result is None else [part["suffix"] for part in result["files"]]


@dataclass(frozen=True)
class Move:
    """A file of a clip on its way to a path in the output folder, under one of the clip's names."""

    clip: Clip
    name: str
    source: Path
    path: str
    number: int
