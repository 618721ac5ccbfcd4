"""The pack held against facts of the ComfyUI versions that it is to work in, whichever of them runs the tests."""

from __future__ import annotations

import ast
import inspect
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from asymtalker.scripts._environment import ROOT
from asymtalker.scripts._host_use import Use, pack_files, uses
from asymtalker.scripts.host_facts import WHOLE_CLASSES, resolve, set_on_self
from asymtalker.tests.helpers import PACK, Import
from asymtalker.tests.host.facts import ABSENT, FOLDER, VERSIONS, Fact, read_facts

RENEW = "write the files of tests/data/hosts anew: scripts/host_facts.py says how"

DETECTED: set[str] = set()
"""Names that the pack looks for before it uses them: an older ComfyUI need not have them."""

OBJECT_USES = {
    "comfy.audio_encoders.audio_encoders.AudioEncoderModel": (
        "dtype",
        "get_sd()",
        "load_device",
        "load_sd(weights)",
        "model",
        "patcher",
    ),
    "comfy.audio_encoders.wav2vec2.Wav2Vec2Model": ("encoder", "feature_extractor", "masked_spec_embed"),
    "comfy.latent_formats.LatentFormat": (
        "latent_channels",
        "latent_dimensions",
        "process_in(latents)",
        "process_out(latents)",
    ),
    "comfy.model_base.BaseModel": (
        "apply_model(x, sigma, reference=reference, audio_kv=audio_kv, transformer_options=options)",
        "diffusion_model",
        "get_dtype()",
        "latent_format",
        "load_model_weights(state_dict)",
        "manual_cast_dtype",
    ),
    "comfy.model_patcher.ModelPatcher": (
        "callbacks",
        "get_nested_additional_models()",
        "load_device",
        "memory_required(shape)",
        "model",
        "model_options",
        "patches",
        "pre_run()",
        "wrappers",
    ),
    "comfy.sd.VAE": (
        "decode(latents)",
        "device",
        "encode(pixels)",
        "first_stage_model",
        "get_sd()",
        "latent_channels",
        "latent_dim",
        "memory_used_decode",
        "patcher",
        "spacial_compression_decode()",
        "temporal_compression_decode()",
        "vae_dtype",
    ),
    "comfy.supported_models_base.BASE": ("set_inference_dtype(dtype, manual_cast)",),
    "comfy.taesd.taehv.TAEHV": ("latent_format", "show_progress_bar"),
    "comfy.utils.ProgressBar": ("update_absolute(value, preview=preview)",),
    "comfy_api.latest.Input.Video": (
        "get_components()",
        "get_dimensions()",
        "get_frame_count()",
        "get_frame_rate()",
    ),
    "comfy_api.latest.InputImpl.VideoFromFile": ("get_stream_source()",),
    "comfy_api.latest.Types.VideoComponents": ("images", "frame_rate", "audio"),
    "comfy_execution.utils.ExecutionContext": ("prompt_id",),
    "latent_preview.LatentPreviewer": ("decode_latent_to_preview_image(format, x0)",),
    "server.PromptServer": ("routes", "send_progress_text(text, node_id)", "send_sync(event, data)"),
}
"""How the pack uses objects of ComfyUI's classes; by name alone where it does not call."""

IMITATED = {"LogMelAudioEncoder": "comfy.audio_encoders.audio_encoders.AudioEncoderModel"}
"""Classes of the pack that stand in for one of ComfyUI's without being one."""

OF_EACH_NODE = {"execute", "validate_inputs", "fingerprint_inputs"}
"""Called with the inputs that the node itself declares."""

OWN_ATTRIBUTES = {"TalkingHeadModel.checkpoint"}
"""Public attributes that the pack adds to objects of ComfyUI's classes."""


@pytest.fixture(params=VERSIONS)
def facts(request: pytest.FixtureRequest) -> dict[str, Fact]:
    return read_facts(request.param)


def test_the_oldest_and_a_newer_host_are_known() -> None:
    assert VERSIONS[0] == "0.3.75" and len(VERSIONS) >= 3


@pytest.mark.slow
def test_facts_of_the_running_host_are_fresh(comfyui: Path) -> None:
    command = [sys.executable, "-m", "asymtalker.scripts.host_facts", str(comfyui)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    now = json.loads(done.stdout)
    file = FOLDER / f"{now['ComfyUI']}.json"
    if not file.is_file():
        pytest.skip(f"no facts of ComfyUI {now['ComfyUI']} are kept")
    kept = json.loads(file.read_text(encoding="utf-8"))
    assert {name: fact for name, fact in now.items() if kept.get(name) != fact} == {}, RENEW


def test_all_that_the_pack_names_is_there(facts: dict[str, Fact]) -> None:
    names = {use.name: use.where for use in uses()}
    assert sorted(names.keys() - facts.keys()) == [], RENEW
    absent = {name: where for name, where in names.items() if facts[name].kind == ABSENT and name not in DETECTED}
    assert absent == {}


def test_all_that_the_pack_calls_takes_its_arguments(facts: dict[str, Fact]) -> None:
    calls = [use for use in uses() if use.is_call and use.name in facts]
    assert len(calls) > 50
    refused = [f"{call.where} {call.name}: {why}" for call in calls if (why := _refusal(facts, call))]
    assert refused == []


def _refusal(facts: dict[str, Fact], call: Use) -> str | None:
    return facts[call.name].refusal(call.positional, call.keywords, call.open_ended)


@pytest.mark.parametrize("host_class", sorted(OBJECT_USES))
def test_objects_have_what_the_pack_uses(facts: dict[str, Fact], host_class: str) -> None:
    wrong: list[str] = []
    for text in OBJECT_USES[host_class]:
        use = ast.parse(text, mode="eval").body
        call = use if isinstance(use, ast.Call) else None
        member = call.func if call else use
        assert isinstance(member, ast.Name)
        fact = facts.get(f"{host_class}.{member.id}")
        if fact is None:
            wrong.append(f"no {member.id}")
        elif call and (why := fact.refusal(len(call.args), tuple(str(keyword.arg) for keyword in call.keywords))):
            wrong.append(f"{text}: {why}")
    assert wrong == []


def pack_classes(pack: Import) -> Iterator[type]:
    for file in pack_files():
        parts = file.relative_to(ROOT).with_suffix("").parts
        name = ".".join(part for part in parts if part != "__init__")
        for value in vars(pack(name)).values() if name else ():
            if inspect.isclass(value) and value.__module__ == f"{PACK}.{name}":
                yield value


@pytest.fixture(scope="session")
def pairs(comfy: Import, pack: Import) -> list[tuple[type, str]]:
    """Every class of the pack with each class of ComfyUI that it extends or imitates."""
    hosts = {resolve(name)[1]: name for name in WHOLE_CLASSES if name != "server.PromptServer"}
    found = [(own, hosts[base]) for own in pack_classes(pack) for base in own.__mro__ if base in hosts]
    return found + [(own, IMITATED[own.__name__]) for own in pack_classes(pack) if own.__name__ in IMITATED]


def test_every_extended_class_is_recorded_whole(pack: Import, pairs: list[tuple[type, str]]) -> None:
    extended = {own for own, _ in pairs}
    for own in pack_classes(pack):
        foreign = [base.__module__.split(".")[0] for base in own.__mro__]
        if {"comfy", "comfy_api", "latent_preview"} & set(foreign):
            assert own in extended, f"{own}: add what it extends to WHOLE_CLASSES of scripts/host_facts.py"
    assert {own.__name__ for own in extended} >= {"SpooledVideo", "TalkingHeadModel", "NanoStockVAE", "AsymTalkerMux"}


def test_overrides_take_what_the_host_passes(facts: dict[str, Fact], pairs: list[tuple[type, str]]) -> None:
    refused: list[str] = []
    for own, host in pairs:
        for name, signature in _own_methods(own).items():
            fact = facts.get(f"{host}.{name}")
            if fact is not None and fact.signature is not None and name not in OF_EACH_NODE:
                why = _cannot_take(signature, fact.signature)
                refused += [f"{own.__name__}.{name} as in {host}: {reason}" for reason in why]
    assert refused == []


def _own_methods(own: type) -> dict[str, inspect.Signature]:
    """Public methods that the pack writes, as they are called on an object or the class."""
    found: dict[str, inspect.Signature] = {}
    for name in {name for base in own.__mro__ if base.__module__.startswith(PACK) for name in vars(base)}:
        method = getattr(own, name)
        if name.startswith("_") or not callable(method):
            continue
        found[name] = inspect.signature(method)
        if inspect.isfunction(inspect.getattr_static(own, name)):
            found[name] = found[name].replace(parameters=list(found[name].parameters.values())[1:])
    return found


def _cannot_take(signature: inspect.Signature, wanted: inspect.Signature) -> Iterator[str]:
    """What a caller who knows the host's signature cannot pass, by position and by name."""
    parameters = list(wanted.parameters.values())
    plain = [parameter.name for parameter in parameters if parameter.kind == parameter.POSITIONAL_OR_KEYWORD]
    named = [parameter.name for parameter in parameters if parameter.kind == parameter.KEYWORD_ONLY]
    for positional, keywords in ((plain, named), ([], plain + named)):
        try:
            signature.bind(*positional, **dict.fromkeys(keywords))
        except TypeError as error:
            yield str(error)


def test_no_abstract_method_is_left(facts: dict[str, Fact], pairs: list[tuple[type, str]]) -> None:
    missing: list[str] = []
    for own, host in pairs:
        if inspect.isabstract(own):
            continue
        written = _own_methods(own)
        # The host's concrete classes among the bases answer what the pack does not.
        bases = [base for other, base in pairs if other is own]
        for name, fact in facts.items():
            member = name.removeprefix(f"{host}.")
            if fact.is_abstract and member != name and member not in written:
                answers = [facts.get(f"{base}.{member}") for base in bases]
                if not any(answer is not None and not answer.is_abstract for answer in answers):
                    missing.append(f"{own.__name__}.{member} of {host}")
    assert missing == []


def test_attributes_set_on_host_objects_are_the_hosts(facts: dict[str, Fact], pairs: list[tuple[type, str]]) -> None:
    """One that a host renames would be set and never read."""
    unknown = {
        f"{own.__name__}.{name}"
        for own, _ in pairs
        for name in set_on_self(own)
        if not name.startswith("_") and not any(f"{host}.{name}" in facts for other, host in pairs if other is own)
    }
    assert unknown == OWN_ATTRIBUTES
