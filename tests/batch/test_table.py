"""Tables in every form, and what is said about broken ones."""

from __future__ import annotations

from pathlib import Path

import pytest

from asymtalker.batch.table import TableFault, read_table

BROKEN = {
    "empty.csv": ("", "the table has no rows"),
    "header.csv": ("portrait,audio\n", "the table has no rows"),
    "ragged.csv": ("portrait,audio\na.png,b.wav\na.png\n", "row 3: 1 cell for 2 columns; write ','"),
    "long.csv": ("portrait,audio\na.png,b.wav,c\n", "row 2: 3 cells for 2 columns; put cells that contain ','"),
    "twice.csv": ("audio,audio\na,b\n", "row 1: column audio appears twice"),
    "unnamed.csv": ("audio,\na,b\n", "row 1: a column has no name"),
    "quote.csv": ('audio,output\na,b\n"a,b\n', "row 3: it cannot be read"),
    "latin.csv": ("audio\né.wav\n", "save it as UTF-8"),
    "text.jsonl": ('{"audio": "a"}\nspeech.wav\n', "row 2: it is not JSON"),
    "list.jsonl": ("[1]\n", "row 1: a row is an object"),
    "nested.jsonl": ('{"audio": ["a"]}\n', "row 1, column audio: expected a text or a number, got list"),
    "bytes.parquet": ("PAR", "not a Parquet file"),
    "sheet.xlsx": ("", "use a table in .csv, .jsonl or .parquet"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_table_is_named_with_its_row(tmp_path: Path, name: str) -> None:
    content, message = BROKEN[name]
    if name.endswith(".parquet"):
        pytest.importorskip("pyarrow")
    (tmp_path / name).write_bytes(content.encode("latin-1"))
    with pytest.raises(TableFault) as raised:
        read_table(tmp_path / name)
    assert str(raised.value).startswith(str(tmp_path / name)) and message in str(raised.value)


def test_a_missing_table(tmp_path: Path) -> None:
    with pytest.raises(TableFault, match="no such file"):
        read_table(tmp_path / "none.csv")


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_csv_as_spreadsheets_write_it(tmp_path: Path, separator: str) -> None:
    lines = ["audio,output", "a.wav,one", ",", "b.wav,"]
    path = tmp_path / "clips.csv"
    path.write_bytes(b"\xef\xbb\xbf" + "\r\n".join(lines).replace(",", separator).encode())
    table = read_table(path)
    assert table.columns == ("audio", "output")
    # The numbers are the lines of an editor; empty cells leave the graph's value.
    assert [(row.number, row.cells) for row in table.rows] == [
        (2, {"audio": "a.wav", "output": "one"}),
        (4, {"audio": "b.wav"}),
    ]


def test_typed_tables_keep_their_types(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    rows = [{"audio": "a.wav", "S.seed": 2**60 + 1, "S.on": True}, {"audio": "b.wav", "S.seed": None, "S.on": False}]
    parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "clips.parquet")
    (tmp_path / "clips.jsonl").write_text(
        '{"audio": "a.wav", "S.seed": 1152921504606846977, "S.on": true}\n\n'
        '{"audio": "b.wav", "S.seed": null, "S.on": false}\n',
        encoding="utf-8",
    )
    for name, numbers in (("clips.parquet", [1, 2]), ("clips.jsonl", [1, 3])):
        found = read_table(tmp_path / name).rows
        assert [row.number for row in found] == numbers
        assert found[0].cells == rows[0] and found[1].cells == {"audio": "b.wav", "S.on": False}
