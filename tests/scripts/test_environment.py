"""The commands' own environment fits whichever ComfyUI is named, also after another one."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from asymtalker.scripts import _environment
from asymtalker.scripts._environment import EnvironmentFault, install, requirements, venv_python

COMFYUI_VERSIONS = ("1.0", "2.0")


def write_wheel(folder: Path, version: str) -> None:
    """A package of ComfyUI's that its versions pin differently."""
    info = f"frontend-{version}.dist-info"
    files = {
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: frontend\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/RECORD": f"{info}/METADATA,,\n{info}/WHEEL,,\n{info}/RECORD,,\n",
    }
    with zipfile.ZipFile(folder / f"frontend-{version}-py3-none-any.whl", "w") as wheel:
        for name, text in files.items():
            wheel.writestr(name, text)


@pytest.fixture
def python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The interpreter of an empty environment, which pip fills from the wheels alone."""
    for version in COMFYUI_VERSIONS:
        write_wheel(tmp_path, version)
    venv, pip = tmp_path / ".venv", pytest.importorskip("pip")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(venv)], check=True)
    # pip is slow to install: this environment borrows the running one's.
    (packages,) = venv.glob("lib/python*/site-packages") if os.name != "nt" else [venv / "Lib" / "site-packages"]
    (packages / "borrowed.pth").write_text(str(Path(pip.__file__).parents[1]), encoding="utf-8")
    monkeypatch.setattr(_environment, "INSTALLED", venv / "installed.txt")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    return venv_python(venv)


def installed(python: Path) -> str:
    command = [str(python), "-c", "from importlib.metadata import version; print(version('frontend'))"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def test_it_fits_each_comfyui_in_turn(python: Path) -> None:
    for version in ("1.0", "2.0", "1.0"):
        install(python, [f"frontend=={version}"])
        assert installed(python) == version


def test_a_failed_change_is_made_good(python: Path) -> None:
    install(python, ["frontend==1.0"])
    with pytest.raises(EnvironmentFault, match="cannot be installed"):
        install(python, ["frontend==3.0"])
    # As if pip had been stopped after it replaced the package.
    subprocess.run([str(python), "-m", "pip", "install", "--quiet", "frontend==2.0"], check=True)
    install(python, ["frontend==1.0"])
    assert installed(python) == "1.0"


def test_what_is_wanted_is_the_comfyuis(tmp_path: Path) -> None:
    (tmp_path / "requirements.txt").write_text("comfyui-frontend-package==9.9.9  # pinned\nav>=16.0.0\n", "utf-8")
    wanted = requirements(tmp_path)
    assert {"comfyui-frontend-package==9.9.9", "av>=16.0.0"} <= set(wanted)
