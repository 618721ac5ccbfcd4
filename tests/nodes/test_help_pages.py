"""The help pages: one for each node in each language, so that the front end never asks for a page that is not there."""

from __future__ import annotations

import json

import pytest

from asymtalker.scripts.help_pages import DOCS, ENGLISH, HEADINGS, LOCALES, MARK, by_hand, pages
from asymtalker.tests.helpers import ROOT

NODES = sorted(json.loads((LOCALES / ENGLISH / "nodeDefs.json").read_text(encoding="utf-8")))
MET_BY_EVERYONE = ("AsymTalkerLoader", "AsymTalkerSampler", "AsymTalkerMux")
LEAST_BY_HAND = 400


def test_every_node_has_a_page_in_every_language() -> None:
    assert {path.stem for path in DOCS.glob("*.md")} == set(NODES)
    assert sorted(folder.name for folder in LOCALES.iterdir()) == sorted([ENGLISH, *HEADINGS])
    wanted = {DOCS / node / f"{language}.md" for node in NODES for language in (ENGLISH, *HEADINGS)}
    assert set(DOCS.glob("*/*.md")) == wanted


def test_the_pages_are_what_their_program_writes() -> None:
    """After a change of a text: python -m asymtalker.scripts.help_pages."""
    differing = [path for path, text in pages().items() if (ROOT / path).read_text(encoding="utf-8") != text]
    assert differing == []


@pytest.mark.parametrize("language", HEADINGS)
@pytest.mark.parametrize("node", MET_BY_EVERYONE)
def test_nodes_that_everyone_meets_have_more_than_their_tooltips(node: str, language: str) -> None:
    assert len(by_hand(DOCS / node / f"{language}.md").encode()) > LEAST_BY_HAND + len(MARK)
