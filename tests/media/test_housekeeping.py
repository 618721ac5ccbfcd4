"""Listing, sizing, removing and capping spools; disk checks."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from asymtalker.media import (
    MediaError,
    SpoolHeader,
    SpoolReader,
    SpoolWriter,
    check_disk,
    enforce_cap,
    estimate_spool_bytes,
    list_spools,
    remove_spool,
    spool_bytes,
)
from asymtalker.tests.helpers import moving_frames


def make_spool(root: Path, name: str, age_s: int = 0, chunks: int = 1) -> Path:
    folder = root / name
    with SpoolWriter(folder, SpoolHeader(name, 64, 48)) as writer:
        for _ in range(chunks):
            writer.append(moving_frames(4))
    stamp = (folder / "manifest.jsonl").stat().st_mtime - age_s
    os.utime(folder / "manifest.jsonl", (stamp, stamp))
    return folder


def test_listing_is_oldest_first_and_ignores_strangers(tmp_path: Path) -> None:
    make_spool(tmp_path, "new")
    make_spool(tmp_path, "old", age_s=100, chunks=2)
    (tmp_path / "unrelated").mkdir()
    with SpoolWriter(tmp_path / "busy", SpoolHeader("busy", 64, 48)):
        spools = {spool.folder.name: spool for spool in list_spools(tmp_path)}
    assert next(iter(spools)) == "old" and set(spools) == {"old", "new", "busy"}
    assert (spools["old"].num_segments, spools["old"].num_frames, spools["old"].in_use) == (2, 8, False)
    assert spools["busy"].in_use
    assert spools["old"].num_bytes == spool_bytes(tmp_path / "old") > 0
    assert list_spools(tmp_path / "absent") == []


def test_removal(tmp_path: Path) -> None:
    folder = make_spool(tmp_path, "job")
    reader = SpoolReader(folder)
    remove_spool(folder)
    remove_spool(folder)
    assert not folder.exists()
    with pytest.raises(MediaError):
        list(reader.frames())


def test_removal_spares_what_is_in_use_or_foreign(tmp_path: Path) -> None:
    folder = make_spool(tmp_path, "job")
    frames = SpoolReader(folder).frames()
    next(frames)
    with pytest.raises(MediaError, match="in use"):
        remove_spool(folder)
    frames.close()  # type: ignore[attr-defined]
    remove_spool(folder)
    (tmp_path / "precious").mkdir()
    with pytest.raises(MediaError, match="holds no stored frames and is not deleted"):
        remove_spool(tmp_path / "precious")


def test_cap_removes_the_oldest_that_nobody_uses(tmp_path: Path) -> None:
    folders = [make_spool(tmp_path, f"job{age}", age_s=age) for age in (400, 300, 200, 100)]
    size = spool_bytes(folders[0])
    with SpoolWriter(folders[0], SpoolHeader("job400", 64, 48)):
        os.utime(folders[0] / "manifest.jsonl", (0, 0))
        removed = enforce_cap(tmp_path, 2 * size + 100, keep=[folders[1]])
    assert [spool.folder for spool in removed] == folders[2:]
    assert enforce_cap(tmp_path, 10 * size) == []
    assert sorted(spool.folder for spool in list_spools(tmp_path)) == sorted(folders[:2])


def test_disk_check_says_the_numbers(tmp_path: Path) -> None:
    assert estimate_spool_bytes(15_000, 512, 512) == pytest.approx(4.72e9, rel=0.01)
    check_disk(tmp_path / "not" / "there" / "yet", 1)
    with pytest.raises(MediaError, match=r"the frames: it needs about 1000000\.0 GB .* GB is free"):
        check_disk(tmp_path, 10**15, "the frames")
