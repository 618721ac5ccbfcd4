"""`python -m asymtalker.scripts.help_pages` writes the help pages of all languages.

ComfyUI loads `web/docs/<Node>/<language>.md` first, and then `<Node>.md`, which is the English page. Pages in other
languages begin with the node's texts from locales/. The text after the mark in them is written by hand and is kept.
With --check, nothing is written and the exit status shows whether pages differ.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from pathlib import Path
from typing import Any

from ._environment import ROOT

DOCS, LOCALES = ROOT / "web" / "docs", ROOT / "locales"
ENGLISH = "en"
MARK = "<!-- from here on written by hand -->"
HEADINGS = {
    "zh": ("输入", "输出", "说明"),
    "ja": ("入力", "出力", "説明"),
    "ko": ("입력", "출력", "설명"),
    "fr": ("Entrées", "Sorties", "description"),
    "es": ("Entradas", "Salidas", "descripción"),
    "ru": ("Входы", "Выходы", "описание"),
}
"""The headings of inputs, outputs and descriptions."""


def pages() -> dict[Path, str]:
    """Every generated page, by its path from the root."""
    texts: dict[Path, str] = {}
    for english in sorted(DOCS.glob("*.md")):
        page = english.read_text(encoding="utf-8")
        folder = english.with_suffix("")
        texts[folder / f"{ENGLISH}.md"] = page
        (picture,) = re.findall(r"^!\[[^\]]*\](\([^)]*\))$", page, re.MULTILINE)
        for language in HEADINGS:
            path = folder / f"{language}.md"
            node = json.loads((LOCALES / language / "nodeDefs.json").read_text(encoding="utf-8"))[english.stem]
            texts[path] = translated(node, HEADINGS[language], picture) + by_hand(path)
    return {path.relative_to(ROOT): text for path, text in texts.items()}


def translated(node: dict[str, Any], headings: tuple[str, str, str], picture: str) -> str:
    """A page made from a node's own texts."""
    inputs, outputs, said = headings
    parts = [f"# {node['display_name']}", node["description"], f"![{node['display_name']}]{picture}"]
    for heading, slots in ((inputs, node["inputs"]), (outputs, node["outputs"])):
        rows = [f"| {slot['name']} | {slot['tooltip']} |" for slot in slots.values()]
        parts += [f"## {heading}", "\n".join([f"| {heading.lower()} | {said} |", "|---|---|", *rows])]
    return "\n\n".join(parts) + "\n"


def by_hand(path: Path) -> str:
    """The part of a page after the mark, including the mark; empty if there is none."""
    page = path.read_text(encoding="utf-8") if path.is_file() else ""
    _, mark, more = page.partition(MARK)
    return f"\n{mark}{more}" if mark else ""


def main() -> int:
    """Write the pages, or with --check compare them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="only list the pages that differ")
    check: bool = parser.parse_args().check
    differing = {
        path: text
        for path, text in pages().items()
        if not (ROOT / path).is_file() or (ROOT / path).read_text(encoding="utf-8") != text
    }
    for path, text in differing.items():
        print(path)
        if not check:
            (ROOT / path).parent.mkdir(exist_ok=True)
            (ROOT / path).write_text(text, encoding="utf-8")
    return int(check and bool(differing))


if __name__ == "__main__":
    sys.exit(main())
