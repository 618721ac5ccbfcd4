"""ComfyUI with several front ends, for the tests of this folder."""

from __future__ import annotations

import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

from asymtalker.scripts._environment import ROOT
from asymtalker.scripts._server import ComfyServer
from asymtalker.tests.server.media import speech_like, write_wav

REQUIRED, NEWEST = "required", "1.58.1"
FRONT_ENDS = {REQUIRED: None, NEWEST: f"comfyui-frontend-package=={NEWEST}"}
"""The one that ComfyUI requires, and the newest that the pack was tried with."""
SHORT_SPEECH = "short_speech.wav"
"""In the input folder: one chunk."""


class Servers:
    """ComfyUI with each front end, started one after the other in the background and waited for when it is needed.

    The one with the required front end runs with --disable-api-nodes, whose content policy forbids browsers media from
    a MediaSource.
    """

    def __init__(self, comfyui: Path, folders: pytest.TempPathFactory) -> None:
        self._comfyui, self._folders = comfyui, folders
        self._threads = ThreadPoolExecutor(1)
        self._starting = {name: self._threads.submit(self._start, name) for name in FRONT_ENDS}

    def _start(self, name: str) -> ComfyServer:
        package = FRONT_ENDS[name]
        static = fetch_front_end(package, self._folders.mktemp("front_end")) if package else None
        cpu = not torch.cuda.is_available()
        workdir = self._folders.mktemp("comfyui")
        server = ComfyServer(self._comfyui, workdir, cpu=cpu, api_nodes=package is not None, front_end=static)
        # Stops it if it does not start.
        server.__enter__()
        # The example pictures and speech, under the names that the graphs have.
        for asset in sorted((ROOT / "workflows" / "assets").iterdir()):
            shutil.copy(asset, workdir / "input")
        write_wav(workdir / "input" / SHORT_SPEECH, speech_like(0.4, 16000, 1), 16000)
        return server

    def get(self, name: str) -> ComfyServer:
        """The server with a front end of FRONT_ENDS."""
        return self._starting[name].result()

    def stop(self) -> None:
        """Stop those that have started."""
        for starting in self._starting.values():
            if starting.exception() is None:
                starting.result().stop()
        self._threads.shutdown()


def fetch_front_end(package: str, folder: Path) -> Path:
    """Install a front end's package into a folder of its own; where its files are."""
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet", "--no-deps"]
    subprocess.run([*pip, "--target", str(folder), package], check=True)
    return folder / "comfyui_frontend_package" / "static"
