"""What keeps a generation on its device: the codec without core's copies, one load, one hash, and a card's limits."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from asymtalker.tests.helpers import Import, generate

GIB = 1 << 30


def test_the_codec_gives_what_cores_vae_gives(pack: Import, scene: SimpleNamespace) -> None:
    codec = pack("host.vae").StockVideoCodec(scene.vae, scene.model.model)
    latents = scene.reference.latents
    pixels = codec.decode(latents)
    assert torch.equal(pixels, scene.vae.decode(latents).mul(2).sub(1).movedim(-1, 1))
    frames = pixels[0].movedim(0, -1).mul(0.5).add(0.5)
    assert torch.equal(codec.encode(pixels), scene.vae.encode(frames))


def test_parts_are_decoded_as_in_the_whole(pack: Import, scene: SimpleNamespace) -> None:
    codec = pack("host.vae").StockVideoCodec(scene.vae, scene.model.model)
    parts = codec.decode_parts(scene.reference.latents)
    whole = codec.decode(scene.reference.latents)
    assert codec.has_parts and torch.equal(parts(1, 3), whole[:, :, 1:9])
    height, width = whole.shape[-2:]
    window = slice(height // 4, height // 2), slice(width // 8, width - 6)
    for place in (window, (slice(None), slice(None))):
        part, single = parts.views(1, 3, place, 2)
        torch.testing.assert_close(part, whole[:, :, 1:9][(..., *place)], atol=1e-5, rtol=0)
        torch.testing.assert_close(single, whole[:, :, [3, 7]], atol=1e-5, rtol=0)


def test_a_vae_that_does_not_fit_works_as_core_does_it(
    comfy: Import, pack: Import, scene: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    codec = pack("host.vae").StockVideoCodec(scene.vae, scene.model.model)
    latents = scene.reference.latents
    expected = codec.decode(latents)
    network, calls = scene.vae.first_stage_model, []
    decode = network.decode

    def fits_in_tiles_only(z: torch.Tensor) -> torch.Tensor:
        calls.append(z.shape)
        if len(calls) == 1:
            raise comfy("comfy.model_management").OOM_EXCEPTION("no room")
        return decode(z)

    monkeypatch.setattr(network, "decode", fits_in_tiles_only)
    assert torch.equal(codec.decode(latents), expected) and len(calls) == 2


def test_a_vae_with_methods_of_its_own_keeps_them(pack: Import, scene: SimpleNamespace) -> None:
    vae_class = type(scene.vae)

    class Louder(vae_class):
        def decode(self, samples_in: Any, **options: Any) -> Any:
            return super().decode(samples_in, **options) * 0

    scene.vae.__class__ = Louder
    codec = pack("host.vae").StockVideoCodec(scene.vae, scene.model.model)
    assert bool((codec.decode(scene.reference.latents) == -1).all())
    assert not codec.has_parts and codec.decode_parts(scene.reference.latents) is None


def test_ltx_frames_are_not_clipped_before_colours_are_matched(
    pack: Import, scene: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """nano's VAE stands for LTX-Video's, which is large."""
    latents = 1e4 * scene.reference.latents
    codec = pack("host.vae").StockVideoCodec(scene.vae, scene.model.model)
    clipped = codec.decode(latents)
    monkeypatch.setattr(pack("host.vae"), "VideoVAE", type(scene.vae.first_stage_model))
    assert clipped.abs().max() <= 1 < codec.decode(latents).abs().max()
    torch.testing.assert_close(codec.decode(latents).clamp(-1, 1), clipped, atol=1e-6, rtol=0)


def test_a_loaded_vae_is_hashed_once(pack: Import, scene: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    hashed: list[int] = []
    monkeypatch.setattr(pack("host.model"), "weights_fingerprint", lambda weights: hashed.append(1) or "hash")
    for seed in (1, 2):
        generate(pack, scene, seed=seed, keep="never")
    assert len(hashed) == 1


def test_models_that_are_loaded_are_not_loaded_again(
    comfy: Import, pack: Import, scene: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    management = comfy("comfy.model_management")
    management.unload_all_models()
    loads: list[int] = []
    load = management.load_models_gpu
    monkeypatch.setattr(
        management, "load_models_gpu", lambda models, **how: loads.append(len(models)) or load(models, **how)
    )
    generate(pack, scene, keep="never")
    assert loads == [2]


def test_a_card_that_is_too_small_is_named_with_numbers(
    comfy: Import, pack: Import, scene: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    management = comfy("comfy.model_management")
    monkeypatch.setattr(management, "get_total_memory", lambda device: 4 * GIB)
    monkeypatch.setattr(management, "get_torch_device_name", lambda device: "GeForce GTX 1650")
    monkeypatch.setattr(scene.model, "load_device", torch.device("cuda:0"))
    chunk = pack("host.guards").ChunkSize((16384, 16384), 33)
    with pytest.raises(MemoryError, match=r"33 frames of 16384x16384 takes about .*GTX 1650 has 4\.\d GB.*smaller"):
        pack("host.guards").check_memory(scene.model, scene.vae, chunk)


def test_fp8_products_are_named_where_the_card_has_none(
    comfy: Import, pack: Import, scene: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = scene.model.model.checkpoint.config
    weights = {name: torch.zeros(shape) for name, shape in pack("models.dit").tensor_shapes(config).items()}
    load_model = pack("host.model").load_model
    model = load_model(weights, config.to_metadata(), name="tiny", weight_dtype="fp8_e4m3fn_fast")
    assert "does not support fp8 matrix products" in model.model.checkpoint.notes[0]
    assert not pack("host.compute").description(model, scene.vae)["fp8_matrix_products"]
    monkeypatch.setattr(comfy("comfy.model_management"), "supports_fp8_compute", lambda device=None: True)
    model = load_model(weights, config.to_metadata(), name="tiny", weight_dtype="fp8_e4m3fn_fast")
    assert not model.model.checkpoint.notes
    assert pack("host.compute").description(model, scene.vae)["fp8_matrix_products"]


def test_the_report_says_what_it_ran_on(comfy: Import, pack: Import, scene: SimpleNamespace) -> None:
    _, report = generate(pack, scene, keep="never")
    runs_on = report["runs_on"]
    assert (runs_on["device"], runs_on["compute"], runs_on["attention"]) == ("cpu", "float32", "pytorch")
    assert not runs_on["compiled"]
    scene.model = comfy("comfy_extras.nodes_torch_compile").TorchCompileModel.execute(scene.model, "eager").result[0]
    assert pack("host.compute").description(scene.model, scene.vae)["compiled"]
