"""Wrong values at every input of every node: one error that names the input, whatever came through the link."""

from __future__ import annotations

import asyncio
import json
import math
import random
import subprocess
import sys
from decimal import Decimal
from fractions import Fraction
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import requests
import torch

from asymtalker.scripts._client import ComfyClient, Graph, PromptFailed, PromptRefused
from asymtalker.tests.helpers import Import

SEED = 19
WIDGETS = ("COMBO", "INT", "FLOAT", "STRING", "BOOLEAN")
NODES = {
    "loader": "AsymTalkerLoader",
    "face_crop": "AsymTalkerFaceCrop",
    "reference": "AsymTalkerReference",
    "audio_features": "AsymTalkerAudioFeatures",
    "continuity": "AsymTalkerContinuity",
    "sampler": "AsymTalkerSampler",
    "face_track": "AsymTalkerFaceTrack",
    "face_paste": "AsymTalkerFacePaste",
    "conversation": "AsymTalkerConversation",
    "drift_chart": "AsymTalkerDriftChart",
    "mux": "AsymTalkerMux",
    "kept_jobs": "AsymTalkerKeptJobs",
}


def odd_values() -> list[Any]:
    """What a link, or a prompt's JSON, can bring."""
    generator = random.Random(SEED)
    letters = "aB \x00\ud800\udfff\u202e\U0001f600/\\."
    texts = ["".join(generator.choices(letters, k=generator.randrange(12))) for _ in range(10)]
    numbers = [generator.choice((-1, 1)) * 10.0 ** generator.randrange(-300, 300) for _ in range(6)]
    return [
        *texts,
        *numbers,
        *(None, True, 0, -1, 10**30, -(10**400), 10**5000, 0.5, -0.0, math.nan, math.inf, -math.inf, 1j),
        *(np.float32("nan"), np.int64(-5), np.array([1.0, 2.0]), Decimal("NaN"), Fraction(1, 3)),
        *(torch.tensor(math.nan), torch.zeros(2), "", "None", "\ud800", "x" * 100_000, b"bytes", bytearray(3)),
        *([], [None], ["temporal"], [1, 2], {}, {"__value__": 1}, {1}, (), range(3)),
        *(object(), object, SimpleNamespace(), len, lambda: None, Ellipsis, NotImplemented, ValueError("x")),
    ]


def is_right(slot: Any, value: Any) -> bool:
    """Whether ``value`` is one that the widget or socket says it takes."""
    kind = slot.get_io_type()
    if value is None:
        return bool(slot.optional)
    if kind == "COMBO":
        return isinstance(value, (str, int)) and value in slot.options
    if kind == "STRING":
        return isinstance(value, str) and not any("\ud800" <= letter <= "\udfff" for letter in value)
    is_number = isinstance(value, (bool, int, float, Fraction, np.floating, np.integer)) and value == value
    if kind == "BOOLEAN":
        return isinstance(value, (bool, int, float, Fraction, np.floating, np.integer))
    if kind in ("INT", "FLOAT"):
        return is_number and slot.min <= value <= slot.max and (kind == "FLOAT" or value == int(value))
    classes = {"IMAGE": torch.Tensor, "MASK": torch.Tensor, "AUDIO": dict}
    return any(isinstance(value, classes.get(one, ())) for one in kind.split(","))


@pytest.fixture(scope="module")
def right_values(pack: Import) -> dict[str, Any]:
    """For each socket type something that the checks let through; no node gets as far as to use it."""
    rollout, reference, crop = pack("models.rollout"), pack("models.reference"), pack("faces.crop")
    audio = pack("models.audio").AudioFeatures(torch.zeros(1, 1, 320), "test")
    return {
        "MODEL": SimpleNamespace(model=None, load_device=None),
        "VAE": SimpleNamespace(first_stage_model=None, encode=None, decode=None, latent_channels=48),
        "AUDIO_ENCODER": SimpleNamespace(encode_audio=None),
        "IMAGE": torch.zeros(1, 32, 32, 3),
        "MASK": torch.zeros(1, 64, 64),
        "AUDIO": {"waveform": torch.zeros(1, 1, 160), "sample_rate": 16_000},
        "VIDEO": SimpleNamespace(get_dimensions=None, get_components=None),
        "ASYMTALKER_REFERENCE": reference.Reference(torch.zeros(1, 48, 1, 2, 2), torch.zeros(1, 3, 1, 32, 32), 1),
        "ASYMTALKER_AUDIO": audio,
        "ASYMTALKER_CONTINUITY": rollout.ContinuityOptions(),
        "ASYMTALKER_CROP": crop.Crop(0, 0, 32, 32, 32),
    }


def right_value(slot: Any, right_values: dict[str, Any]) -> Any:
    kind = slot.get_io_type()
    if kind not in WIDGETS:
        return right_values[kind.split(",")[0]]
    return slot.default if slot.default is not None else "{}"


def test_all_nodes_are_here(pack: Import) -> None:
    listed = asyncio.run(pack("nodes").AsymTalkerExtension().get_node_list())
    assert sorted(node.define_schema().node_id for node in listed) == sorted(NODES.values())


@pytest.mark.usefixtures("folders")
@pytest.mark.parametrize("module", NODES)
def test_a_wrong_value_is_one_error_that_names_the_input(
    pack: Import, right_values: dict[str, Any], module: str
) -> None:
    node = getattr(pack(f"nodes.{module}"), NODES[module])
    slots = node.define_schema().inputs
    right = {slot.id: right_value(slot, right_values) for slot in slots}
    count = 0
    for slot in slots:
        for value in odd_values():
            if is_right(slot, value):
                continue
            with pytest.raises(ValueError, match=f"^(?s:{slot.id}: |audio: the video has no sound)") as caught:
                node.execute(**{**right, slot.id: value})
            assert len(str(caught.value).encode()) < 1000
            count += 1
    assert count >= 30 * len(slots)


@pytest.mark.usefixtures("folders")
@pytest.mark.parametrize("module", NODES)
def test_combos_take_their_choices_to_the_letter(pack: Import, right_values: dict[str, Any], module: str) -> None:
    node = getattr(pack(f"nodes.{module}"), NODES[module])
    slots = node.define_schema().inputs
    right = {slot.id: right_value(slot, right_values) for slot in slots}
    for slot in slots:
        if slot.get_io_type() != "COMBO":
            continue
        for choice in slot.options:
            for near in (choice.swapcase(), f"{choice} ", f" {choice}", f"{choice}\n", choice[:-1], [choice]):
                with pytest.raises(ValueError, match=f"^{slot.id}: .* is not one of .*{slot.options[0]}"):
                    node.execute(**{**right, slot.id: near})


@pytest.mark.usefixtures("folders")
@pytest.mark.parametrize("module", NODES)
def test_right_values_come_through_in_their_type(pack: Import, right_values: dict[str, Any], module: str) -> None:
    """Also those of numpy, whole floats, and a None at an optional input, which is as if nothing were connected."""
    inputs = pack("nodes.inputs")
    schema = getattr(pack(f"nodes.{module}"), NODES[module]).define_schema()
    types = {"INT": int, "FLOAT": float, "STRING": str, "BOOLEAN": bool}
    for slot in schema.inputs:
        kind, value = slot.get_io_type(), right_value(slot, right_values)
        assert inputs.checked_value(slot, value) is value or kind in types
        if kind in types:
            assert type(inputs.checked_value(slot, value)) is types[kind]
        if kind in ("INT", "FLOAT"):
            for edge in (slot.min, slot.max):
                assert inputs.checked_value(slot, edge) == edge
            assert type(inputs.checked_value(slot, np.float64(slot.min))) is types[kind]


def test_nothing_at_an_optional_input_is_its_default(pack: Import) -> None:
    inputs = pack("nodes.inputs")
    node = pack("nodes.audio_features").AsymTalkerAudioFeatures
    seen: dict[str, Any] = {}

    @inputs.checked
    def execute(cls: Any, audio_encoder: Any, audio: Any, listening: str = "whole", continues: Any = None) -> None:
        seen.update(listening=listening, continues=continues)

    nothing: Any = None
    execute(node, SimpleNamespace(encode_audio=None), {"waveform": 1}, nothing, nothing)
    assert seen == {"listening": "whole", "continues": None}


# Messages.


@pytest.mark.parametrize("value", odd_values(), ids=lambda value: type(value).__name__)
def test_a_value_can_be_quoted(pack: Import, value: Any) -> None:
    quoted = pack("host.messages").quoted(value)
    quoted.encode()
    assert 0 < len(quoted) <= 80


def test_errors_are_encodable_with_what_they_came_of(pack: Import) -> None:
    inputs = pack("nodes.inputs")

    @inputs.checked
    def execute(cls: Any) -> None:
        try:
            raise FileNotFoundError(2, "No such file", "name-\udcff.wav")
        except FileNotFoundError as error:
            raise RuntimeError("cannot read name-\udcff.wav", 7) from error

    node = SimpleNamespace(define_schema=lambda: SimpleNamespace(inputs=[]))
    with pytest.raises(RuntimeError, match="cannot read") as caught:
        execute(node)
    assert caught.value.args == ("cannot read name-\\udcff.wav", 7)
    cause = caught.value.__cause__
    assert isinstance(cause, FileNotFoundError) and cause.errno == 2
    for error in (caught.value, cause):
        str(error).encode()


def test_the_packs_errors_have_plain_names(comfy: Import, pack: Import) -> None:
    """As ComfyUI's execution.full_type_name makes them: module and name."""
    foreign = type("ForeignError", (Exception,), {"__module__": None})
    asyncio.run(pack("nodes").AsymTalkerExtension().get_node_list())
    root = pack("nodes").__name__.removesuffix(".nodes")
    classes: list[type[BaseException]] = [Exception]
    names = []
    while classes:
        current = classes.pop()
        classes += current.__subclasses__()
        assert not str(current.__module__).startswith(root)
        if current.__module__ == "AsymTalker":
            names.append(f"{current.__module__}.{current.__qualname__}")
    assert {"AsymTalker.MediaError", "AsymTalker.CheckpointError", "AsymTalker.ConfigError"} <= set(names)
    assert not any(set(name) & set("/\\ ") for name in names)
    assert foreign.__module__ is None


# Prompts of an API client, on a running server.


def prompt_error(client: ComfyClient, graph: Graph) -> dict[str, Any]:
    """The server's refusal of a prompt."""
    answer = requests.post(f"{client.url}/prompt", json={"prompt": graph}, timeout=30)
    assert answer.status_code == 400
    return answer.json()


def node_of(object_info: dict[str, Any], class_type: str) -> dict[str, Any]:
    """A node of a prompt with its widgets' defaults."""
    spec = object_info[class_type]["input"]
    inputs = {**spec.get("required", {}), **spec.get("optional", {})}
    values = {name: options["default"] for name, (_, options) in inputs.items() if "default" in options}
    return {"class_type": class_type, "inputs": values}


@pytest.mark.server
def test_a_lone_surrogate_does_not_end_the_queue(client: ComfyClient) -> None:
    object_info = client.object_info()
    loader = node_of(object_info, "AsymTalkerLoader")
    loader["inputs"]["vae"] = "a\ud800b"
    graph = {"1": loader, "2": {"class_type": "PreviewAny", "inputs": {"source": ["1", 0]}}}
    # Newer servers refuse it themselves.
    with pytest.raises((PromptFailed, PromptRefused), match="vae: "):
        client.run(graph)
    kept = node_of(object_info, "AsymTalkerKeptJobs")
    kept["inputs"]["remove"] = "\ud800"
    with pytest.raises(PromptFailed, match="remove: "):
        client.run({"1": kept})
    kept["inputs"]["remove"] = ""
    assert client.run({"1": kept})


@pytest.mark.server
@pytest.mark.parametrize("class_type", NODES.values())
def test_a_missing_input_is_cores_own_message(client: ComfyClient, class_type: str) -> None:
    """Nodes that check their inputs when they are queued must not fall over the one that is missing."""
    required = client.object_info()[class_type]["input"]["required"]
    graph: Graph = {"1": {"class_type": class_type, "inputs": {}}}
    if not client.object_info()[class_type]["output_node"]:
        graph["2"] = {"class_type": "PreviewAny", "inputs": {"source": ["1", 0]}}
    refusal = prompt_error(client, graph)
    errors = refusal["node_errors"]["1"]["errors"]
    missing = [error["extra_info"]["input_name"] for error in errors if error["type"] == "required_input_missing"]
    assert sorted(missing) == sorted(required) and len(errors) == len(missing)
    assert "Traceback" not in json.dumps(refusal)


def test_errors_are_pickled_where_comfyui_is_not() -> None:
    """Plain names are given in ComfyUI alone: a trainer's workers send errors by the names of their classes."""
    program = (
        "import pickle; from asymtalker.models.config import ConfigError; "
        "assert type(pickle.loads(pickle.dumps(ConfigError('x')))) is ConfigError"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
