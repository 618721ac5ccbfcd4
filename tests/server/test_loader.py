"""Load AsymTalker over HTTP: which files it says it took, and names that no list has."""

from __future__ import annotations

from typing import Any

import pytest

from asymtalker.scripts._client import ComfyClient, Graph, PromptFailed, PromptRefused
from asymtalker.scripts._server import ComfyServer

pytestmark = pytest.mark.server

NANO = {"model": "nano", "weight_dtype": "default", "vae": "default", "audio_encoder": "default"}
HOSTILE = ("\ud800", "\udcff.safetensors", "../../x.safetensors", "/etc/passwd", "a" * 5000, "", "nano\0")


def loader_graph(**inputs: Any) -> Graph:
    """A graph that runs the loader alone."""
    return {
        "loader": {"class_type": "AsymTalkerLoader", "inputs": {**NANO, **inputs}},
        "seen": {"class_type": "PreviewAny", "inputs": {"source": ["loader", 1]}},
    }


@pytest.fixture(scope="module", autouse=True)
def the_server_goes_on(client: ComfyClient, server: ComfyServer) -> Any:
    """After whatever was sent, the queue takes the next job."""
    yield
    client.free()
    assert client.run(loader_graph())["status"]["completed"]


def test_it_says_which_files_it_took(client: ComfyClient, server: ComfyServer) -> None:
    texts: list[str] = []
    client.free()
    client.run(loader_graph(), lambda kind, data: texts.append(data["text"]) if kind == "progress_text" else None)
    expected = "model: asymtalker_nano.safetensors (bundled), vae: asymtalker_nano_vae.safetensors (bundled)"
    assert expected in texts and expected in server.log.read_text(encoding="utf-8", errors="replace")


@pytest.mark.parametrize("name", HOSTILE, ids=range(len(HOSTILE)))
@pytest.mark.parametrize("input_name", ["model", "vae", "audio_encoder"])
def test_a_name_that_no_list_has_is_refused_by_the_input_s_name(
    client: ComfyClient, input_name: str, name: str
) -> None:
    with pytest.raises((PromptRefused, PromptFailed), match=rf"{input_name}:") as caught:
        client.run(loader_graph(**{input_name: name}))
    assert "No such file" not in str(caught.value)
    assert client.run(loader_graph())["status"]["completed"]


@pytest.mark.parametrize("input_name", list(NANO))
def test_a_prompt_without_an_input_gets_core_s_own_message(client: ComfyClient, input_name: str) -> None:
    graph = loader_graph()
    del graph["loader"]["inputs"][input_name]
    with pytest.raises(PromptRefused) as caught:
        client.run(graph)
    assert str(caught.value) == f"AsymTalkerLoader (node loader): Required input is missing: {input_name}"


@pytest.mark.parametrize("value", [5, None, {"a": 1}, [], ["loader", 0, 0]])
def test_a_model_that_is_no_name_is_refused(client: ComfyClient, value: Any) -> None:
    with pytest.raises((PromptRefused, PromptFailed)):
        client.run(loader_graph(model=value))
