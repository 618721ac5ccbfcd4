"""`python -m asymtalker.scripts.host_facts COMFYUI_FOLDER` lists what a ComfyUI offers of all that the pack uses.

Run it with the interpreter of that ComfyUI. It prints JSON with an entry for each name that the pack uses, and for
every public member of the classes that it extends, calls or returns: what it is, its parameters (`=` marks those with a
default), and whether it is abstract. The tests hold the pack against such files of several ComfyUI versions
(`tests/data/hosts`), of which only one is installed where they run.
"""

from __future__ import annotations

import argparse
import ast
import importlib
import importlib.util
import inspect
import json
import sys
import textwrap
from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from types import ModuleType
from typing import Any

from ._host_use import HOST_MODULES, uses

WHOLE_CLASSES = (
    "comfy.audio_encoders.audio_encoders.AudioEncoderModel",
    "comfy.audio_encoders.wav2vec2.Wav2Vec2Model",
    "comfy.latent_formats.LTXV",
    "comfy.latent_formats.LatentFormat",
    "comfy.latent_formats.Wan21",
    "comfy.model_base.BaseModel",
    "comfy.model_patcher.ModelPatcher",
    "comfy.sd.VAE",
    "comfy.supported_models_base.BASE",
    "comfy.taesd.taehv.TAEHV",
    "comfy.utils.ProgressBar",
    "comfy_api.latest.ComfyExtension",
    "comfy_api.latest.Input.Video",
    "comfy_api.latest.InputImpl.VideoFromComponents",
    "comfy_api.latest.InputImpl.VideoFromFile",
    "comfy_api.latest.Types.VideoCodec",
    "comfy_api.latest.Types.VideoComponents",
    "comfy_api.latest.Types.VideoContainer",
    "comfy_api.latest.io.ComfyNode",
    "comfy_api.latest.io.Schema",
    "comfy_execution.utils.ExecutionContext",
    "latent_preview.Latent2RGBPreviewer",
    "latent_preview.LatentPreviewer",
    "server.PromptServer",
)
"""Classes of which the pack extends or imitates one, or holds objects: all of their public members count."""

WHOLE_MODULES = ("comfy.model_management", "comfy.patcher_extension", "comfy.utils", "folder_paths")
"""Modules whose functions the pack may come to use at any time."""

ABSENT = "absent"


def main() -> None:
    """Print the facts of one ComfyUI."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("comfyui", type=Path, help="folder of a ComfyUI")
    folder: Path = parser.parse_args().comfyui.resolve()
    sys.path.insert(0, str(folder))
    sys.argv[1:] = ["--cpu"]
    importlib.import_module("comfy.options").enable_args_parsing()
    # As main.py does: ComfyUI's nodes put the folder of a module of the same name first on the path.
    importlib.import_module("utils.extra_config")
    version = importlib.import_module("comfyui_version").__version__
    facts = {"ComfyUI": version, **facts_of({use.name for use in uses()})}
    print(json.dumps(facts, indent=0, sort_keys=True))


def facts_of(names: set[str]) -> dict[str, str]:
    """Name -> what it is, for ``names`` and the members of ``WHOLE_CLASSES``."""
    facts = {name: _describe_name(name) for name in names.union(WHOLE_CLASSES)}
    for name in WHOLE_CLASSES:
        if facts[name] != ABSENT:
            facts |= {f"{name}.{member}": text for member, text in _members(resolve(name)[1])}
    for name in WHOLE_MODULES:
        functions = inspect.getmembers(resolve(name)[1], inspect.isfunction)
        own = {member: value for member, value in functions if value.__module__ == name and member[0] != "_"}
        facts |= {f"{name}.{member}": _describe(value) for member, value in own.items()}
    return facts


def resolve(name: str) -> tuple[bool, Any]:
    """Whether there is something of that dotted name, and what."""
    first, *rest = name.split(".")
    value: Any = importlib.import_module(first)
    path = first
    for part in rest:
        path += f".{part}"
        if not hasattr(value, part):
            if not isinstance(value, ModuleType) or importlib.util.find_spec(path) is None:
                return False, None
            importlib.import_module(path)
        value = getattr(value, part)
    return True, value


def _describe_name(name: str) -> str:
    found, value = resolve(name)
    return _describe(value) if found else ABSENT


def _describe(value: Any) -> str:
    if isinstance(value, ModuleType):
        return "module"
    if inspect.isclass(value) and issubclass(value, Enum):
        return "class"
    if inspect.isclass(value):
        return f"class ({_parameters(value)})"
    if callable(value):
        return f"function ({_parameters(value)})"
    return "value"


def _members(owner: type) -> Iterator[tuple[str, str]]:
    """Public members that ComfyUI itself defines, and the attributes that its methods set."""
    of_host = [base for base in owner.__mro__ if base.__module__.split(".")[0] in (*HOST_MODULES, "server")]
    for name in {name for base in of_host for name in (*vars(base), *inspect.get_annotations(base))}:
        if not name.startswith("_"):
            yield name, _describe_member(owner, name)
    for name in {name for base in of_host for name in set_on_self(base)}:
        if not name.startswith("_") and not hasattr(owner, name):
            yield name, "attribute"


def _describe_member(owner: type, name: str) -> str:
    value = inspect.getattr_static(owner, name, None)
    kinds = {staticmethod: "static method", classmethod: "class method", property: "property"}
    kind = kinds.get(type(value), "method" if inspect.isfunction(value) else "value")
    mark = "abstract " if getattr(value, "__isabstractmethod__", False) else ""
    shown = f" ({_parameters(getattr(owner, name))})" if kind.endswith("method") else ""
    return mark + kind + shown


def _parameters(function: Any) -> str:
    """Names as in a call, without the bound first one of methods; of a class those of its constructor."""
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):
        return "..."
    if inspect.isfunction(function) and parameters and parameters[0].name == "self":
        parameters = parameters[1:]
    shown: list[str] = []
    for parameter in parameters:
        if parameter.kind is parameter.KEYWORD_ONLY and not any(text.startswith("*") for text in shown):
            shown.append("*")
        stars = {parameter.VAR_POSITIONAL: "*", parameter.VAR_KEYWORD: "**"}.get(parameter.kind, "")
        shown.append(stars + parameter.name + ("" if parameter.default is parameter.empty else "="))
    return ", ".join(shown)


def set_on_self(owner: type) -> set[str]:
    """The names that the methods of a class assign on their instance; none of a class that `type` made."""
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(owner)))
    except OSError:
        return set()
    stored = (node for node in ast.walk(tree) if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store))
    return {node.attr for node in stored if isinstance(node.value, ast.Name) and node.value.id == "self"}


if __name__ == "__main__":
    main()
