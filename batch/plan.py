"""The plan of a batch: the rows that can be rendered, their clips, and the clips that are already done."""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from ..scripts._client import VIDEO_SUFFIXES
from ..scripts._workflow import Graph
from .files import FileFacts, digest_of, look_at
from .graph import (
    ASSETS,
    OUTPUT,
    CellFault,
    GraphFault,
    Target,
    Template,
    check_nodes,
    check_values,
    file_targets,
    identity,
)
from .ledger import Ledger, Output, Stamp
from .table import Row, Table

MOST_PART_BYTES, MOST_NAME_BYTES = 200, 800
"""Of a folder's or file's name, and of the whole: with the folder above and a suffix, every file system takes them."""

RESERVED = re.compile(r"(?i)(con|prn|aux|nul|com\d|lpt\d)(\..*)?")
"""Names of devices on Windows."""

# Characters with a special meaning in file names on Windows or in the shell.
FORBIDDEN = re.compile(r'[\x00-\x1f<>:"|?*\\]')


@dataclass(frozen=True)
class Fault:
    """Why a row is not rendered."""

    row: int
    column: str
    reason: str

    def __str__(self) -> str:
        return f"row {self.row}, {f'column {self.column}: ' if self.column else ''}{self.reason}"


@dataclass(frozen=True)
class Failure:
    """Why a clip was not finished, and the column that is the cause; empty if it is not one column."""

    reason: str
    column: str = ""


@dataclass(eq=False)
class Clip:
    """One video to render: its rows, and the output names in these rows.

    The files of the `intact` names exist.
    """

    identity: str
    row: Row
    seconds: float
    names: list[str] = field(default_factory=list)
    rows: list[int] = field(default_factory=list)
    intact: list[str] = field(default_factory=list)

    @property
    def is_done(self) -> bool:
        """Whether nothing is missing."""
        return len(self.intact) == len(self.names)


@dataclass
class Plan:
    """The clips by identity, and the faults by row."""

    table: Table
    template: Template
    defaults: dict[Target, Path]
    facts: dict[tuple[Path, str], FileFacts] = field(default_factory=dict)
    clips: dict[str, Clip] = field(default_factory=dict)
    faults: dict[int, Fault] = field(default_factory=dict)
    names: dict[int, str] = field(default_factory=dict)
    """The output name of each row, also of those that are refused."""

    def filled(self, clip: Clip) -> Graph:
        """The graph with the clip's values."""
        return self.template.fill(clip.row.cells)

    def files(self, row: Row) -> dict[Target, tuple[Path, str]]:
        """The file and the node's type for every input of a row that names a file."""
        named = {}
        for target in file_targets(self.template.graph):
            column = self.template.column_of(target)
            value = None if column is None else row.cells.get(column)
            # Unlike Path's method, it leaves the name of an unknown user as it is.
            given = "" if value is None else os.path.expanduser(str(value))  # noqa: PTH111
            path = self.defaults[target] if value is None else self.table.path.parent / given
            named[target] = path.absolute(), self.template.graph[target.node]["class_type"]
        return named

    def digests(self, row: Row) -> dict[Target, str]:
        """The content of every file of a row."""
        return {target: self.facts[file].digest for target, file in self.files(row).items()}

    def refuse(self, row: int, column: str, reason: str) -> None:
        """Refuse a row."""
        self.faults.setdefault(row, Fault(row, column, reason))

    def num_done(self) -> int:
        """The rows whose files exist."""
        return sum(len(clip.intact) for clip in self.clips.values())

    def waiting(self) -> list[Clip]:
        """The clips that are to be rendered."""
        return [clip for clip in self.clips.values() if not clip.is_done]

    def check_on(self, object_info: Mapping[str, Any]) -> None:
        """Refuse the rows with values that a server would refuse.

        Raises:
            GraphFault: the server lacks nodes of the graph.
        """
        check_nodes(self.template.graph, object_info)
        for clip in list(self.clips.values()):
            try:
                check_values(self.template, self.filled(clip), object_info)
            except CellFault as fault:
                for row in clip.rows:
                    self.refuse(row, fault.column, str(fault))
                del self.clips[clip.identity]


def make_plan(table: Table, template: Template, folder: Path, ledger: Ledger) -> Plan:
    """Make all checks that do not need a server, and find the clips that are done.

    Raises:
        GraphFault: the graph names a file that does not exist.
    """
    plan = Plan(table, template, default_files(template, table))
    plan.names = dict(_names(plan))
    plan.facts = look_at((file for row in table.rows for file in plan.files(row).values()), ledger)
    for row in table.rows:
        if row.number not in plan.faults:
            _add(plan, row, plan.names[row.number])
    found = ledger.outputs()
    for clip in plan.clips.values():
        _settle(plan, clip, folder, ledger, found)
    ledger.commit()
    return plan


def default_files(template: Template, table: Table) -> dict[Target, Path]:
    """The graph's own file for each input that names one: beside the table, or a shipped one."""
    defaults: dict[Target, Path] = {}
    for target in file_targets(template.graph):
        name = str(template.graph[target.node]["inputs"][target.name])
        places = [folder / name for folder in (table.path.parent, ASSETS)]
        path = next((place for place in places if place.is_file()), None)
        column = template.column_of(target)
        if path is None and (column is None or any(column not in row.cells for row in table.rows)):
            loader = f"{template.graph[target.node]['class_type']} (node {target.node})"
            raise GraphFault(
                f"{loader} names {name}, which is not beside the table; add the column {target.node}.{target.name}, or "
                "fill it in each row"
            )
        defaults[target] = path or places[0]
    return defaults


def _names(plan: Plan) -> Iterator[tuple[int, str]]:
    """(row, output name) of every row; rows with an invalid or duplicate name are refused."""
    seen: dict[str, list[int]] = {}
    for row in plan.table.rows:
        given = row.cells.get(OUTPUT)
        if given is None:
            sound = next((path for path, kind in plan.files(row).values() if kind == "LoadAudio"), None)
            given = f"row_{row.number}" if sound is None else sound.stem
        name = str(given)
        if name.lower().endswith(VIDEO_SUFFIXES):
            name = name.rpartition(".")[0]
        problem = name_problem(name)
        if problem is not None:
            plan.refuse(row.number, OUTPUT, problem)
        # Some file systems do not distinguish upper from lower case, or two spellings of the same accent.
        seen.setdefault(unicodedata.normalize("NFC", name).casefold(), []).append(row.number)
        yield row.number, name
    for name, rows in seen.items():
        for number in rows if len(rows) > 1 else []:
            others = ", ".join(f"row {other}" for other in rows if other != number)
            plan.refuse(number, OUTPUT, f"the output name {name!r} is also that of {others}; give each row its own")


def name_problem(name: str) -> str | None:
    """Why a name cannot be used in the output folder; None if it can."""
    try:
        size = len(name.encode())
    except UnicodeEncodeError:
        return f"{name!r} has characters that cannot be written in a file name"
    path = PurePosixPath(name)
    if not name.strip() or path.is_absolute() or any(part in ("..", ".") for part in name.split("/")):
        return f"{name!r} is not a file name in the output folder"
    if FORBIDDEN.search(name) or any(part.startswith(".") or part.endswith((".", " ")) for part in path.parts):
        return f"{name!r} has characters or dots that some systems do not allow in file names"
    if any(RESERVED.fullmatch(part) for part in path.parts):
        return f"{name!r}: Windows reserves this name"
    if any(part.lower().endswith(VIDEO_SUFFIXES) for part in path.parts[:-1]):
        return f"{name!r}: a folder must not be named like a video"
    if size > MOST_NAME_BYTES or any(len(part.encode()) > MOST_PART_BYTES for part in path.parts):
        return f"{name[:40]!r}... is longer than {MOST_NAME_BYTES} bytes, or a part of it than {MOST_PART_BYTES}"
    return None


def _add(plan: Plan, row: Row, name: str) -> None:
    files = plan.files(row)
    for target, file in files.items():
        fault = plan.facts[file].fault
        if fault is not None:
            plan.refuse(row.number, plan.template.column_of(target) or target.name, fault)
            return
    try:
        filled = plan.template.fill(row.cells)
    except CellFault as fault:
        plan.refuse(row.number, fault.column, str(fault))
        return
    key = identity(filled, plan.digests(row))
    seconds = max((plan.facts[file].seconds or 0.0 for file in files.values()), default=0.0)
    clip = plan.clips.setdefault(key, Clip(key, row, seconds))
    clip.names.append(name)
    clip.rows.append(row.number)


def _settle(plan: Plan, clip: Clip, folder: Path, ledger: Ledger, found: Mapping[str, Output]) -> None:
    """Find a clip's existing files. Rows whose file was not written by the batch are refused."""
    result = ledger.result(clip.identity)
    suffixes = [] if result is None else [file["suffix"] for file in result["files"]]
    for name, row in list(zip(clip.names, clip.rows, strict=True)):
        strange = [path for path in _candidates(folder, name) if not _is_own(folder, path, found, ledger)]
        if strange:
            path = strange[0].relative_to(folder).as_posix()
            state = "was changed after it was rendered" if path in found else "exists and was not made by this batch"
            plan.refuse(row, OUTPUT, f"{path} {state}; move it, or choose another name")
            clip.names.remove(name)
            clip.rows.remove(row)
            continue
        paths = output_paths(name, suffixes)
        owners = [found[path] for path in paths if path in found and (folder / path).is_file()]
        wanted = [(clip.identity, part) for part in range(len(paths))]
        if paths and [(output.clip, output.part) for output in owners] == wanted:
            clip.intact.append(name)


def _candidates(folder: Path, name: str) -> list[Path]:
    return [path for suffix in VIDEO_SUFFIXES if (path := folder / f"{name}{suffix}").exists()]


def _is_own(folder: Path, path: Path, found: Mapping[str, Output], ledger: Ledger) -> bool:
    relative = path.relative_to(folder).as_posix()
    output = found.get(relative)
    if output is None or not path.is_file():
        return False
    stamp = Stamp.of(path)
    if stamp == output.stamp:
        return True
    result = ledger.result(output.clip)
    # A file restored from a backup has another time.
    if result is None or digest_of(path) != result["files"][output.part]["digest"]:
        return False
    ledger.note_output(relative, Output(output.clip, output.part, stamp))
    return True


def output_paths(name: str, suffixes: list[str]) -> list[str]:
    """The paths of a clip's files under a name, relative to the output folder."""
    if len(suffixes) == 1:
        return [f"{name}{suffixes[0]}"]
    return [f"{name}_{number}{suffix}" for number, suffix in enumerate(suffixes, start=1)]
