"""What ComfyUI versions that are not installed here offer: the files of tests/data/hosts, written by their script."""

from __future__ import annotations

import inspect
import json
from dataclasses import dataclass

from asymtalker.scripts._environment import ROOT

FOLDER = ROOT / "tests" / "data" / "hosts"
VERSIONS = sorted(
    (file.stem for file in FOLDER.glob("*.json")), key=lambda version: [int(n) for n in version.split(".")]
)
ABSENT = "absent"


@dataclass(frozen=True)
class Fact:
    """One name of a ComfyUI: ``kind`` as the script writes it, ``signature`` of what can be called."""

    kind: str
    is_abstract: bool
    signature: inspect.Signature | None

    @classmethod
    def parse(cls, text: str) -> Fact:
        """Of a line such as "abstract method (path, format=)"."""
        kind, bracket, parameters = text.partition(" (")
        mark, _, rest = kind.partition("abstract ")
        known = bool(bracket) and parameters != "...)"
        return cls(rest or mark, bool(rest), _signature(parameters[:-1]) if known else None)

    def refusal(self, positional: int, keywords: tuple[str, ...], open_ended: bool = False) -> str | None:
        """Why it cannot be called so; None where it can, or where its parameters are not known."""
        if self.signature is None:
            return None
        bind = self.signature.bind_partial if open_ended else self.signature.bind
        try:
            bind(*[None] * positional, **dict.fromkeys(keywords))
        except TypeError as error:
            return str(error)
        return None


def read_facts(version: str) -> dict[str, Fact]:
    """The facts of a version by full name."""
    lines = json.loads((FOLDER / f"{version}.json").read_text(encoding="utf-8"))
    assert lines.pop("ComfyUI") == version
    return {name: Fact.parse(text) for name, text in lines.items()}


def _signature(text: str) -> inspect.Signature:
    found: list[inspect.Parameter] = []
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    for part in text.split(", ") if text else []:
        stars, name = len(part) - len(part.lstrip("*")), part.strip("*=")
        default = None if part.endswith("=") else inspect.Parameter.empty
        if stars == 2:
            found.append(inspect.Parameter(name, inspect.Parameter.VAR_KEYWORD))
        elif stars == 1:
            kind = inspect.Parameter.KEYWORD_ONLY
            found += [inspect.Parameter(name, inspect.Parameter.VAR_POSITIONAL)] if name else []
        else:
            found.append(inspect.Parameter(name, kind, default=default))
    return inspect.Signature(found)
