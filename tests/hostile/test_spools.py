"""Damaged and foreign things among the spools: another job's cost nothing, a job's own are made anew, none escapes."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import random
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from asymtalker.tests.helpers import Import, moving_frames

SEED = 19
CHUNK = 4
SIZE = 16
NOBODY = 65534
NAN, HUGE = float("nan"), 10**12
Damage = Callable[[Path, Path], None]
"""(a spool of three chunks, a folder elsewhere that must stay as it is) -> nothing."""


def ids(*names: str) -> tuple[str, ...]:
    return tuple(f"{ord(name):032x}" for name in names)


@pytest.fixture(scope="module")
def truth() -> np.ndarray[Any, Any]:
    """The frames of job a-b-c, [3, CHUNK, SIZE, SIZE, 3]."""
    return moving_frames(3 * CHUNK, SIZE, SIZE).reshape(3, CHUNK, SIZE, SIZE, 3)


@pytest.fixture
def scene(pack: Import, folders: Path) -> SimpleNamespace:
    """Job a-b-c, whose spool is to be damaged, and a-b-d, which can take over its first two chunks."""
    jobs, rollout = pack("jobs.job"), pack("models.rollout")
    spans = tuple(rollout.ChunkSpan(index, index * CHUNK, 0, CHUNK) for index in range(3))
    reference = SimpleNamespace(latents=torch.zeros(1, 2, 3, 1, 1), size=(SIZE, SIZE), frames_per_chunk=CHUNK)
    made = SimpleNamespace(
        jobs=jobs,
        kept=lambda remove: pack("jobs.kept").kept_jobs(remove).text,
        media=pack("media"),
        reference=reference,
    )
    made.state = lambda index: jobs.pack_state(rollout.ContinuityState(index + 1, torch.zeros(1, 2, 1, 1, 1)))
    made.own = jobs.Job("settings", spans, ids("a", "b", "c"))
    made.other = jobs.Job("settings", spans, ids("a", "b", "d"))
    made.root = jobs.spool_root()
    made.header = lambda job: jobs.spool_header(job, reference, "tiny", 1, "until saved")
    return made


def write(scene: SimpleNamespace, job: Any, frames: np.ndarray[Any, Any]) -> Path:
    """Finish a job from wherever its spool is, as the Sampler does; returns the spool's folder."""
    folder = scene.root / job.job_id
    scene.jobs.drop_unwanted(job, "until saved")
    with scene.media.SpoolWriter(folder, scene.header(job)) as spool:
        scene.jobs.resume(spool, job, scene.reference)
        for index in range(spool.num_segments, 3):
            spool.append(frames[index], scene.state(index), {"x": 1.0}, job.chunk_ids[index])
    return folder


@pytest.fixture
def damaged(scene: SimpleNamespace, truth: np.ndarray[Any, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The finished spool of job a-b-c, made once."""
    folder = scene.root / scene.own.job_id
    made = tmp_path_factory.getbasetemp() / "finished spool"
    if not made.is_dir():
        shutil.copytree(write(scene, scene.own, truth), made)
    elif not folder.is_dir():
        shutil.copytree(made, folder)
    return folder


def edit_header(**changes: Any) -> Damage:
    def damage(spool: Path, _: Path) -> None:
        fields = {**json.loads((spool / "job.json").read_text()), **changes}
        (spool / "job.json").write_text(json.dumps(fields))

    return damage


def edit_metadata(**changes: Any) -> Damage:
    def damage(spool: Path, elsewhere: Path) -> None:
        fields = json.loads((spool / "job.json").read_text())["metadata"]
        edit_header(metadata={**fields, **changes})(spool, elsewhere)

    return damage


def edit_line(number: int, **changes: Any) -> Damage:
    def damage(spool: Path, _: Path) -> None:
        lines = [json.loads(line) for line in (spool / "manifest.jsonl").read_text().splitlines()]
        lines[number].update(changes)
        (spool / "manifest.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))

    return damage


def put(name: str, content: bytes) -> Damage:
    def damage(spool: Path, _: Path) -> None:
        (spool / name).write_bytes(content)

    return damage


def replaced(name: str, how: str) -> Damage:
    """Something else in a file's place."""

    def damage(spool: Path, elsewhere: Path) -> None:
        path = spool / name
        path.unlink(missing_ok=True)
        if how == "folder":
            path.mkdir()
            (path / "file").write_text("x")
        elif how == "link":
            path.symlink_to(elsewhere / "precious")
        elif how == "link to a folder":
            path.symlink_to(elsewhere, target_is_directory=True)
        elif how == "dead link":
            path.symlink_to(elsewhere / "not there")
        elif how == "pipe":
            os.mkfifo(path)

    return damage


def flipped(index: int) -> Damage:
    def damage(spool: Path, _: Path) -> None:
        path = spool / f"{index:06d}.segment"
        content = bytearray(path.read_bytes())
        content[random.Random(SEED + index).randrange(len(content))] ^= 1
        path.write_bytes(content)

    return damage


def cases() -> Iterator[tuple[str, Damage]]:
    """Every kind of damage inside of a spool."""
    bad: dict[str, list[Any]] = {
        "job_id": [None, 1, "", [], "another"],
        "width": ["16", 16.5, -1, 0, HUGE, True, None, NAN],
        "fps": ["0/0", "25/0", "0", "-25", "nan", "inf", "1e99999999", "9" * 5000, 25, None, []],
        "metadata": [None, [], "x", {"x": {"y": {}}}],
        "version": [2, "1", None, NAN],
    }
    for name, values in bad.items():
        for value in values:
            yield f"header {name} {str(value)[:12]!r}", edit_header(**{name: value})
    plain: dict[str, list[Any]] = {
        "num_frames": [0, -1, "12", None, NAN, 1e99],
        "seed": ["1", -1, None],
        "settings_id": [None, 1, "other"],
        "model": [None, 5, "\ud800", "x" * 100_000],
        "keep": [None, "forever", 0],
    }
    for name, values in plain.items():
        for value in values:
            yield f"metadata {name} {str(value)[:12]!a}", edit_metadata(**{name: value})
    line: dict[str, list[Any]] = {
        "index": [-1, "0", True, 1.5],
        "first_frame": [-4, 1, None],
        "frames": [0, -1, 3, 5, 4.0, "4", None, NAN, HUGE],
        "video_bytes": [0, -1, HUGE],
        "state_bytes": [-1, HUGE],
        "checksum": [None, "", 7],
        "codec": ["x", None, ["h264"]],
        "stats": [None, [], {"x": "y"}, {"x": None}, {"x": 10**400}],
        "identity": [None, 1, "other"],
        "extra": [1],
    }
    for name, values in line.items():
        for value in values:
            for index in (1, 2) if name == "frames" else (1,):
                yield f"line {index} {name} {str(value)[:12]!r}", edit_line(index, **{name: value})
    contents = {
        "empty": b"",
        "null": b"null\n",
        "list": b"[]\n",
        "cut": b'{"version"',
        "zeros": bytes(500),
        "not text": b"\xff\xfe\x00\n",
        "nested list": b"[" * 100_000 + b"\n",
        "nested object": b'{"a":' * 100_000 + b"\n",
        "long": b" " * (3 << 20) + b"\n",
    }
    for file in ("job.json", "manifest.jsonl"):
        for name, content in contents.items():
            yield f"{file} {name}", put(file, content)
    for file in (
        "job.json",
        "manifest.jsonl",
        "000001.segment",
        "held",
        "saved",
        "000001.segment.part",
        "job.json.part",
    ):
        for how in ("gone", "folder", "link", "dead link", "link to a folder", "pipe"):
            yield f"{file} {how}", replaced(file, how)
    for index in range(3):
        yield f"flipped byte {index}", flipped(index)
        yield f"cut {index}", put(f"{index:06d}.segment", b"short")
    yield "a stray folder", replaced("@eaDir", "folder")
    yield "a stray link", replaced("stray", "link to a folder")


CASES = dict(cases())


@pytest.fixture
def elsewhere(tmp_path: Path) -> Iterator[Path]:
    """A folder that nothing may change."""
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    for name in ("precious", "job.json", "000000.segment"):
        (folder / name).write_text(name)
    yield folder
    assert {path.name: path.read_text() for path in folder.iterdir()} == {
        name: name for name in ("precious", "job.json", "000000.segment")
    }


@pytest.mark.parametrize("name", CASES)
def test_a_damaged_spool_costs_no_other_job_anything(
    scene: SimpleNamespace, truth: np.ndarray[Any, Any], elsewhere: Path, damaged: Path, name: str
) -> None:
    CASES[name](damaged, elsewhere)
    listed = scene.kept("")
    listed.encode()
    assert damaged.name[:8] in listed or not any(damaged.iterdir())
    good = write(scene, scene.other, truth)
    np.testing.assert_array_equal(list(scene.media.SpoolReader(good).frames()), truth.reshape(-1, SIZE, SIZE, 3))
    scene.media.enforce_cap(scene.root, 0, keep=[good])
    assert (good / "job.json").is_file(), "the finished job stays"
    if damaged.exists():
        scene.kept(damaged.name)
        assert not damaged.exists()
    assert scene.kept("").startswith("1 kept")


@pytest.mark.parametrize("name", CASES)
def test_a_jobs_own_damaged_spool_is_made_anew(
    scene: SimpleNamespace, truth: np.ndarray[Any, Any], elsewhere: Path, damaged: Path, name: str
) -> None:
    CASES[name](damaged, elsewhere)
    if name in ("header job_id 'another'", "header width '64'"):
        with pytest.raises(scene.media.MediaError, match="holds frames of another job"):
            write(scene, scene.own, truth)
        return
    write(scene, scene.own, truth)
    np.testing.assert_array_equal(list(scene.media.SpoolReader(damaged).frames()), truth.reshape(-1, SIZE, SIZE, 3))


@pytest.mark.parametrize("how", ["folder", "link", "dead link", "link to a folder"])
def test_a_lock_that_is_no_file_is_refused_by_name_and_can_be_removed(
    scene: SimpleNamespace, truth: np.ndarray[Any, Any], elsewhere: Path, how: str
) -> None:
    folder = write(scene, scene.own, truth)
    replaced("lock", how)(folder, elsewhere)
    with pytest.raises(scene.media.MediaError, match=r"lock is not a plain file.*Delete that folder"):
        write(scene, scene.own, truth)
    write(scene, scene.other, truth)
    assert f"{folder.name[:8]} | " in scene.kept("")
    scene.kept(folder.name)
    assert not folder.exists()


def test_what_is_no_spool_is_left_alone(
    scene: SimpleNamespace, truth: np.ndarray[Any, Any], elsewhere: Path, caplog: pytest.LogCaptureFixture
) -> None:
    scene.root.mkdir(parents=True)
    (scene.root / "@eaDir").mkdir()
    (scene.root / "@eaDir" / "x").write_text("x")
    (scene.root / "lost+found").mkdir()
    (scene.root / ".DS_Store").write_text("x")
    (scene.root / "linked").symlink_to(elsewhere, target_is_directory=True)
    file, link, dead = (scene.root / name for name in ids("x", "y", "z"))
    file.write_text("a file in a job's place")
    link.symlink_to(elsewhere, target_is_directory=True)
    dead.symlink_to(scene.root / "nowhere")
    caplog.set_level("INFO")
    good = write(scene, scene.own, truth)
    scene.media.enforce_cap(scene.root, 0, keep=[good])
    listed = scene.kept("")
    assert listed.startswith("4 kept") and listed.count("| unknown |") == 3
    assert f"{link} is skipped: it is a link" in caplog.text
    scene.kept(", ".join(ids("x", "y", "z")))
    assert sorted(path.name for path in scene.root.iterdir()) == sorted(
        ["@eaDir", "lost+found", ".DS_Store", "linked", good.name]
    )


@pytest.mark.parametrize("index", range(3))
def test_a_link_or_a_file_in_a_jobs_own_place_is_refused(
    scene: SimpleNamespace, truth: np.ndarray[Any, Any], elsewhere: Path, index: int
) -> None:
    scene.root.mkdir(parents=True)
    folder = scene.root / scene.own.job_id
    if index == 0:
        folder.write_text("x")
    else:
        folder.symlink_to(elsewhere if index == 1 else elsewhere / "not there", target_is_directory=True)
    with pytest.raises(scene.media.MediaError, match=r"is (a link|not a folder)"):
        write(scene, scene.own, truth)


@pytest.fixture
def as_nobody(scene: SimpleNamespace, comfy: Import) -> Iterator[Callable[[], Any]]:
    """Act as a user without rights, in a user folder of that user's."""
    if os.name == "nt" or os.geteuid() != 0:
        pytest.skip("only root can act as somebody else")
    user = Path(tempfile.mkdtemp())
    comfy("folder_paths").set_user_directory(str(user))
    scene.root = scene.jobs.spool_root()
    scene.root.mkdir(parents=True)
    for folder in (user, *scene.root.parents[:1], scene.root):
        os.chown(folder, NOBODY, NOBODY)

    @contextlib.contextmanager
    def acting() -> Iterator[None]:
        os.seteuid(NOBODY)
        try:
            yield
        finally:
            os.seteuid(0)

    yield acting
    shutil.rmtree(user)


@pytest.mark.parametrize("mode", [0o755, 0o700, 0o711, 0o000])
def test_a_spool_that_another_user_made(
    scene: SimpleNamespace, truth: np.ndarray[Any, Any], as_nobody: Callable[[], Any], mode: int
) -> None:
    foreign = write(scene, scene.own, truth)
    os.utime(foreign / "manifest.jsonl", (0, 0))
    scene.media.mark_saved(foreign)
    foreign.chmod(mode)
    with as_nobody():
        good = write(scene, scene.other, truth)
        assert scene.media.SpoolReader(good).num_frames == 3 * CHUNK
        assert scene.media.enforce_cap(scene.root, 1, keep=[good]) == []
        text = scene.kept(f"{foreign.name}, {good.name}")
        assert f"{foreign.name[:8]} was not removed: " in text and "permission" in text
        assert text.startswith("1 kept") and not good.exists()
        with pytest.raises(scene.media.MediaError, match="permission"):
            write(scene, scene.own, truth)
    assert foreign.is_dir() and (foreign / "000002.segment").is_file()


def test_what_cannot_be_deleted_does_not_cost_the_good_ones(
    scene: SimpleNamespace, truth: np.ndarray[Any, Any], as_nobody: Callable[[], Any]
) -> None:
    foreign = write(scene, scene.own, truth)
    os.utime(foreign / "manifest.jsonl", (0, 0))
    with as_nobody():
        good = write(scene, scene.other, truth)
        newest = write(scene, dataclasses.replace(scene.other, chunk_ids=ids("e", "f", "g")), truth)
        size = scene.media.spool_bytes(good)
        assert scene.media.enforce_cap(scene.root, 2 * size + 2000, keep=[newest]) == []
        assert good.is_dir()


@pytest.mark.parametrize("keep", ["Never", "", "delete", None, 3, [], "for extending "])
def test_an_unknown_keep_decides_nothing(pack: Import, scene: SimpleNamespace, keep: Any) -> None:
    continuity = pack("models.rollout").ContinuityOptions()
    with pytest.raises(ValueError, match=r"keep: .* is not a choice; use one of until saved, for extending, never"):
        pack("jobs.sampling").Settings(1, 2, "auto", 0.0, 0.0, continuity, keep)
