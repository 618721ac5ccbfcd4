"""LeapTalk's files as published: the LoRA is merged, the audio projection replaced, the sampler is its bridge."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from asymtalker.tests.helpers import Import

LEAPTALK = "asymtalker/leaptalk"
LAYERS = ("self_attn.q", "self_attn.k", "self_attn.v", "self_attn.o", "cross_attn.q", "cross_attn.o")
Tensors = dict[str, torch.Tensor]


@pytest.fixture
def pro(folders: Path, network: tuple[Tensors, dict[str, str]]) -> Tensors:
    """The tensors of a network that lies where FlashHead Pro's goes."""
    tensors, metadata = network
    folder = folders / "models" / "asymtalker" / "SoulX-FlashHead-1_3B" / "Model_Pro"
    folder.mkdir(parents=True)
    save_file(tensors, folder / "diffusion_pytorch_model.safetensors", metadata)
    return tensors


def low_rank(dim: int, rank: int = 4) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    generator = torch.Generator().manual_seed(1)
    return {
        f"blocks.{block}.{layer}": (
            torch.randn(rank, dim, generator=generator),
            torch.randn(dim, rank, generator=generator),
        )
        for block in range(2)
        for layer in LAYERS
    }


def write_leaptalk(
    folder: Path, tensors: Tensors, alpha: float = 8.0, without: str = "", compiled: str = "_orig_mod."
) -> Tensors:
    """The published folder, as saved from a compiled network; returns the tensors with it applied by hand."""
    expected = dict(tensors)
    pairs = low_rank(tensors["blocks.0.self_attn.q.weight"].shape[0])
    (folder / "lora").mkdir(parents=True)
    if without != "lora":
        lora = {
            f"base_model.model.{compiled}{name}.lora_{part}.weight": tensor
            for name, pair in pairs.items()
            for part, tensor in zip("AB", pair, strict=True)
        }
        save_file(lora, folder / "lora" / "adapter_model.safetensors")
        config = {"r": 4, "lora_alpha": alpha, "peft_type": "LORA"}
        (folder / "lora" / "adapter_config.json").write_text(json.dumps(config))
        for name, (a, b) in pairs.items():
            expected[f"{name}.weight"] = tensors[f"{name}.weight"] + alpha / 4 * b @ a
    own = {name.removeprefix("audio_proj."): tensors[name] for name in tensors if name.startswith("audio_proj.")}
    generator = torch.Generator().manual_seed(2)
    projection = {name: torch.randn(tensor.shape, generator=generator) for name, tensor in own.items()}
    if without != "projection":
        # The one of the highest step counts; it is stored in half the precision.
        torch.save(own, folder / "audio_proj_step_900.pt")
        torch.save({name: value.bfloat16() for name, value in projection.items()}, folder / "audio_proj_step_10400.pt")
        expected |= {f"audio_proj.{name}": value.bfloat16().float() for name, value in projection.items()}
    return expected


def load(pack: Import, choice: str = LEAPTALK) -> Any:
    return pack("host.checkpoints.loading").load_all(choice, "default", "default", "default")[0]


def assert_weights(model: Any, expected: Tensors) -> None:
    found = model.model.diffusion_model.state_dict()
    torch.testing.assert_close(found, {name: expected[name] for name in found}, atol=1e-5, rtol=1e-5)


def test_leaptalk_is_loaded_as_published(pack: Import, folders: Path, pro: Tensors) -> None:
    expected = write_leaptalk(folders / "models" / LEAPTALK, pro)
    assert pack("host.checkpoints.folders").model_states()[LEAPTALK] == "found"
    model = load(pack)
    assert_weights(model, expected)
    sampling = model.model.checkpoint.sampling
    assert (sampling.sampler, sampling.steps, sampling.shift) == ("bridge", 1, 5.0)


def test_its_lora_may_come_from_core_s_node(
    comfy: Import, pack: Import, folders: Path, pro: Tensors, caplog: pytest.LogCaptureFixture
) -> None:
    folder = folders / "models" / LEAPTALK
    expected = write_leaptalk(folder, pro, alpha=4.0, compiled="")
    (folder / "lora" / "adapter_model.safetensors").rename(folders / "models" / "loras" / "leaptalk.safetensors")
    with caplog.at_level("INFO"):
        model = load(pack)
    assert "apply it with a LoRA loader node" in caplog.text
    patched = comfy("nodes").LoraLoaderModelOnly().load_lora_model_only(model, "leaptalk.safetensors", 1.0)[0]
    patched.patch_model()
    try:
        assert_weights(patched, expected)
    finally:
        patched.unpatch_model()


def test_without_its_files_each_is_named(pack: Import, folders: Path) -> None:
    assert pack("host.checkpoints.folders").model_states()[LEAPTALK] == f"missing: models/{LEAPTALK}"
    message = pack("host.checkpoints.companions").missing_model(LEAPTALK)
    for name in ("adapter_model.safetensors", "audio_proj_step_10400.pt", "z-rx/leaptalk", "Model_Pro/config.json"):
        assert name in message


def test_without_the_projection_or_pro_the_error_says_what_to_download(
    pack: Import, folders: Path, network: tuple[Tensors, Any]
) -> None:
    folder = folders / "models" / LEAPTALK
    write_leaptalk(folder, network[0], without="projection")
    with pytest.raises(FileNotFoundError, match=r"leaptalk lacks audio_proj_step_10400\.pt.*z-rx/leaptalk"):
        load(pack)
    torch.save({"proj1.weight": torch.zeros(2, 2)}, folder / "audio_proj_step_1.pt")
    with pytest.raises(FileNotFoundError, match=r"needs FlashHead Pro: .*Model_Pro is not installed"):
        load(pack)


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("audio_proj_step_20000.pt", {"proj1.weight": torch.zeros(2, 2)}, "audio projection of this network"),
        ("lora/adapter_model.safetensors", {"blocks.0.x.lora_A.weight": torch.zeros(2, 2)}, "is incomplete"),
        (
            "lora/adapter_model.safetensors",
            {"blocks.9.x.lora_A.weight": torch.zeros(2, 2), "blocks.9.x.lora_B.weight": torch.zeros(2, 2)},
            "made for another model",
        ),
        ("lora/adapter_config.json", {"lora_alpha": "much"}, "lora_alpha must be a number"),
        ("lora/adapter_config.json", {"lora_alpha": 4, "use_dora": True}, "not supported: use_dora"),
    ],
)
def test_damaged_files_are_named(
    pack: Import, folders: Path, pro: Tensors, file: str, content: dict[str, Any], message: str
) -> None:
    folder = folders / "models" / LEAPTALK
    write_leaptalk(folder, pro)
    if file.endswith(".json"):
        (folder / file).write_text(json.dumps(content))
    elif file.endswith(".pt"):
        torch.save(content, folder / file)
    else:
        save_file(content, folder / file)
    with pytest.raises(ValueError, match=rf"^model: .*{Path(file).name}.*{message}"):
        load(pack)
