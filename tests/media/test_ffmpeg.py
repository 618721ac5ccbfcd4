"""An ffmpeg that is cancelled, stopped, killed, or none at all: its caller goes on at once, and nothing is left."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from asymtalker.media import MediaError, encode_video
from asymtalker.tests.helpers import Frames, children, moving_frames, names


@pytest.mark.parametrize("failure", [ValueError("from the frames"), KeyboardInterrupt()])
def test_cancel_passes_through_fast_and_leaves_the_old_file(tmp_path: Path, failure: BaseException) -> None:
    (tmp_path / "v.mp4").write_text("old")
    raised = 0.0

    def frames() -> Iterator[Frames]:
        nonlocal raised
        yield from moving_frames(20)
        raised = time.monotonic()
        raise failure

    with pytest.raises(type(failure)) as caught:
        # Half an hour of audio, which a graceful end would encode to its last second.
        audio = (np.zeros((1, 8000 * 1800), np.float32), 8000)
        encode_video(frames(), tmp_path / "v.mp4", width=64, height=48, audio=audio)
    assert caught.value is failure
    assert time.monotonic() - raised < 5
    assert names(tmp_path) == ["v.mp4"] and (tmp_path / "v.mp4").read_text() == "old" and not children()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="finds ffmpeg in /proc")
@pytest.mark.parametrize("state", ["running", "stopped"])
@pytest.mark.parametrize("when", ["while frames come", "while the file is completed"])
def test_a_watch_ends_the_encoding_also_of_an_ffmpeg_that_does_not_respond(
    tmp_path: Path, when: str, state: str
) -> None:
    class Cancelled(Exception):
        pass

    # More than the pipe holds, so that writing to a stopped ffmpeg blocks.
    images, calls_since_stop = moving_frames(4, 256, 256), 0
    stop_at = 2 if when == "while frames come" else len(images)
    is_due = False

    def watch(num_frames: int) -> None:
        nonlocal calls_since_stop, is_due
        if num_frames < stop_at:
            return
        if not is_due:
            is_due = True
            (pid,) = children()
            if state == "stopped":
                os.kill(pid, signal.SIGSTOP)
                return
        calls_since_stop += 1
        if state == "running" or calls_since_stop == 3:
            raise Cancelled

    with pytest.raises(Cancelled):
        encode_video(images, tmp_path / "v.mp4", width=256, height=256, watch=watch)
    assert names(tmp_path) == [] and not children()


def test_the_watch_sees_every_frame_and_the_sound(tmp_path: Path) -> None:
    seen: list[int] = []
    audio = (np.zeros((1, 24000), np.float32), 8000)
    encode_video(moving_frames(5), tmp_path / "v.mp4", width=64, height=48, audio=audio, watch=seen.append)
    assert seen == sorted(seen) and set(seen) == set(range(6)) and seen.count(0) >= 3


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="finds ffmpeg in /proc")
@pytest.mark.parametrize("at_frame", [1, 40, 399])
def test_ffmpeg_killed_while_writing(tmp_path: Path, at_frame: int) -> None:
    images = moving_frames(8)

    def frames() -> Iterator[Frames]:
        for index in range(400):
            if index == at_frame:
                (pid,) = children()
                os.kill(pid, signal.SIGKILL)
            yield images[index % 8]

    with pytest.raises(MediaError, match=r"v.mp4 could not be written: (ffmpeg|the file)"):
        encode_video(frames(), tmp_path / "v.mp4", width=64, height=48)
    assert names(tmp_path) == [] and not children()


@pytest.mark.parametrize(
    ("program", "message"),
    [
        ("", "cannot be run"),
        ("#!/bin/sh\nexit 1\n", "ffmpeg (stopped at frame|ended with status 1)"),
        ("#!/bin/sh\nkill -9 $$\n", "ffmpeg (stopped at frame|ended with status -9)"),
        ("not a program\n", "ffmpeg (could not be started|stopped at frame|ended with status)"),
        ("#!/bin/sh\ncat > /dev/null\n", "the file cannot be read back"),
    ],
)
@pytest.mark.skipif(os.name == "nt", reason="makes programs for the shell")
def test_an_ffmpeg_that_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program: str, message: str) -> None:
    broken = tmp_path / "ffmpeg"
    broken.write_text(program)
    broken.chmod(0o755 if program else 0o644)
    monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", str(broken))
    with pytest.raises(MediaError, match=message):
        encode_video(moving_frames(3), tmp_path / "out" / "v.mp4", width=64, height=48)
    assert names(tmp_path / "out") == []
