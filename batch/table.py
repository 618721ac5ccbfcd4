"""Reads the table of clips (CSV, JSON Lines or Parquet) into rows of cells."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SEPARATORS = ",;\t"

Cell = str | int | float | bool


class TableFault(ValueError):
    """The table cannot be used; the message names the file, and the row if one is invalid."""


@dataclass(frozen=True)
class Row:
    """One clip: the number that the user sees in an editor, and the cells that are not empty."""

    number: int
    cells: dict[str, Cell]


@dataclass(frozen=True)
class Table:
    """The columns in order, and the rows."""

    path: Path
    columns: tuple[str, ...]
    rows: tuple[Row, ...]


def read_table(path: Path) -> Table:
    """Read a table by the suffix of its name.

    Raises:
        TableFault: it cannot be read, is empty, or a row does not fit its columns.
    """
    readers = {".csv": _csv, ".tsv": _csv, ".jsonl": _json_lines, ".ndjson": _json_lines, ".parquet": _parquet}
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise TableFault(f"{path}: use a table in .csv, .jsonl or .parquet")
    try:
        rows = tuple(reader(path))
    except OSError as error:
        raise TableFault(f"{path}: {(error.strerror or str(error)).lower()}") from error
    except UnicodeDecodeError as error:
        raise TableFault(f"{path}: the table cannot be read ({error}); save it as UTF-8") from error
    if not rows:
        raise TableFault(f"{path}: the table has no rows")
    columns = tuple(dict.fromkeys(name for row in rows for name in row.cells))
    return Table(path, columns, tuple(_without_empty(row) for row in rows))


def _without_empty(row: Row) -> Row:
    filled = {name: value for name, value in row.cells.items() if value is not None and value != ""}
    return Row(row.number, filled)


def _csv(path: Path) -> Iterator[Row]:
    with path.open(encoding="utf-8-sig", newline="") as stream:
        first = stream.readline()
        stream.seek(0)
        # The separator in spreadsheets' files depends on the language.
        separator = max(SEPARATORS, key=first.count)
        lines = csv.reader(stream, delimiter=separator, strict=True)
        header = [name.strip() for name in next(lines, [])]
        twice = {name for name in header if name and header.count(name) > 1}
        if twice or "" in header:
            problem = f"column {sorted(twice)[0]} appears twice" if twice else "a column has no name"
            raise TableFault(f"{path}, row 1: {problem}")
        for number, cells in enumerate(_checked(path, lines), start=2):
            if not any(cell.strip() for cell in cells):
                continue
            if len(cells) != len(header):
                raise TableFault(f"{path}, row {number}: {_count_problem(len(cells), len(header), separator)}")
            yield Row(number, dict(zip(header, (cell.strip() for cell in cells), strict=True)))


def _checked(path: Path, lines: Any) -> Iterator[list[str]]:
    """The rows of a reader; the row of an error is the one that it was reading."""
    number = 1
    try:
        for number, cells in enumerate(lines, start=2):  # noqa: B007
            yield cells
    except csv.Error as error:
        raise TableFault(
            f"{path}, row {number + 1}: it cannot be read ({error}); close each double quote, and double those inside "
            "cells"
        ) from error


def _count_problem(cells: int, columns: int, separator: str) -> str:
    counts = f"{cells} cell{'' if cells == 1 else 's'} for {columns} columns"
    if cells < columns:
        return f"{counts}; write {separator!r} for each empty cell, and save the table as UTF-8"
    return f"{counts}; put cells that contain {separator!r} in double quotes"


def _json_lines(path: Path) -> Iterator[Row]:
    with path.open(encoding="utf-8-sig") as stream:
        for number, line in enumerate(stream, start=1):
            if not line.strip():
                continue
            try:
                cells: Any = json.loads(line)
            except ValueError as error:
                raise TableFault(f"{path}, row {number}: it is not JSON ({error})") from error
            yield Row(number, _plain(cells, f"{path}, row {number}"))


def _parquet(path: Path) -> Iterator[Row]:
    try:
        from pyarrow import ArrowException, parquet
    except ImportError as error:
        raise TableFault(f"{path}: Parquet needs pyarrow (pip install pyarrow)") from error
    try:
        number = 0
        for batch in parquet.ParquetFile(path).iter_batches():
            for cells in batch.to_pylist():
                number += 1
                yield Row(number, _plain(cells, f"{path}, row {number}"))
    except ArrowException as error:
        raise TableFault(f"{path}: it is not a Parquet file ({error})") from error


def _plain(cells: Any, where: str) -> dict[str, Any]:
    """The cells of a row that is an object of texts, numbers and truth values. Raises TableFault for others."""
    if not isinstance(cells, dict):
        raise TableFault(f"{where}: a row is an object with a value for each column")
    for name, value in cells.items():
        if value is not None and not isinstance(value, Cell):
            raise TableFault(f"{where}, column {name}: expected a text or a number, got {type(value).__name__}")
    return cells
