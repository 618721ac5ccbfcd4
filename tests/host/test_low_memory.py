"""Core's low-memory loading (`--lowvram`, or too small a card): weights stay behind and are brought when used."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from asymtalker.tests.helpers import Import


def x0_of(pack: Import, model: Any, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
    """One evaluation through core's model with the weights as they are loaded."""
    network = pack("host.model").talking_head(model)
    with torch.no_grad():
        tokens = network.diffusion_model.encode_audio(inputs["audio"])
        audio_kv = network.diffusion_model.audio_keys_values(tokens)
        conditions = {"reference": inputs["reference"], "audio_kv": audio_kv, "transformer_options": {}}
        return network.apply_model(inputs["x"], inputs["timestep"] / 1000, **conditions)


def test_weights_that_stay_behind_give_the_same_with_a_lora(
    comfy: Import, pack: Import, golden: Path, folders: Path
) -> None:
    tensors, metadata = pack("models.checkpoint").read_checkpoint(golden / "dit_pro_open.weights.safetensors")
    with safe_open(golden / "dit_pro_open.cases.safetensors", framework="pt") as file:
        inputs = {name: file.get_tensor(f"case0.{name}") for name in ("x", "reference", "audio", "timestep")}
    generator = torch.Generator().manual_seed(1)
    dim = tensors["blocks.0.self_attn.q.weight"].shape[0]
    layers = [f"diffusion_model.blocks.0.{layer}" for layer in ("self_attn.q", "cross_attn.k")]
    down = {f"{layer}.lora_A.weight": torch.randn(4, dim, generator=generator) * dim**-0.5 for layer in layers}
    up = {f"{layer}.lora_B.weight": torch.randn(dim, 4, generator=generator) * 0.2 for layer in layers}
    save_file({**down, **up}, folders / "models" / "loras" / "style.safetensors")

    plain = pack("host.model").load_model(dict(tensors), metadata, name="golden")
    (model,) = comfy("nodes").LoraLoaderModelOnly().load_lora_model_only(plain, "style.safetensors", 0.8)
    device = torch.device("cpu")
    model.load(device, full_load=True)
    whole = x0_of(pack, model, inputs)
    model.unpatch_model(device)
    model.load(device, lowvram_model_memory=1)
    assert any(getattr(module, "comfy_cast_weights", False) for module in model.model.diffusion_model.modules())
    torch.testing.assert_close(x0_of(pack, model, inputs), whole, atol=1e-5, rtol=0)
    model.unpatch_model(device)
    model.load(device, full_load=True)
    torch.testing.assert_close(x0_of(pack, model, inputs), whole, atol=1e-6, rtol=0)
