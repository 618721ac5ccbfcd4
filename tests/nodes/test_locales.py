"""`locales/<language>/nodeDefs.json`, which ComfyUI serves to its front end, against the nodes' schemas."""

from __future__ import annotations

import asyncio
import json
import re
from typing import Any

import pytest

from asymtalker.tests.helpers import ROOT, Import

LANGUAGES = ("en", "zh", "ja", "ko", "fr", "es", "ru")
TRANSLATED = LANGUAGES[1:]
# In a translated text there must be at least one of these; the other languages share the Latin alphabet with English.
SCRIPTS = {"zh": r"[\u4e00-\u9fff]", "ja": r"[\u3040-\u30ff]", "ko": r"[\uac00-\ud7a3]", "ru": r"[\u0400-\u04ff]"}
NAMES = ("name", "display_name")

Texts = dict[tuple[str, ...], str]


def read(language: str) -> dict[str, Any]:
    return json.loads((ROOT / "locales" / language / "nodeDefs.json").read_text(encoding="utf-8"))


def flat(tree: dict[str, Any], path: tuple[str, ...] = ()) -> Texts:
    """Every text of a tree of texts, by its path."""
    texts: Texts = {}
    for key, value in tree.items():
        texts |= flat(value, (*path, key)) if isinstance(value, dict) else {(*path, key): value}
    return texts


def described(slot: Any, name: str) -> dict[str, str]:
    return {"name": name, "tooltip": slot.tooltip}


@pytest.fixture(scope="module")
def english(pack: Import) -> dict[str, Any]:
    """The schemas' own texts, in the form of nodeDefs.json."""
    nodes = asyncio.run(pack("nodes").AsymTalkerExtension().get_node_list())
    schemas = [node.define_schema() for node in nodes]
    return {
        schema.node_id: {
            "display_name": schema.display_name,
            "description": schema.description,
            "inputs": {slot.id: described(slot, slot.display_name or slot.id) for slot in schema.inputs},
            "outputs": {str(i): described(slot, slot.display_name) for i, slot in enumerate(schema.outputs)},
        }
        for schema in schemas
    }


def test_the_folder_has_the_languages_and_no_others() -> None:
    assert sorted(folder.name for folder in (ROOT / "locales").iterdir()) == sorted(LANGUAGES)


def test_english_is_what_the_nodes_say(english: dict[str, Any]) -> None:
    assert flat(read("en")) == flat(english)


@pytest.mark.parametrize("language", TRANSLATED)
def test_every_text_is_translated_and_no_other(language: str, english: dict[str, Any]) -> None:
    assert flat(read(language)).keys() == flat(english).keys()


@pytest.mark.parametrize("language", LANGUAGES)
def test_no_text_is_empty_or_read_as_a_placeholder(language: str) -> None:
    """vue-i18n gives `{}`, `@` and `|` a meaning and shows something else than the text."""
    for path, text in flat(read(language)).items():
        assert text == text.strip() != "", path
        assert not re.search(r"[{}@|]", text), path


@pytest.mark.parametrize("language", TRANSLATED)
def test_sentences_are_in_the_language(language: str) -> None:
    """Names may be those of English (`audio`, `CRF`); descriptions and tooltips may not."""
    english = flat(read("en"))
    for path, text in flat(read(language)).items():
        if path[-1] not in NAMES:
            assert text != english[path], path
            assert re.search(SCRIPTS.get(language, "."), text), path


@pytest.mark.parametrize("language", TRANSLATED)
def test_translations_keep_values_and_numbers(language: str) -> None:
    """A changed default, limit or option in the English text is a changed one in all languages."""
    english = flat(read("en"))
    for path, text in flat(read(language)).items():
        for pattern in (r"`[^`]*`", r"%[\w:-]+%", r"\d+"):
            assert sorted(re.findall(pattern, text)) == sorted(re.findall(pattern, english[path])), (path, pattern)


@pytest.mark.parametrize("language", TRANSLATED)
def test_a_socket_is_called_the_same_wherever_it_appears(language: str) -> None:
    """The English name of an input or output has one translation, so that ends that fit are seen to fit."""
    english, names = flat(read("en")), {}
    for path, text in flat(read(language)).items():
        if path[-1] == "name":
            assert names.setdefault(english[path], text) == text, path
