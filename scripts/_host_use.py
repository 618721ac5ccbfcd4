"""What the pack uses of ComfyUI's modules, read from its source: the names, and how each of them is called.

Standard library only: this also runs in the interpreter of any ComfyUI.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ._environment import ROOT

HOST_MODULES = ("comfy", "comfy_api", "comfy_execution", "comfy_extras", "folder_paths", "latent_preview")
"""Top-level modules of ComfyUI that the pack imports; its server is reached through ``sys.modules`` alone."""


@dataclass(frozen=True)
class Use:
    """One place where the pack names something of ComfyUI, as in ``comfy.sd.VAE``.

    ``positional`` and ``keywords`` are the arguments of a call, ``is_call`` distinguishes calls from other uses. A
    ``*`` or ``**`` argument makes the count or the names ``open_ended``.
    """

    name: str
    where: str
    is_call: bool = False
    positional: int = 0
    keywords: tuple[str, ...] = ()
    open_ended: bool = False


def pack_files() -> list[Path]:
    """The source files that ComfyUI imports."""
    rooms = ("nodes", "host", "jobs", "video", "live", "faces")
    return [ROOT / "__init__.py", *(file for room in rooms for file in sorted((ROOT / room).rglob("*.py")))]


def uses() -> list[Use]:
    """Every use of ComfyUI's modules in the pack."""
    return [use for file in pack_files() for use in _uses_in(file)]


def _uses_in(file: Path) -> Iterator[Use]:
    tree = ast.parse(file.read_text(encoding="utf-8"))
    imported = _imported(tree)
    for node in (node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)):
        for name in _imported_from(node).values():
            yield Use(name, _place(file, node))
    called = {id(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and (name := _dotted(node.func, imported)):
            keywords = tuple(keyword.arg for keyword in node.keywords if keyword.arg is not None)
            is_starred = any(isinstance(argument, ast.Starred) for argument in node.args)
            open_ended = is_starred or len(keywords) < len(node.keywords)
            positional = 0 if is_starred else len(node.args)
            yield Use(name, _place(file, node), True, positional, keywords, open_ended)
        elif isinstance(node, ast.Attribute) and id(node) not in called and (name := _dotted(node, imported)):
            yield Use(name, _place(file, node))


def _place(file: Path, node: ast.expr | ast.stmt) -> str:
    return f"{file.relative_to(ROOT).as_posix()}:{node.lineno}"


def _imported(tree: ast.Module) -> dict[str, str]:
    """Local name -> full name, for what a file imports of ComfyUI."""
    names: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            names |= _imported_from(node)
        elif isinstance(node, ast.Import):
            for alias in node.names:
                package = alias.name.split(".")[0]
                if package in HOST_MODULES:
                    names[alias.asname or package] = alias.name if alias.asname else package
    return names


def _imported_from(node: ast.ImportFrom) -> dict[str, str]:
    if node.level or node.module is None or node.module.split(".")[0] not in HOST_MODULES:
        return {}
    return {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}


def _dotted(node: ast.expr, imported: dict[str, str]) -> str | None:
    """The full name of an expression such as ``model_base.ModelType.FLOW``; None where it is nothing of ComfyUI."""
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    if not isinstance(node, ast.Name) or node.id not in imported:
        return None
    return ".".join([imported[node.id], *reversed(parts)])
