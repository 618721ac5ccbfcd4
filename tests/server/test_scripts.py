"""The commands themselves, and the server process under them."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from asymtalker.scripts._environment import (
    BATCH_REQUIREMENTS,
    PACK_REQUIREMENTS,
    ROOT,
    TEST_REQUIREMENTS,
    TRAINING_REQUIREMENTS,
    requirement_lines,
)
from asymtalker.scripts._server import ComfyServer, ServerFault
from asymtalker.tests.server.media import probe, speech_like, write_portrait, write_wav

pytestmark = pytest.mark.server

LIMIT_S = 600


@contextlib.contextmanager
def talking(folder: Path, comfyui: Path, seconds: float, *options: str) -> Iterator[subprocess.Popen[str]]:
    """Start scripts/talk.py on a portrait and speech made in `folder`, with `folder` for temporary files."""
    portrait = write_portrait(folder / "portrait.png", 300, 200)
    audio = write_wav(folder / "speech.wav", speech_like(seconds, 22050, 1), 22050)
    command = [sys.executable, str(ROOT / "scripts" / "talk.py"), "--portrait", str(portrait), "--audio", str(audio)]
    process = subprocess.Popen(
        [*command, "--output", str(folder / "out.mp4"), *options],
        env={**os.environ, "COMFYUI_PATH": str(comfyui), "TMPDIR": str(folder)},
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # As from a terminal: a job that a script put into the background has Ctrl-C ignored.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    try:
        yield process
    finally:
        # Lets it stop its server, where the test has failed before its end.
        process.terminate()
        process.wait()


def server_folders(folder: Path) -> list[Path]:
    """Return what talk.py left of its servers' folders."""
    return list(folder.glob("asymtalker-*"))


def test_talk_makes_a_video_and_cleans_up(comfyui: Path, tmp_path: Path) -> None:
    options = ("--seed", "3", "--set", "AsymTalkerReference.framing=centre")
    with talking(tmp_path, comfyui, 0.3, *options) as process:
        out, progress = process.communicate(timeout=LIMIT_S)
    assert process.returncode == 0, progress
    assert out.splitlines() == [str(tmp_path / "out.mp4")]
    assert re.search(r"(chunk|sampling).*8/8 frames, [\d.]+ frames/s, 0 s left", progress)
    assert len(probe(tmp_path / "out.mp4").frames) == 8
    assert server_folders(tmp_path) == [] and not (tmp_path / "out.mp4.partial").exists()


@pytest.mark.skipif(sys.platform == "win32", reason="sends SIGINT")
def test_ctrl_c_stops_the_server(comfyui: Path, tmp_path: Path) -> None:
    with talking(tmp_path, comfyui, 60.0) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if "AsymTalkerLoader" in line:
                break
        (folder,) = server_folders(tmp_path)
        process.send_signal(signal.SIGINT)
        _, rest = process.communicate(timeout=LIMIT_S)
    assert process.returncode == 130 and rest.splitlines()[-1] == "Stopped."
    assert server_folders(tmp_path) == [] and not (tmp_path / "out.mp4").exists()
    running = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
    assert str(folder) not in running


def test_talk_says_what_is_wrong_in_one_line(comfyui: Path, tmp_path: Path) -> None:
    with talking(tmp_path, comfyui, 0.3, "--set", "AsymTalkerSampler.stepz=3") as process:
        _, errors = process.communicate(timeout=LIMIT_S)
    assert process.returncode == 1
    assert errors.startswith("Error: AsymTalkerSampler has no input stepz; it has [") and len(errors.splitlines()) == 1


def test_a_server_that_dies_shows_its_log(tmp_path: Path) -> None:
    broken = tmp_path / "ComfyUI"
    broken.mkdir()
    (broken / "main.py").write_text("import sys\nprint('no such module: frobnicate', flush=True)\nsys.exit(3)\n")
    server = ComfyServer(broken, tmp_path / "work", cpu=True)
    with pytest.raises(ServerFault, match=r"exit status 3\)(.|\n)*no such module: frobnicate"), server:
        pass
    assert server.process is None


@pytest.mark.skipif(sys.platform == "win32", reason="process groups")
def test_stop_ends_the_children_too(tmp_path: Path) -> None:
    comfyui = tmp_path / "ComfyUI"
    comfyui.mkdir()
    # Answers like a server and starts a child that would outlive it.
    (comfyui / "main.py").write_text(
        "import http.server, subprocess, sys\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        "open('child', 'w').write(str(child.pid))\n"
        "class Answer(http.server.BaseHTTPRequestHandler):\n"
        "    def do_GET(self):\n"
        "        self.send_response(200)\n"
        "        self.end_headers()\n"
        "port = int(sys.argv[sys.argv.index('--port') + 1])\n"
        "http.server.HTTPServer(('127.0.0.1', port), Answer).serve_forever()\n"
    )
    with ComfyServer(comfyui, tmp_path / "work", cpu=True):
        child = int((tmp_path / "work" / "child").read_text())
        os.kill(child, 0)
    deadline = time.monotonic() + 10
    while Path(f"/proc/{child}/status").exists() and time.monotonic() < deadline:
        if "State:\tZ" in Path(f"/proc/{child}/status").read_text():
            break
        time.sleep(0.1)
    else:
        assert not Path(f"/proc/{child}/status").exists()


@pytest.mark.skipif(sys.version_info < (3, 11), reason="tomllib")
def test_requirement_files_agree_with_the_project() -> None:
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["dependencies"] == requirement_lines(PACK_REQUIREMENTS)
    assert project["optional-dependencies"] == {
        "batch": requirement_lines(BATCH_REQUIREMENTS),
        "test": requirement_lines(TEST_REQUIREMENTS),
        "training": requirement_lines(TRAINING_REQUIREMENTS),
    }
