"""Finished files appear under their names once, whatever moment the driver is stopped at."""

from __future__ import annotations

from pathlib import Path

import pytest

from asymtalker.batch.files import digest_of
from asymtalker.batch.ledger import Ledger, Output, Stamp
from asymtalker.batch.plan import Clip, Plan
from asymtalker.batch.shelf import Part, Record, Shelf, part_path
from asymtalker.batch.storage import Depot, SentStorage
from asymtalker.batch.table import Row, Table


def plan_of(*clips: Clip) -> Plan:
    rows = tuple(clip.row for clip in clips)
    plan = Plan(Table(Path("clips.csv"), (), rows), None, {})  # type: ignore[arg-type]
    plan.clips = {clip.identity: clip for clip in clips}
    return plan


def clip(identity: str, *names: str) -> Clip:
    return Clip(identity, Row(2, {}), 1.0, list(names), list(range(2, 2 + len(names))))


def finish(parts: Path, identity: str, *contents: bytes) -> Record:
    """What a worker leaves."""
    files = []
    for number, content in enumerate(contents):
        path = part_path(parts, identity, number, ".mp4")
        path.write_bytes(content)
        files.append(Part(".mp4", len(content), digest_of(path)))
    record = Record(identity, tuple(files), {"seconds": 1.0}, b"jpeg")
    record.save(parts)
    return record


def videos(out: Path) -> dict[str, bytes]:
    return {path.relative_to(out).as_posix(): path.read_bytes() for path in out.rglob("*.mp4")}


def test_a_clip_appears_under_all_its_names(out: Path, ledger: Ledger) -> None:
    shelf, wanted = Shelf(out, ledger), clip("one", "a", "unit 1/b")
    finish(shelf.parts, "one", b"video")
    assert shelf.publish([wanted], plan_of(wanted)) == {}
    assert wanted.is_done and videos(out) == {"a.mp4": b"video", "unit 1/b.mp4": b"video"}
    assert list(shelf.parts.iterdir()) == [] and ledger.result("one") is not None


def test_several_videos_of_a_graph_are_numbered(out: Path, ledger: Ledger) -> None:
    shelf, wanted = Shelf(out, ledger), clip("one", "a")
    finish(shelf.parts, "one", b"first", b"second")
    shelf.publish([wanted], plan_of(wanted))
    assert videos(out) == {"a_1.mp4": b"first", "a_2.mp4": b"second"}


def test_stopped_before_the_driver_looked(out: Path, ledger: Ledger) -> None:
    finish(Shelf(out, ledger).parts, "one", b"video")
    shelf, wanted = Shelf(out, ledger), clip("one", "a")
    shelf.recover(plan_of(wanted))
    assert wanted.is_done and videos(out) == {"a.mp4": b"video"}


def test_stopped_between_the_ledger_and_the_renaming(out: Path, ledger: Ledger) -> None:
    (out / "a.mp4").write_bytes(b"the clip before its row was changed")
    parts = Shelf(out, ledger).parts
    finish(parts, "one", b"video", b"other")
    first, second = (part_path(parts, "one", number, ".mp4") for number in (0, 1))
    ledger.note_output("a.mp4", Output("one", 0, Stamp.of(first)))
    ledger.note_output("b.mp4", Output("one", 1, Stamp.of(second)))
    # One was renamed, the other not.
    second.replace(out / "b.mp4")
    Shelf(out, ledger)
    assert videos(out) == {"a.mp4": b"video", "b.mp4": b"other"}


def test_half_a_file_of_a_killed_worker_is_removed(out: Path, ledger: Ledger) -> None:
    shelf, wanted = Shelf(out, ledger), clip("one", "a")
    part_path(shelf.parts, "one", 0, ".mp4").write_bytes(b"vid")
    (shelf.parts / "one.json.part").write_text("{")
    shelf.recover(plan_of(wanted))
    assert not wanted.is_done and list(shelf.parts.iterdir()) == []


def test_a_clip_that_is_there_under_another_name_is_copied(out: Path, ledger: Ledger) -> None:
    shelf, wanted = Shelf(out, ledger), clip("one", "a")
    finish(shelf.parts, "one", b"video")
    shelf.publish([wanted], plan_of(wanted))
    renamed = clip("one", "a", "b")
    renamed.intact = ["a"]
    Shelf(out, ledger).recover(plan_of(renamed))
    assert renamed.is_done and videos(out) == {"a.mp4": b"video", "b.mp4": b"video"}


def test_two_rows_may_change_names(out: Path, ledger: Ledger) -> None:
    for names in (("a", "b"), ("b", "a")):
        shelf = Shelf(out, ledger)
        one, two = clip("one", names[0]), clip("two", names[1])
        for identity in ("one", "two"):
            finish(shelf.parts, identity, identity.encode())
        assert shelf.publish([one, two], plan_of(one, two)) == {}
        assert videos(out) == {f"{names[0]}.mp4": b"one", f"{names[1]}.mp4": b"two"}


def test_a_strangers_file_is_not_replaced(out: Path, ledger: Ledger) -> None:
    shelf, wanted = Shelf(out, ledger), clip("one", "a")
    (out / "a.mp4").write_bytes(b"mine")
    finish(shelf.parts, "one", b"video")
    assert "was not made by this batch" in shelf.publish([wanted], plan_of(wanted))["one"]
    assert videos(out) == {"a.mp4": b"mine"} and ledger.result("one") is None


@pytest.mark.parametrize("size", [0, 5, (4 << 20) + 3])
def test_files_sent_between_machines_arrive_whole(out: Path, ledger: Ledger, tmp_path: Path, size: int) -> None:
    depot = Depot(Shelf(out, ledger).parts)
    storage = SentStorage(tmp_path / "worker", depot.read, depot.write, depot.finish)
    source = tmp_path / "speech.wav"
    source.write_bytes(bytes(size))
    assert storage.fetch(source, "digest").read_bytes() == bytes(size)
    # An earlier attempt left a longer file.
    part_path(out / ".batch" / "parts", "one", 0, ".mp4").write_bytes(bytes(9 << 20))
    storage.place("one", 0, ".mp4").write_bytes(bytes(size))
    storage.deliver(Record("one", (Part(".mp4", size, ""),), {}, b""))
    assert Record.load(out / ".batch" / "parts", "one").files[0].bytes == size
    assert part_path(out / ".batch" / "parts", "one", 0, ".mp4").read_bytes() == bytes(size)
