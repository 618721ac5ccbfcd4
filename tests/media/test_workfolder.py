"""A file appears under its name when it is whole, whatever dies or is refused, and what dies is cleared away."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import imageio_ffmpeg
import pytest

from asymtalker.media import MediaError, encode_video
from asymtalker.media.locks import LOCK_NAME
from asymtalker.media.workfolder import working_folder
from asymtalker.tests.helpers import Frames, moving_frames, names

REPOSITORY = Path(__file__).parents[2]


def test_leftovers_of_a_killed_process_are_swept(tmp_path: Path) -> None:
    code = (
        "import os, signal, sys, numpy as np\n"
        "from asymtalker.media import encode_video\n"
        "def frames():\n"
        "    yield np.zeros((48, 64, 3), np.uint8)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
        "encode_video(frames(), sys.argv[1], width=64, height=48)\n"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "dead.mp4")], cwd=REPOSITORY, check=False)
    assert [name for name in names(tmp_path) if name.endswith(".part")]
    encode_video(moving_frames(1), tmp_path / "v.mp4", width=64, height=48)
    assert names(tmp_path) == ["v.mp4"]


def test_what_a_dead_processs_ffmpeg_still_writes_does_not_stop_the_next_file(tmp_path: Path) -> None:
    dead = tmp_path / ".dead.0123456789ab.part"
    dead.mkdir()
    (dead / LOCK_NAME).touch()
    # As an ffmpeg would that has not noticed yet that nobody feeds it: for half a second there are ever more files.
    code = (
        "import pathlib, sys, time\n"
        "end, n = time.monotonic() + 0.5, 0\n"
        "while time.monotonic() < end:\n"
        "    try:\n"
        "        pathlib.Path(sys.argv[1], str(n := n + 1)).touch()\n"
        "    except FileNotFoundError:\n"
        "        break\n"
        "    if n == 200:\n"
        "        print(flush=True)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(dead)], stdout=subprocess.PIPE) as writer:
        assert writer.stdout is not None
        writer.stdout.readline()
        encode_video(moving_frames(1), tmp_path / "v.mp4", width=64, height=48)
    assert names(tmp_path) == ["v.mp4"]


def test_a_name_that_was_taken_meanwhile_is_left_alone(tmp_path: Path) -> None:
    names = iter([tmp_path / "2.mp4", tmp_path / "3.mp4"])
    (tmp_path / "1.mp4").write_bytes(b"another writer's")
    (tmp_path / "2.mp4").write_bytes(b"a third's")
    video = encode_video(iter(moving_frames(2)), tmp_path / "1.mp4", width=64, height=48, if_taken=lambda: next(names))
    assert video.path == tmp_path / "3.mp4" and video.path.stat().st_size == video.num_bytes > 0
    assert (tmp_path / "1.mp4").read_bytes() == b"another writer's"
    assert (tmp_path / "2.mp4").read_bytes() == b"a third's"
    assert len(list(tmp_path.iterdir())) == 3


@pytest.fixture(params=["hard links", "no hard links"])
def link_error(request: pytest.FixtureRequest) -> int | None:
    """What the file system answers where a hard link is asked for."""
    return None if request.param == "hard links" else errno.EPERM


def in_a_fork(act: Callable[[], None], on_operation: Callable[[int, str], None], link_error: int | None) -> int:
    """Run `act` in a process of its own and return its exit status, negative for a signal.

    on_operation: called before each operation on files, with its number and Python's name of it.
    """
    process = os.fork()
    if process == 0:
        number = 0

        def hook(event: str, arguments: tuple[Any, ...]) -> None:
            nonlocal number
            if not event.startswith("os.") and event not in ("open", "shutil.rmtree"):
                return
            number += 1
            on_operation(number, event)
            if event == "os.link" and link_error is not None:
                raise OSError(link_error, os.strerror(link_error))

        sys.addaudithook(hook)
        try:
            act()
        except OSError:
            os._exit(2)
        except MediaError:
            os._exit(3)
        os._exit(0)
    _, status = os.waitpid(process, 0)
    return os.waitstatus_to_exitcode(status)


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="forks")
def test_killed_at_any_moment_there_is_the_whole_file_or_none(tmp_path: Path, link_error: int | None) -> None:
    whole = tmp_path / "whole.mp4"
    image = moving_frames(1)
    size = encode_video(image, whole, width=64, height=48, if_taken=lambda: whole).num_bytes

    def save(path: Path) -> Callable[[], None]:
        return lambda: encode_video(image, path, width=64, height=48, if_taken=lambda: path.with_name("2.mp4")) and None

    outcomes = []
    for last in range(1, 200):
        folder = tmp_path / f"{last}"
        folder.mkdir()
        path = folder / "1.mp4"
        status = in_a_fork(
            save(path),
            lambda number, _, last=last: os.kill(os.getpid(), signal.SIGKILL) if number == last else None,
            link_error,
        )
        outcomes.append(path.stat().st_size if path.exists() else None)
        for leftover in folder.iterdir():
            os.utime(leftover, (0, 0))
        # With the next writer, what the dead one left is gone.
        with working_folder(path):
            pass
        assert set(names(folder)) <= {"1.mp4"}
        if status == 0:
            break
        assert status == -signal.SIGKILL
    assert status == 0 and set(outcomes) == {None, size}


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="forks")
@pytest.mark.parametrize("refused", ["os.link", "os.rename", "both"])
def test_a_name_that_is_refused_leaves_nothing(tmp_path: Path, refused: str) -> None:
    def refuse(number: int, event: str) -> None:
        if event == refused or (refused == "both" and event in ("os.link", "os.rename")):
            raise OSError(errno.EACCES, os.strerror(errno.EACCES))

    path = tmp_path / "v.mp4"

    def act() -> None:
        encode_video(moving_frames(1), path, width=64, height=48, if_taken=lambda: path)

    # Where one way is refused, the other is taken.
    assert in_a_fork(act, refuse, None) == (3 if refused == "both" else 0)
    assert names(tmp_path) == ([] if refused == "both" else ["v.mp4"])


def test_two_writers_of_one_name_without_hard_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*names: Any) -> None:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "link", refuse)
    test_a_name_that_was_taken_meanwhile_is_left_alone(tmp_path)


@pytest.mark.skipif(os.name == "nt" or os.geteuid() != 0, reason="makes files of another user")
def test_another_users_leftovers_do_not_stop_anyone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Imported modules aside, the other user can read nothing of this one's.
    monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", str(shutil.copy(imageio_ffmpeg.get_ffmpeg_exe(), tmp_path / "ffmpeg")))
    folder = tmp_path / "output"
    work = folder / ".dead.0123456789ab.part"
    work.mkdir(parents=True)
    (work / LOCK_NAME).touch()
    work.chmod(0o700)
    folder.chmod(0o777)
    for parent in tmp_path.parents[:3]:
        parent.chmod(parent.stat().st_mode | 0o055)
    tmp_path.chmod(0o755)

    def act() -> None:
        os.setuid(65534)
        encode_video(moving_frames(1), folder / "v.mp4", width=64, height=48)

    assert in_a_fork(act, lambda number, event: None, None) == 0
    assert names(folder) == [work.name, "v.mp4"]


@pytest.mark.skipif(os.name == "nt" or os.geteuid() != 0, reason="drops a user's rights")
def test_a_folder_that_another_user_may_not_write(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)

    def act() -> None:
        os.setuid(65534)
        encode_video(moving_frames(1), tmp_path / "v.mp4", width=64, height=48)

    assert in_a_fork(act, lambda number, event: None, None) == 3
    assert names(tmp_path) == []


def test_the_folder_vanishes_while_the_file_is_made(tmp_path: Path) -> None:
    folder = tmp_path / "output"

    def frames() -> Iterator[Frames]:
        yield from moving_frames(3)
        shutil.rmtree(folder)

    with pytest.raises(MediaError, match=r"v\.mp4 could not be written"):
        encode_video(frames(), folder / "v.mp4", width=64, height=48)


def test_a_name_as_long_as_the_disk_allows(tmp_path: Path) -> None:
    name = f"{'n' * 251}.mp4"
    video = encode_video(moving_frames(1), tmp_path / name, width=64, height=48, if_taken=lambda: tmp_path / name)
    assert names(tmp_path) == [video.path.name] == [name]
