"""ComfyUI for the node tests: the checkout that COMFYUI_PATH names, on the CPU, with the pack loaded as it does."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACK = "asymtalker_under_test"

Import = Callable[[str], ModuleType]


def module_from_file(name: str, file: Path, **options: Any) -> ModuleType:
    """Import ``file`` as the module ``name``."""
    spec = importlib.util.spec_from_file_location(name, file, **options)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def comfy() -> Import:
    """Import a module of ComfyUI by name."""
    path = os.environ.get("COMFYUI_PATH")
    if not path:
        pytest.skip("COMFYUI_PATH names no ComfyUI checkout")
    # Other tests use parts of ComfyUI too: whatever they have imported before stays as it is.
    if path not in sys.path:
        sys.path.append(path)
    if "comfy.cli_args" not in sys.modules:
        arguments, sys.argv = sys.argv, ["comfyui", "--cpu"]
        try:
            importlib.import_module("comfy.options").enable_args_parsing()
            importlib.import_module("comfy.cli_args")
        finally:
            sys.argv = arguments
    # Both ComfyUI and the pack have a top-level `nodes`; core's own code means core's.
    core_nodes = Path(path) / "nodes.py"
    if getattr(sys.modules.get("nodes"), "__file__", None) != str(core_nodes):
        module_from_file("nodes", core_nodes)
    return importlib.import_module


@pytest.fixture(scope="session")
def pack(comfy: Import) -> Import:
    """Import a module of the pack by its path from the repository's root, as in ``pack("nodes.host.model")``."""
    if PACK not in sys.modules:
        module_from_file(PACK, ROOT / "__init__.py", submodule_search_locations=[str(ROOT)])
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
    pack("nodes.host.folders").register()
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


@pytest.fixture(scope="session")
def golden() -> Path:
    """The folder of golden data."""
    return ROOT / "tests" / "data" / "golden"
