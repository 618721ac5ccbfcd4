"""What all tests share: where things are, and what this machine can run."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest
import torch

from scripts._client import ComfyClient
from scripts._environment import ROOT, find_comfyui
from scripts._server import ComfyServer
from training.core.host import load_pack


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip the GPU's tests where there is none."""
    if not torch.cuda.is_available():
        for item in items:
            if item.get_closest_marker("gpu"):
                item.add_marker(pytest.mark.skip(reason="no CUDA GPU"))


@pytest.fixture(scope="session")
def golden() -> Path:
    """The folder of golden data beside the repository."""
    folder = ROOT.parent / "shared" / "golden"
    if not folder.is_dir():
        pytest.skip("no ../shared/golden beside the repository")
    return folder


@pytest.fixture(scope="session")
def comfyui() -> Path:
    """The folder of a ComfyUI."""
    folder = find_comfyui()
    if folder is None:
        pytest.skip("no ComfyUI: scripts/test.py gets one, COMFYUI_PATH names one")
    return folder


@pytest.fixture(scope="session")
def server(comfyui: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ComfyServer]:
    """A running ComfyUI with this pack alone, its folders in a temporary place."""
    workdir = tmp_path_factory.mktemp("comfyui")
    with ComfyServer(comfyui, workdir, cpu=not torch.cuda.is_available(), api_nodes=True) as running:
        yield running


@pytest.fixture(scope="session")
def client(server: ComfyServer) -> ComfyClient:
    """A client of the server."""
    return ComfyClient(server.url)


@pytest.fixture(scope="session")
def pack(comfyui: Path) -> ModuleType:
    """The pack, imported by path into this process as ComfyUI does it; `pack.nodes` and so on are importable."""
    return sys.modules[load_pack()]


@pytest.fixture
def make_tmpfs(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """Mounts a tmpfs of the given size ("2m") and returns it; skips where mounting is not permitted."""
    mounted: list[Path] = []

    def mount(size: str) -> Path:
        if not sys.platform.startswith("linux"):
            pytest.skip("tmpfs needs Linux")
        folder = tmp_path / f"tmpfs{len(mounted)}"
        folder.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
        try:
            subprocess.run(command, check=True, capture_output=True)
        except (OSError, subprocess.CalledProcessError):
            pytest.skip("mounting a tmpfs is not permitted here")
        mounted.append(folder)
        return folder

    yield mount
    for folder in mounted:
        subprocess.run(["umount", "-l", str(folder)], check=True, capture_output=True)
