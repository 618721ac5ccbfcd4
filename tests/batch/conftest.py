"""Tables of clips for the tests of the batch."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from asymtalker.batch.ledger import Ledger
from asymtalker.tests.server.media import speech_like, write_portrait, write_wav

WriteTable = Callable[..., Path]


@pytest.fixture
def write_table(tmp_path: Path) -> WriteTable:
    """Write a CSV with the given rows, beside a portrait and speech of half a second."""
    write_portrait(tmp_path / "face.png", 64, 64)
    write_wav(tmp_path / "speech.wav", speech_like(0.5, 8000, 1), 8000)

    def write(*rows: dict[str, Any], name: str = "clips.csv") -> Path:
        path = tmp_path / name
        with path.open("w", newline="", encoding="utf-8") as stream:
            writer = csv.DictWriter(stream, list(dict.fromkeys(name for row in rows for name in row)))
            writer.writeheader()
            writer.writerows(rows)
        return path

    return write


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """An output folder."""
    folder = tmp_path / "out"
    (folder / ".batch").mkdir(parents=True)
    return folder


@pytest.fixture
def ledger(out: Path) -> Iterator[Ledger]:
    """The ledger of the output folder."""
    with Ledger(out / ".batch" / "ledger.sqlite") as opened:
        yield opened
