"""Locks: disks that have none, full disks, and processes that remove what others are looking at."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from asymtalker.media import FolderBusyError, FolderLock, MediaError, SpoolHeader, SpoolWriter
from asymtalker.media.locks import LOCK_NAME
from asymtalker.tests.helpers import moving_frames

REPOSITORY = Path(__file__).parents[2]

_NO_FLOCK = """
#include <errno.h>
int flock(int descriptor, int operation) { errno = %s; return -1; }
"""


@pytest.fixture(scope="module")
def without_flock(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], dict[str, str]]:
    """The environment of a process whose file systems have no flock: the C library's call fails with an errno."""
    compiler = shutil.which("cc")
    if compiler is None or not sys.platform.startswith("linux"):
        pytest.skip("needs Linux and a C compiler")
    folder = tmp_path_factory.mktemp("flock")

    def environment(error: str) -> dict[str, str]:
        library = folder / f"{error}.so"
        if not library.exists():
            source = folder / f"{error}.c"
            source.write_text(_NO_FLOCK % error)
            subprocess.run([compiler, "-shared", "-fPIC", "-o", str(library), str(source)], check=True)
        return {**os.environ, "LD_PRELOAD": str(library), "OMP_NUM_THREADS": "1"}

    return environment


_WORK = """
import sys
from pathlib import Path
import numpy as np
from asymtalker.media import *
root, frames = Path(sys.argv[1]), np.zeros((4, 48, 64, 3), np.uint8)
header = SpoolHeader("job", 64, 48)
with SpoolWriter(root / "job", header) as writer:
    assert not writer.is_exclusive
    for busy in (lambda: SpoolWriter(root / "job", header), lambda: remove_spool(root / "job")):
        try:
            busy()
            raise SystemExit("this process keeps itself out")
        except FolderBusyError as error:
            assert "in use by process" in str(error)
    assert list_spools(root)[0].in_use
    writer.append(frames)
first, second = (FolderLock(root / "job", shared=True, name=HELD_NAME) for _ in range(2))
first.release()
assert list_spools(root)[0].in_use
second.release()
second.release()
assert len(list(SpoolReader(root / "job").frames())) == 4
assert not list_spools(root)[0].in_use
part = root / "out" / ".other.0123456789ab.part"
part.mkdir(parents=True)
(part / "lock").touch()
encode_video(frames, root / "out" / "video.mp4", width=64, height=48)
assert part.is_dir(), "another process may still write there"
remove_spool(root / "job")
assert list_spools(root) == []
"""


@pytest.mark.slow
@pytest.mark.parametrize("error", ["ENOLCK", "EOPNOTSUPP", "ENOSYS", "EINVAL"])
def test_a_disk_without_locks_keeps_out_this_process_alone(
    without_flock: Callable[[str], dict[str, str]], tmp_path: Path, error: str
) -> None:
    command = [sys.executable, "-c", _WORK, str(tmp_path)]
    done = subprocess.run(
        command, cwd=REPOSITORY, env=without_flock(error), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_a_job_on_a_disk_without_locks_runs_and_says_so(
    without_flock: Callable[[str], dict[str, str]], comfyui: Path
) -> None:
    test = "tests/jobs/test_keeping.py::test_frames_stay_until_the_video_was_saved"
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--log-cli-level=INFO", test]
    environment = {**without_flock("ENOLCK"), "COMFYUI_PATH": str(comfyui)}
    done = subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert "do not use this folder in two ComfyUI servers at the same time" in done.stdout


def test_another_failure_of_a_lock_is_an_error(without_flock: Callable[[str], dict[str, str]], tmp_path: Path) -> None:
    command = [sys.executable, "-c", _WORK, str(tmp_path)]
    done = subprocess.run(
        command, cwd=REPOSITORY, env=without_flock("EIO"), capture_output=True, text=True, check=False
    )
    assert "MediaError: Locking in" in done.stderr


def fill(folder: Path) -> Path:
    filler = folder / "filler"
    with filler.open("wb", buffering=0) as file, pytest.raises(OSError, match="No space left"):
        while file.write(bytes(4096)) == 4096:
            pass
    return filler


def test_a_full_disk_at_the_start_leaves_no_lock_behind(make_tmpfs: Callable[[str], Path]) -> None:
    disk = make_tmpfs("1m")
    folder, header = disk / "job", SpoolHeader("job", 64, 48)
    folder.mkdir()
    filler = fill(disk)
    for _ in range(2):
        with pytest.raises(MediaError, match="The disk is full"):
            SpoolWriter(folder, header)
    filler.unlink()
    with SpoolWriter(folder, header) as writer:
        writer.append(moving_frames(2))
    filler = fill(disk)
    with FolderLock(folder), pytest.raises(FolderBusyError, match="in use by"):
        SpoolWriter(folder, header)
    FolderLock(folder).release()
    filler.unlink()
    with SpoolWriter(folder, header) as writer:
        assert writer.num_frames == 2


def open_files() -> int:
    folder = Path("/proc/self/fd")
    return sum(1 for _ in folder.iterdir()) if folder.is_dir() else 0


def test_a_failed_lock_leaves_no_open_file(tmp_path: Path) -> None:
    with FolderLock(tmp_path):
        before = open_files()
        for _ in range(3):
            with pytest.raises(FolderBusyError):
                FolderLock(tmp_path, patience_s=0)
        assert open_files() == before
    assert (tmp_path / LOCK_NAME).read_text() == f"process {os.getpid()}"


_MAKE_AND_REMOVE = """
import sys
import numpy as np
from asymtalker.media import SpoolHeader, SpoolWriter, FolderBusyError, remove_spool, MediaError
root, me, rounds = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
frames = np.zeros((1, 16, 16, 3), np.uint8)
for number in range(rounds):
    # Names that the other process uses too.
    folder = f"{root}/{(number * 7 + me) % 3:032x}"
    try:
        with SpoolWriter(folder, SpoolHeader("job", 16, 16)) as writer:
            writer.append(frames)
        remove_spool(folder)
    except FolderBusyError:
        pass
"""

_LIST = """
import sys
from asymtalker.media import list_spools, enforce_cap
for _ in range(int(sys.argv[2])):
    assert all(not spool.problem or "missing" in spool.problem for spool in list_spools(sys.argv[1]))
    enforce_cap(sys.argv[1], 0)
"""


@pytest.mark.slow
def test_processes_that_make_list_and_remove_the_same_spools_meet_no_error(tmp_path: Path) -> None:
    def run(code: str, *arguments: Any) -> str:
        command = [sys.executable, "-c", code, str(tmp_path), *map(str, arguments)]
        return subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False).stderr

    with ThreadPoolExecutor() as threads:
        makers = [threads.submit(run, _MAKE_AND_REMOVE, me, 60) for me in (1, 2)]
        listers = [threads.submit(run, _LIST, 150) for _ in range(2)]
        assert [future.result() for future in (*makers, *listers)] == [""] * 4


_NEVER = """
import sys
from pathlib import Path
import numpy as np
from asymtalker.media import *
root, rounds = Path(sys.argv[1]), int(sys.argv[2])
for number in range(rounds):
    folder = root / f"{number:032x}"
    with SpoolWriter(folder, SpoolHeader("job", 16, 16)) as writer:
        writer.append(np.zeros((1, 16, 16, 3), np.uint8))
        writer.flush()
        held = FolderLock(folder, shared=True, name=HELD_NAME)
    assert SpoolReader(folder).num_frames == 1, "removed between the writer and the video"
    held.release()
    remove_spool(folder)
"""

_DROP = """
import sys
from asymtalker.media import *
while True:
    for spool in list_spools(sys.argv[1]):
        if not spool.in_use:
            try:
                remove_spool(spool.folder)
            except FolderBusyError:
                pass
"""


def test_a_folder_that_another_process_makes_and_removes_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make, made = os.mkdir, list[str]()

    def mkdir(path: str, mode: int = 0o777) -> None:
        made.append(str(path))
        if len(made) == 1:
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path))
        make(path, mode)

    monkeypatch.setattr(os, "mkdir", mkdir)
    with SpoolWriter(tmp_path / "job", SpoolHeader("job", 64, 48, metadata={})) as writer:
        assert writer.num_frames == 0
    assert made == [str(tmp_path / "job")] * 2


@pytest.mark.skipif(sys.platform == "win32", reason="links need rights there")
def test_a_folder_below_a_link_to_nothing(tmp_path: Path) -> None:
    """The drive that it leads to is not mounted."""
    (tmp_path / "spool").symlink_to(tmp_path / "unmounted")
    with (
        pytest.raises(MediaError, match="spool"),
        SpoolWriter(tmp_path / "spool" / "job", SpoolHeader("job", 64, 48, metadata={})),
    ):
        pass


@pytest.mark.slow
def test_a_finished_job_is_held_before_its_writer_gives_it_up(tmp_path: Path) -> None:
    drop = subprocess.Popen([sys.executable, "-c", _DROP, str(tmp_path)], cwd=REPOSITORY)
    try:
        command = [sys.executable, "-c", _NEVER, str(tmp_path), "60"]
        done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert drop.poll() is None, "the other process has met no error"
    finally:
        drop.kill()
        drop.wait()
