"""A network's tensors in every form that checkpoints come in: found whole, or refused by name."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from models.checkpoint import CheckpointError, read_checkpoint
from models.config import DiTConfig
from models.dit import TalkingHeadDiT
from models.network_tensors import NetworkTensors, fitted, network_tensors
from scripts._environment import ROOT
from tests.models.tiny import TINY, tiny_dit

METADATA = TINY.to_metadata()
LAYER = "blocks.1.ffn.0"
PREFIXES = (
    "",
    "model.",
    "module.",
    "transformer.",
    "generator.",
    "diffusion_model.",
    "model.diffusion_model.",
    "_orig_mod.",
    "module._orig_mod.",
    "net.model.",
)


@pytest.fixture(scope="module")
def tensors() -> dict[str, Tensor]:
    """A tiny network's."""
    return dict(tiny_dit().state_dict())


def identified(tensors: Mapping[str, Tensor], metadata: Mapping[str, str] = METADATA) -> NetworkTensors:
    """What a network is built from, as the loader finds it."""
    found = network_tensors(tensors, metadata)
    network = fitted(found.tensors, DiTConfig.from_state_dict(found.tensors, metadata))
    return NetworkTensors(network.tensors, (*found.notes, *network.notes))


def assert_same(found: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> None:
    assert found.keys() == wanted.keys()
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)


@pytest.mark.parametrize("family", ["pro", "lite"])
def test_published_checkpoints_are_whole(family: str) -> None:
    shapes = json.loads((ROOT / "tests" / "data" / f"keys_{family}.json").read_text(encoding="utf-8"))
    found = identified({name: torch.empty(shape, device="meta") for name, shape in shapes.items()}, {})
    assert found.tensors.keys() == shapes.keys() and not found.notes


@pytest.mark.parametrize("prefix", PREFIXES)
@pytest.mark.parametrize("neighbours", [False, True])
def test_prefixes_alone_and_beside_other_tensors(tensors: dict[str, Tensor], prefix: str, neighbours: bool) -> None:
    others = {"vae.decoder.conv_in.weight": torch.zeros(2), "ema_step": torch.zeros(1)} if neighbours else {}
    found = identified({**{prefix + name: tensor for name, tensor in tensors.items()}, **others})
    assert_same(found.tensors, tensors)
    assert bool(found.notes) == neighbours
    assert all("vae.decoder.conv_in.weight" in note for note in found.notes)


def test_of_two_networks_the_averaged_one_is_taken(tensors: dict[str, Tensor]) -> None:
    both = {f"generator.{name}": torch.zeros_like(tensor) for name, tensor in tensors.items()}
    both |= {f"generator_ema.{name}": tensor for name, tensor in tensors.items()}
    assert_same(identified(both).tensors, tensors)


def test_compiled_blocks(tensors: dict[str, Tensor]) -> None:
    wrapped = {name.replace("blocks.1.", "blocks.1._orig_mod."): tensor for name, tensor in tensors.items()}
    assert_same(identified(wrapped).tensors, tensors)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda tensors: {"generator": tensors, "step": 3},
        lambda tensors: {"model": tensors, "optimizer": {"lr": 1.0}, "counter": torch.zeros(1)},
        lambda tensors: {"state_dict": {"module": tensors}},
        lambda tensors: {"generator": {"head": torch.zeros(1)}, "generator_ema": tensors},
        lambda tensors: {"model": {f"module.{name}": tensor for name, tensor in tensors.items()}},
        lambda tensors: {"anything": tensors},
    ],
)
def test_training_checkpoints(tensors: dict[str, Tensor], tmp_path: Path, wrap: Any) -> None:
    torch.save(wrap(tensors), tmp_path / "diffusion_pytorch_model.bin")
    assert_same(identified(read_checkpoint(tmp_path / "diffusion_pytorch_model.bin")[0]).tensors, tensors)


def sharded(folder: Path, tensors: dict[str, Tensor]) -> list[Path]:
    """Three parts and their index, which is the last of the paths."""
    files = [folder / f"model-{index:05d}-of-00003.safetensors" for index in (1, 2, 3)]
    names = list(tensors)
    for index, file in enumerate(files):
        save_file({name: tensors[name] for name in names[index::3]}, file, METADATA)
    weight_map = {name: files[position % 3].name for position, name in enumerate(names)}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}), encoding="utf-8")
    return [*files, folder / "model.safetensors.index.json"]


def test_parts_are_read_together(tensors: dict[str, Tensor], tmp_path: Path) -> None:
    for path in sharded(tmp_path, tensors):
        found, metadata = read_checkpoint(path)
        assert metadata == METADATA
        assert_same(identified(found).tensors, tensors)
    (tmp_path / "model-00002-of-00003.safetensors").unlink()
    for name in ("model-00001-of-00003.safetensors", "model.safetensors.index.json"):
        with pytest.raises(CheckpointError, match=r"model-00002-of-00003\.safetensors is missing"):
            read_checkpoint(tmp_path / name)


@pytest.mark.parametrize("file", ["../other.safetensors", "/etc/passwd", "", "a\0b", 3, None])
def test_an_index_reaches_nothing_outside_its_folder(tmp_path: Path, file: object) -> None:
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": file}}), encoding="utf-8")
    with pytest.raises(CheckpointError, match=r"not a file in the same folder|is missing"):
        read_checkpoint(index)


@pytest.mark.parametrize("kept", [(), ("text_embedding.0.weight",), ("text_embedding.2.bias",)])
def test_tensors_that_nothing_uses_may_be_absent(tensors: dict[str, Tensor], kept: tuple[str, ...]) -> None:
    pruned = {name: tensor for name, tensor in tensors.items() if name in kept or not name.startswith("text_")}
    found = identified(pruned)
    config = DiTConfig.from_state_dict(found.tensors, METADATA)
    network = TalkingHeadDiT(config)
    network.load_state_dict(found.tensors)
    assert not config.has_text_embedding and not found.notes


def quantised(tensors: dict[str, Tensor], scale_name: str, per_row: bool) -> dict[str, Tensor]:
    """Every block's matrices in fp8, with the scales that make them right."""
    result = dict(tensors)
    for name, weight in tensors.items():
        if name.startswith("blocks.") and name.endswith(".weight") and weight.ndim == 2:
            largest = weight.abs().amax(dim=1, keepdim=True) if per_row else weight.abs().max()
            scale = largest / torch.finfo(torch.float8_e4m3fn).max
            layer = name.removesuffix(".weight")
            result |= {name: (weight / scale).to(torch.float8_e4m3fn), f"{layer}.{scale_name}": scale}
    return result


SCALED = {
    "scaled_fp8": ("scale_weight", {"scaled_fp8": torch.zeros(2, dtype=torch.float8_e4m3fn)}),
    "comfy_quant": (
        "weight_scale",
        {f"{LAYER}.comfy_quant": torch.tensor(list(b'{"format": "float8_e4m3fn"}'), dtype=torch.uint8)},
    ),
    "input scales": ("weight_scale", {f"{LAYER}.input_scale": torch.tensor(3.0)}),
}


@pytest.mark.parametrize("form", SCALED)
@pytest.mark.parametrize("per_row", [False, True])
@pytest.mark.parametrize("prefix", ["", "model.diffusion_model."])
def test_fp8_scales_are_applied(tensors: dict[str, Tensor], form: str, per_row: bool, prefix: str) -> None:
    scale_name, marks = SCALED[form]
    file = {**quantised(tensors, scale_name, per_row), **marks}
    found = identified({prefix + name: tensor for name, tensor in file.items()})
    assert "fp8 weights with scales were converted" in found.notes[0]
    assert found.tensors.keys() == tensors.keys()
    for name, wanted in tensors.items():
        # e4m3 keeps four bits of a number: it is off by a sixteenth of it, or of the smallest that it can tell from 0.
        torch.testing.assert_close(found.tensors[name].float(), wanted, rtol=0.07, atol=0.004)


def described(text: bytes) -> dict[str, Tensor]:
    return {f"{LAYER}.comfy_quant": torch.tensor(list(text), dtype=torch.uint8)}


@pytest.mark.parametrize(
    ("added", "message"),
    [
        ({f"{LAYER}.weight": torch.zeros(64, 48, dtype=torch.int8)}, r"quantised as torch\.int8.*blocks\.1\.ffn\.0"),
        ({f"{LAYER}.weight_scale": torch.ones(4, 3)}, r"quantised in blocks \(scales \[4, 3\]\)"),
        ({f"{LAYER}.weight_scale": torch.tensor(float("nan"))}, "not finite"),
        ({"blocks.0.gone.weight_scale": torch.tensor(1.0)}, r"blocks\.0\.gone\.weight, which is missing"),
        (described(b'{"format": "nvfp4"}'), "quantised as nvfp4"),
        (described(b"{"), "description of the quantised weights is damaged"),
        (described(b"[" * 4000), "description of the quantised weights is damaged"),
        ({f"{LAYER}.absmax": torch.ones(3)}, r"1 unexpected \(blocks\.1\.ffn\.0\.absmax\)"),
        ({"blocks.0.cross_attn.k_img.weight": torch.ones(3)}, r"k_img\.weight"),
        ({f"{LAYER}.bias": torch.zeros(63)}, r"1 of another shape \(blocks\.1\.ffn\.0\.bias\)"),
        ({"blocks.7.modulation": torch.zeros(1, 6, 48)}, r"of 3 blocks.*missing"),
        ({"blocks.999999999999.modulation": torch.zeros(1)}, r"of 3 blocks.*missing"),
    ],
)
def test_what_cannot_be_used_is_refused_by_name(
    tensors: dict[str, Tensor], added: dict[str, Tensor], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        identified({**tensors, **added})


def test_missing_tensors_are_named(tensors: dict[str, Tensor]) -> None:
    with pytest.raises(CheckpointError, match=r"1 missing \(time_projection\.1\.bias\)"):
        identified({name: tensor for name, tensor in tensors.items() if name != "time_projection.1.bias"})
