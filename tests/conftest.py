"""What all tests share: where things are, and what this machine can run."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from asymtalker.scripts._client import ComfyClient
from asymtalker.scripts._environment import ROOT, find_comfyui
from asymtalker.scripts._server import ComfyServer
from asymtalker.tests.helpers import NUM_FRAMES, PACK, Import

SLOW_FOLDERS = {"benchmarks", "hostile", "scripts", "training"}
FRONT_ENDS = ("tests/browser/test_graphs.py", "tests/browser/test_places.py")
"""One process runs them: each would start the servers with all front ends."""


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """How test files are spread over processes."""
    from xdist.scheduler import LoadFileScheduling

    class Files(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = super()._split_scope(nodeid)
            return FRONT_ENDS[0] if file in FRONT_ENDS else file

    return Files(config, log) if config.getvalue("dist") == "loadfile" else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip the GPU's tests where there is none; mark what `test.py --quick` leaves out."""
    for item in items:
        if item.path.relative_to(ROOT / "tests").parts[0] in SLOW_FOLDERS:
            item.add_marker(pytest.mark.slow)
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
def comfy() -> Import:
    """Import a module of ComfyUI by name."""
    path = os.environ.get("COMFYUI_PATH")
    if not path:
        pytest.skip("COMFYUI_PATH names no ComfyUI checkout")
    # First: this folder may be on the path too, and has a `nodes` of its own.
    if path not in sys.path:
        sys.path.insert(0, path)
    if "comfy.cli_args" not in sys.modules:
        arguments, sys.argv = sys.argv, ["comfyui", "--cpu"]
        try:
            importlib.import_module("comfy.options").enable_args_parsing()
            importlib.import_module("comfy.cli_args")
        finally:
            sys.argv = arguments
    return importlib.import_module


@pytest.fixture(scope="session")
def pack(comfy: Import) -> Import:
    """Import a module of the pack by its path from the repository's root, as in ``pack("host.model")``."""
    return lambda name: importlib.import_module(f"{PACK}.{name}")


@pytest.fixture
def folders(comfy: Import, pack: Import, tmp_path: Path) -> Iterator[Path]:
    """ComfyUI's folders in a temporary directory: models/..., output, temp, user."""
    paths: Any = comfy("folder_paths")
    kept = dict(paths.folder_names_and_paths), paths.models_dir
    kept_output, kept_user = paths.get_output_directory(), paths.get_user_directory()
    kept_temp = paths.get_temp_directory()
    paths.models_dir = str(tmp_path / "models")
    for kind in ("diffusion_models", "vae", "vae_approx", "audio_encoders", "loras"):
        folder = tmp_path / "models" / kind
        folder.mkdir(parents=True)
        paths.folder_names_and_paths[kind] = ([str(folder)], paths.supported_pt_extensions)
    paths.folder_names_and_paths.pop("asymtalker", None)
    pack("host.checkpoints.folders").register()
    paths.set_output_directory(str(tmp_path / "output"))
    paths.set_user_directory(str(tmp_path / "user"))
    paths.set_temp_directory(str(tmp_path / "temp"))
    paths.filename_list_cache.clear()
    yield tmp_path
    paths.folder_names_and_paths.clear()
    paths.folder_names_and_paths.update(kept[0])
    paths.models_dir = kept[1]
    paths.set_output_directory(kept_output)
    paths.set_user_directory(kept_user)
    paths.set_temp_directory(kept_temp)
    paths.filename_list_cache.clear()


@pytest.fixture
def scene(pack: Import, folders: Path) -> SimpleNamespace:
    """MODEL, VAE, reference and audio features of nano's kind, small."""
    config_module, vae_module = pack("models.config"), pack("models.nano_vae")
    torch.manual_seed(0)
    config = config_module.DiTConfig(
        dim=48,
        ffn_dim=64,
        num_heads=2,
        num_layers=2,
        in_dim=96,
        out_dim=48,
        text_dim=16,
        vae_stride=(4, 16, 16),
        audio=config_module.AudioConfig(blocks=1, channels=320, intermediate_dim=16, context_tokens=4),
    )
    dit = pack("models.dit").TalkingHeadDiT(config)
    dit.initialise()
    torch.nn.init.normal_(dit.head.head.weight, std=0.1)
    vae_network = vae_module.NanoVAE(vae_module.NanoVAEConfig(width=16))
    model = pack("host.model").load_model(dit.state_dict(), config.to_metadata(), name="tiny")
    vae = pack("host.vae").load_nano_vae(vae_network.state_dict(), vae_network.config.to_metadata())
    image = torch.rand(1, 80, 100, 3)
    audio = pack("host.audio")
    continuity = pack("models.rollout").ContinuityOptions()
    samples = {"waveform": torch.randn(1, 2, NUM_FRAMES * 320 - 7), "sample_rate": 8_000}
    return SimpleNamespace(
        model=model,
        vae=vae,
        reference=pack("host.portrait").encode_reference(model, vae, image, 70, 64, "temporal", None),
        features=audio.audio_features(audio.LogMelAudioEncoder(), samples),
        audio=samples,
        settings=pack("jobs.sampling").Settings(3, 2, "auto", 0.0, 0.0, continuity),
        spools=folders / "user" / "asymtalker" / "spool",
    )


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
