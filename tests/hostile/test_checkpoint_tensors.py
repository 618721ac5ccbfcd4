"""Checkpoint files that are damaged, pretend or lie: each loads right or ends in one message that names the file."""

from __future__ import annotations

import io
import json
import random
import resource
import struct
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save, save_file
from torch import Tensor

from asymtalker.models.checkpoint import CheckpointError, read_checkpoint, read_published
from asymtalker.models.config import ConfigError, DiTConfig, SamplingConfig
from asymtalker.models.nano_vae import NanoVAE
from asymtalker.models.network_tensors import fitted, network_tensors
from asymtalker.tests.models.tiny import TINY, tiny_dit, tiny_vae

MAX_GROWTH = 300 * 1024**2
Refusal = (CheckpointError, ConfigError)


@pytest.fixture(scope="module", autouse=True)
def bounded_memory() -> Iterator[None]:
    """Nothing in this file may take much memory, whatever a file claims."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    yield
    grown = 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
    assert grown < MAX_GROWTH


@pytest.fixture(scope="module")
def tensors() -> dict[str, Tensor]:
    return dict(tiny_dit().state_dict())


@pytest.fixture(scope="module")
def good_files(tensors: dict[str, Tensor]) -> dict[str, bytes]:
    """The network as a file of each form."""
    pickled = io.BytesIO()
    torch.save(tensors, pickled)
    legacy = io.BytesIO()
    torch.save(tensors, legacy, _use_new_zipfile_serialization=False)
    return {"safetensors": save(tensors, TINY.to_metadata()), "zip": pickled.getvalue(), "legacy": legacy.getvalue()}


def identify(path: Path) -> dict[str, Tensor]:
    """Everything that the loader does with a file before it builds a network."""
    tensors, metadata = read_published(path)
    metadata = {**TINY.to_metadata(), **metadata}
    found = network_tensors(tensors, metadata)
    SamplingConfig.from_metadata(metadata)
    return fitted(found.tensors, DiTConfig.from_state_dict(found.tensors, metadata)).tensors


def damaged(content: bytes, seed: int) -> bytes:
    """``content`` cut, flipped, overwritten or padded somewhere, mostly where its structure is."""
    draw = random.Random(seed)
    kind = draw.choice(("cut", "flip", "flip", "length", "zeros", "noise", "doubled", "grown"))
    place = draw.randrange(min(len(content), 4000)) if draw.random() < 0.7 else draw.randrange(len(content))
    data = bytearray(content)
    if kind == "cut":
        return content[:place]
    if kind == "flip":
        data[place] ^= 1 << draw.randrange(8)
    elif kind == "length":
        data[:8] = struct.pack("<Q", draw.choice((0, 1, 2**31, 2**63, len(content), draw.randrange(10_000))))
    elif kind == "zeros":
        data[place : place + 64] = bytes(len(data[place : place + 64]))
    elif kind == "noise":
        data[place : place + 64] = draw.randbytes(len(data[place : place + 64]))
    elif kind == "doubled":
        return content + content
    else:
        return content + draw.randbytes(100)
    return bytes(data)


@pytest.mark.parametrize("form", ["safetensors", "zip", "legacy"])
@pytest.mark.parametrize("seed", range(16))
def test_damaged_bytes(good_files: dict[str, bytes], tmp_path: Path, form: str, seed: int) -> None:
    path = tmp_path / ("broken.safetensors" if form == "safetensors" else "broken.pth")
    path.write_bytes(damaged(good_files[form], seed))
    try:
        found = read_checkpoint(path)[0]
    except Refusal as error:
        assert "broken" in str(error)
        return
    with_names = network_tensors(found, TINY.to_metadata()).tensors
    # Damage to numbers does not show; damage to names and shapes must not pass.
    try:
        fitted(with_names, DiTConfig.from_state_dict(with_names, TINY.to_metadata()))
    except Refusal as error:
        assert len(str(error)) < 1000


@pytest.mark.parametrize("form", ["safetensors", "zip", "legacy"])
@pytest.mark.parametrize("name", ["x.safetensors", "x.pth", "x.bin", "x.ckpt"])
def test_files_are_read_by_content(
    good_files: dict[str, bytes], tensors: dict[str, Tensor], tmp_path: Path, form: str, name: str
) -> None:
    (tmp_path / name).write_bytes(good_files[form])
    found = identify(tmp_path / name)
    assert all(torch.equal(found[key], tensors[key]) for key in tensors)


def a_zip() -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr("readme.txt", "nothing here")
    return content.getvalue()


PRETENDERS = {
    "html": (b"<!DOCTYPE html><html><body>Sign in</body></html>", r"web page \(HTML\)"),
    "html in capitals": (b"\n  <HTML>\n<head>", r"web page \(HTML\)"),
    "xml": (b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>", r"web page \(HTML\)"),
    "lfs": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 6030864656\n", "Git LFS pointer"),
    "error text": (b"Entry not found", "text file that begins with 'Entry not found'"),
    "error object": (b'{"error": "Invalid credentials"}', "text file that begins with"),
    "gguf": (b"GGUF\x03\x00\x00\x00" + bytes(100), "GGUF"),
    "empty": (b"", r"empty \(0 bytes\)"),
    "zeros": (bytes(5000), "download it again"),
    "gzip": (b"\x1f\x8b\x08\x00" + bytes(200), "download it again"),
    "zip": (a_zip(), r"not a PyTorch file|holds Python code"),
    "picture": (b"\x89PNG\r\n\x1a\n" + bytes(200), "download it again"),
}


@pytest.mark.parametrize("name", PRETENDERS)
@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_pretenders_are_called_what_they_are(tmp_path: Path, name: str, suffix: str) -> None:
    content, message = PRETENDERS[name]
    path = tmp_path / f"model{suffix}"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=message) as error:
        identify(path)
    assert str(path) in str(error.value) and "\n" not in str(error.value)[:200]


def nested(levels: int) -> dict[str, Any]:
    content: dict[str, Any] = {"a": torch.zeros(1)}
    for _ in range(levels):
        content = {"model": content}
    return content


def shared_views(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """As much as forty times the file: every tensor is a view of the same memory."""
    memory = torch.zeros(2**20)
    return {**tensors, **{f"blocks.{index}.x": memory[:] for index in range(40)}}


PICKLES: dict[str, tuple[Callable[[dict[str, Tensor]], object], str]] = {
    "stride 0": (lambda good: {**good, "blocks.0.x": torch.zeros(1).expand(80_000, 80_000)}, "expands 4 bytes"),
    "overlapping": (lambda good: {**good, "x": torch.zeros(9).as_strided((9, 9), (0, 1))}, "expands 36 bytes"),
    "shared": (shared_views, "share"),
    "sparse": (
        lambda good: {**good, "x": torch.sparse_coo_tensor(torch.zeros(1, 1), torch.ones(1), (10**9,))},
        "sparse",
    ),
    "meta": (lambda good: {**good, "x": torch.empty(10**9, device="meta")}, "sparse|Python code|not a PyTorch"),
    "quantised": (lambda good: {**good, "x": torch.quantize_per_tensor(torch.ones(3), 1.0, 0, torch.qint8)}, "quanti"),
    "a list": (lambda good: list(good.values()), "holds a list"),
    "a tensor": (lambda good: torch.zeros(3), "holds a Tensor"),
    "nothing": (lambda good: {}, r"holds no tensors \(nothing\)"),
    "numbers": (lambda good: {"epoch": 3, "lr": 0.1}, r"holds no tensors \(epoch, lr\)"),
    "numbered": (lambda good: dict(enumerate(good.values())), "holds no tensors"),
    "deep": (lambda good: nested(50), "holds no tensors"),
    "deeper": (lambda good: nested(400), "holds no tensors|not a PyTorch file"),
    "code": (lambda good: {**good, "path": Path("/tmp")}, "holds Python code"),
}


@pytest.mark.parametrize("name", PICKLES)
@pytest.mark.filterwarnings("ignore")
def test_pickles_of_other_things(tensors: dict[str, Tensor], tmp_path: Path, name: str) -> None:
    make, message = PICKLES[name]
    torch.save(make(tensors), tmp_path / "odd.pth")
    with pytest.raises(CheckpointError, match=rf"odd\.pth.*({message})"):
        identify(tmp_path / "odd.pth")


NAN, HUGE = float("nan"), float("inf")
LIES = (0, -1, 10**9, 10**400, 1.5, NAN, HUGE, True, None, "x", "x" * 10**5, [], [1] * 9, {}, {"a": {}})
KEYS = ("num_heads", "eps", "vae_stride", "patch_size", "prediction", "audio", "dim", "num_layers")
AUDIO_KEYS = ("window", "blocks", "channels")


def lies() -> list[tuple[str, object]]:
    """Every kind of value for every key, of which a seeded draw is tried."""
    every = [(key, value) for key in (*KEYS, *(f"audio.{key}" for key in AUDIO_KEYS)) for value in LIES]
    return random.Random(0).sample(every, 70)


def lying(key: str, value: object) -> str:
    config = TINY.to_dict()
    if key.startswith("audio."):
        config["audio"] = {**config["audio"], key.removeprefix("audio."): value}
    else:
        config[key] = value
    return json.dumps(config)


@pytest.mark.parametrize("case", range(70))
@pytest.mark.parametrize("beside", [False, True])
def test_configurations_that_lie(tensors: dict[str, Tensor], tmp_path: Path, case: int, beside: bool) -> None:
    key, value = lies()[case]
    text = lying(key, value)
    path = tmp_path / "net.safetensors"
    save_file(tensors, path, None if beside else {"config": text})
    if beside:
        (tmp_path / "config.json").write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError) as error:
        identify(path)
    assert ("config.json" if beside else "`config` metadata") in str(error.value)
    assert key.split(".")[0] in str(error.value) and len(str(error.value)) < 1000


@pytest.mark.parametrize(
    "text",
    ["", "[", "[]", "3", "null", '"x"', "{" * 5000, "[" * 200_000, '{"audio": "x"}', f'{{"num_heads": {"9" * 9000}}}'],
)
@pytest.mark.parametrize("beside", [False, True])
def test_configurations_that_are_none(tensors: dict[str, Tensor], tmp_path: Path, text: str, beside: bool) -> None:
    save_file(tensors, tmp_path / "net.safetensors", None if beside else {"config": text})
    if beside:
        (tmp_path / "config.json").write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=r"config\.json" if beside else "`config` metadata"):
        identify(tmp_path / "net.safetensors")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_configurations_in_the_encodings_of_editors(tensors: dict[str, Tensor], tmp_path: Path, encoding: str) -> None:
    save_file(tensors, tmp_path / "net.safetensors")
    (tmp_path / "config.json").write_text(json.dumps(TINY.to_dict()), encoding=encoding)
    read, metadata = read_published(tmp_path / "net.safetensors")
    assert DiTConfig.from_state_dict(read, metadata) == TINY


@pytest.mark.parametrize("content", [b"\xff\xfe\xff", b"\x80\x81", b"a" * (2 << 20)])
def test_configurations_that_are_no_text(tensors: dict[str, Tensor], tmp_path: Path, content: bytes) -> None:
    save_file(tensors, tmp_path / "net.safetensors")
    (tmp_path / "config.json").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"config\.json"):
        identify(tmp_path / "net.safetensors")


def test_another_models_configuration_is_named_as_such(tensors: dict[str, Tensor], tmp_path: Path) -> None:
    save_file(tensors, tmp_path / "net.safetensors")
    foreign = {"_class_name": "AutoencoderKLLTXVideo", "patch_size": 4, "vae_stride": [4, 16, 16]}
    (tmp_path / "config.json").write_text(json.dumps(foreign), encoding="utf-8")
    with pytest.raises(ConfigError, match=r"patch_size is 4.*config\.json, which describes a 'AutoencoderKLLTXVideo'"):
        identify(tmp_path / "net.safetensors")


@pytest.mark.parametrize("key", ["sampler", "steps", "shift", "guidance", "frames_per_chunk"])
@pytest.mark.parametrize("value", [None, True, -1, 10**9, float("nan"), "x" * 10**5, [], {}])
def test_sampling_that_lies(key: str, value: object) -> None:
    with pytest.raises(ConfigError, match=f"`sampling` metadata is wrong: .*{key}") as error:
        SamplingConfig.from_metadata({"sampling": json.dumps({key: value})})
    assert len(str(error.value)) < 300


@pytest.mark.parametrize("key", ["width", "latent_channels", "encoder_blocks", "decoder_blocks", "latent_scale"])
@pytest.mark.parametrize("value", [None, True, -1, 10**9, 4096, 99, float("nan"), "x", []])
def test_nano_vaes_that_lie(key: str, value: object) -> None:
    vae = tiny_vae()
    values = {**json.loads(vae.config.to_metadata()["nano_vae"]), key: value}
    if key == "latent_scale" and value in (4096, 99):
        assert NanoVAE.from_checkpoint(vae.state_dict(), {"nano_vae": json.dumps(values)}).config.latent_scale == value
        return
    with pytest.raises(Refusal, match=f"{key}|a nano VAE|nano_vae"):
        NanoVAE.from_checkpoint(vae.state_dict(), {"nano_vae": json.dumps(values)})


@pytest.mark.parametrize(
    "name", ["patch_embedding.weight", "head.head.weight", "blocks.0.ffn.0.weight", "audio_proj.proj3.weight"]
)
@pytest.mark.parametrize(
    "shape", [(), (0,), (1,), (65_536,), (1, 1), (4096, 1), (48, 8, 1, 2), (0, 8, 1, 2, 2), (65_536, 8, 1, 2, 2)]
)
def test_shapes_that_make_no_network(tensors: dict[str, Tensor], name: str, shape: tuple[int, ...]) -> None:
    changed = {**tensors, name: torch.zeros(shape)}
    with pytest.raises(Refusal) as error:
        config = DiTConfig.from_state_dict(changed, TINY.to_metadata())
        fitted(changed, config)
    assert len(str(error.value)) < 1000
