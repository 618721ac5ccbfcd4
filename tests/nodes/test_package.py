"""The archive that the registry ships: small, without what is not for users, and complete."""

from __future__ import annotations

import asyncio
import importlib
import importlib.util
import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from asymtalker.host.server import VERSION
from asymtalker.scripts.package import LIMIT_BYTES, write_archive
from asymtalker.tests.helpers import ROOT, Import
from asymtalker.training.core.config import tomllib

LEFT_OUT = ("tests", "training", "benchmarks", "scripts", "batch", "docs", ".ci", ".venv", ".comfyui")
NAME = "asymtalker_out_of_the_archive"


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    path = tmp_path_factory.mktemp("archive") / "pack.zip"
    try:
        assert write_archive(path) <= LIMIT_BYTES
    except subprocess.CalledProcessError:
        pytest.skip("no git checkout")
    return zipfile.ZipFile(path)


def test_it_holds_what_users_need_and_nothing_else(archive: zipfile.ZipFile) -> None:
    names = archive.namelist()
    assert not [name for name in names if name.split("/")[0] in LEFT_OUT]
    needed = (
        "__init__.py",
        "pyproject.toml",
        "requirements.txt",
        "LICENSE",
        "THIRD_PARTY.md",
        "README.md",
        "CHANGELOG.md",
    )
    folders = (
        "web/docs/",
        "web/docs/images/",
        "locales/ru/",
        "workflows/",
        "workflows/assets/",
        "models/nano/",
        "media/",
    )
    assert [name for name in needed if name not in names] == []
    assert [folder for folder in folders if not any(name.startswith(folder) for name in names)] == []
    assert {"faces/yunet.safetensors", "faces/yunet.LICENSE", "models/face_mesh.safetensors"} <= set(names)


def test_its_nodes_load(comfy: Import, archive: zipfile.ZipFile, tmp_path: Path) -> None:
    archive.extractall(tmp_path)
    spec = importlib.util.spec_from_file_location(
        NAME, tmp_path / "__init__.py", submodule_search_locations=[str(tmp_path)]
    )
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[NAME] = module
    spec.loader.exec_module(module)
    nodes = asyncio.run(importlib.import_module(f"{NAME}.nodes").AsymTalkerExtension().get_node_list())
    described = {node.define_schema().node_id for node in nodes}
    assert described == set(json.loads((ROOT / "locales" / "en" / "nodeDefs.json").read_text(encoding="utf-8")))
    faces = importlib.import_module(f"{NAME}.faces.detector")
    assert faces.WEIGHTS.is_file() and importlib.import_module(f"{NAME}.models.family").NANO_NETWORK.is_file()


def test_requirements_leave_torch_alone() -> None:
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").split()
    assert [line for line in lines if line.startswith("torch")] == ["torch", "torchaudio"]


@pytest.mark.skipif(sys.version_info < (3, 11), reason="tomllib")
def test_the_registry_s_fields() -> None:
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    comfy = project["tool"]["comfy"]
    assert comfy["PublisherId"] and comfy["DisplayName"] and comfy["requires-comfyui"] == ">=0.3.75"
    assert project["project"]["license"] == {"file": "LICENSE"}
    for field in ("Icon", "Banner"):
        assert (ROOT / comfy[field]).is_file()


def test_servers_name_the_version_of_pyproject() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    assert project["version"] == VERSION
