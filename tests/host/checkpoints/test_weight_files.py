"""VAE and wav2vec2 files as people have them: whole and right, or refused with the file and the remedy."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from asymtalker.benchmarks.comfyui import WAN_VAE
from asymtalker.tests.helpers import Import

Tensors = dict[str, Tensor]


def random_like(network: torch.nn.Module, seed: int = 0) -> Tensors:
    generator = torch.Generator().manual_seed(seed)
    shapes = {name: tensor.shape for name, tensor in network.state_dict().items()}
    return {name: torch.randn(shape, generator=generator) * 0.05 for name, shape in shapes.items()}


def target(pack: Import, channels: int, stride: tuple[int, int, int]) -> Any:
    """A MODEL of a published latent space, without weights."""
    config, model = pack("models.config"), pack("host.model")
    dimensions = config.DiTConfig(
        dim=48, ffn_dim=64, num_heads=2, num_layers=1, in_dim=2 * channels, out_dim=channels, vae_stride=stride
    )
    checkpoint = model.Checkpoint("tiny", dimensions, config.SamplingConfig(), reference=None, weights_id="")
    model_config = model.TalkingHeadConfig(dimensions)
    model_config.set_inference_dtype(torch.float32, None)
    return model.TalkingHeadModel(model_config, checkpoint, device="meta")


@pytest.fixture(scope="module")
def wan(comfy: Import) -> Tensors:
    """A narrow Wan 2.1 VAE's tensors."""
    network = comfy("comfy.ldm.wan.vae").WanVAE(dim=8, **WAN_VAE)
    return random_like(network)


DIFFUSERS_WAN = (
    (r"^conv1\.", "quant_conv."),
    (r"^conv2\.", "post_quant_conv."),
    (r"^(..coder)\.conv1\.", r"\1.conv_in."),
    (r"^(..coder)\.head\.0\.", r"\1.norm_out."),
    (r"^(..coder)\.head\.2\.", r"\1.conv_out."),
    (r"^(..coder)\.middle\.0\.", r"\1.mid_block.resnets.0."),
    (r"^(..coder)\.middle\.1\.", r"\1.mid_block.attentions.0."),
    (r"^(..coder)\.middle\.2\.", r"\1.mid_block.resnets.1."),
    (r"^encoder\.downsamples\.", "encoder.down_blocks."),
    (r"\.residual\.0\.", ".norm1."),
    (r"\.residual\.2\.", ".conv1."),
    (r"\.residual\.3\.", ".norm2."),
    (r"\.residual\.6\.", ".conv2."),
    (r"\.shortcut\.", ".conv_shortcut."),
)
"""Of diffusers' script that converts Wan's VAE."""


def renamed(name: str, rules: tuple[tuple[str, str], ...]) -> str:
    for ours, theirs in rules:
        name = re.sub(ours, theirs, name)
    return name


def diffusers_wan_name(name: str) -> str:
    up = re.match(r"decoder\.upsamples\.(\d+)\.", name)
    if up is not None:
        block, part = divmod(int(up[1]), 4)
        name = f"decoder.up_blocks.{block}.{f'resnets.{part}' if part < 3 else 'upsamplers.0'}.{name[up.end() :]}"
    return renamed(name, DIFFUSERS_WAN)


@pytest.mark.parametrize(
    "rename",
    [
        diffusers_wan_name,
        lambda name: name,
        lambda name: f"first_stage_model.{name}",
        lambda name: f"vae.{name}",
        lambda name: f"module.{name}",
    ],
)
def test_wan_vae_under_every_name(pack: Import, wan: Tensors, tmp_path: Path, rename: Callable[[str], str]) -> None:
    others = {"model.diffusion_model.x": torch.zeros(1)} if rename("decoder.") != "decoder." else {}
    save_file({**{rename(name): tensor for name, tensor in wan.items()}, **others}, tmp_path / "vae.safetensors")
    vae = pack("host.checkpoints.vae_files").load_vae(tmp_path / "vae.safetensors")
    stored = vae.get_sd()
    assert stored.keys() == wan.keys()
    assert all(torch.equal(stored[name].float(), wan[name].to(vae.vae_dtype).float()) for name in wan)
    pack("host.vae").check_vae(vae, target(pack, 16, (4, 8, 8)))


def test_diffusers_names_are_published_ones() -> None:
    assert diffusers_wan_name("decoder.upsamples.4.residual.2.weight") == "decoder.up_blocks.1.resnets.0.conv1.weight"
    assert diffusers_wan_name("decoder.upsamples.7.time_conv.bias") == "decoder.up_blocks.1.upsamplers.0.time_conv.bias"
    assert diffusers_wan_name("encoder.middle.1.to_qkv.weight") == "encoder.mid_block.attentions.0.to_qkv.weight"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"decoder.middle.0.residual.2.weight": None}, r"1 missing \(decoder\.middle\.0\.residual\.2\.weight\)"),
        ({"decoder.conv1.bias": torch.zeros(3)}, r"(decoder\.conv1\.bias|size mismatch)"),
        ({"decoder.head.0.gamma": torch.zeros(4000, 1, 1, 1)}, r"vae\.safetensors"),
        ({"decoder.upsamples.99.residual.0.gamma": torch.zeros(8)}, r"1 unexpected \(decoder\.upsamples"),
        ({"decoder.middle.0.residual.2.weight": torch.zeros(32, 32, 3, 3, 3, dtype=torch.int8)}, r"quantised"),
    ],
)
def test_vae_that_is_not_whole_is_refused(
    pack: Import, wan: Tensors, tmp_path: Path, change: dict[str, Tensor | None], message: str
) -> None:
    file = tmp_path / "vae.safetensors"
    changed = {**wan, **change}
    save_file({name: tensor for name, tensor in changed.items() if tensor is not None}, file)
    with pytest.raises(ValueError, match=message) as error:
        pack("host.checkpoints.vae_files").load_vae(file)
    assert str(file) in str(error.value)


@pytest.fixture(scope="module")
def tiny_wan(comfy: Import) -> tuple[Any, Tensors]:
    """The network that taew2_1 and lighttaew2_1 are, and its tensors."""
    network = comfy("comfy.taesd.taehv").TAEHV(latent_channels=16, latent_format=None).eval()
    network.show_progress_bar = False
    # The same numbers in every dtype.
    tensors = {name: tensor.mul(256).round().div(256) for name, tensor in random_like(network).items()}
    network.load_state_dict(tensors)
    return network, tensors


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize(("name", "raw"), [("taew2_1", False), ("lighttaew2_1", True), ("My-LightTAEW2_1_v2", True)])
def test_tiny_vaes_are_told_apart_by_name_in_every_dtype(
    comfy: Import, pack: Import, tiny_wan: Any, tmp_path: Path, name: str, raw: bool, dtype: torch.dtype
) -> None:
    network, tensors = tiny_wan
    save_file({key: tensor.to(dtype) for key, tensor in tensors.items()}, tmp_path / f"{name}.safetensors")
    vae = pack("host.checkpoints.vae_files").load_vae(tmp_path / f"{name}.safetensors")
    codec = pack("host.vae").StockVideoCodec(vae, target(pack, 16, (4, 8, 8)))
    wan_format = comfy("comfy.latent_formats").Wan21()
    latents = torch.randn(1, 16, 2, 8, 8, generator=torch.Generator().manual_seed(1))
    pixels = torch.rand(1, 3, 5, 64, 64, generator=torch.Generator().manual_seed(2)) * 2 - 1
    padded = torch.cat((pixels, pixels[:, :, -1:].expand(-1, -1, 3, -1, -1)), dim=2) / 2 + 0.5
    with torch.no_grad():
        decoded = network.decode(wan_format.process_out(latents) if raw else latents).clamp(0, 1) * 2 - 1
        encoded = network.encode(padded)
    encoded = wan_format.process_in(encoded) if raw else encoded
    torch.testing.assert_close(codec.decode(latents).clamp(-1, 1), decoded, atol=0.02, rtol=0)
    torch.testing.assert_close(codec.encode(pixels), encoded, atol=1e-3, rtol=1e-3)


def test_what_lite_s_vae_decodes_is_not_clipped(comfy: Import, pack: Import, tmp_path: Path) -> None:
    """Before the colours are corrected, as in the published pipeline; core's own decode clips it."""
    blocks = [["res_x", 1], ["compress_all", 1], ["compress_all", 1], ["compress_all", 1], ["res_x", 1]]
    config = {"_class_name": "CausalVideoAutoencoder", "dims": 3, "latent_channels": 128, "blocks": blocks}
    config |= {"norm_layer": "pixel_norm", "patch_size": 4, "latent_log_var": "uniform", "use_quant_conv": False}
    config |= {"spatial_padding_mode": "zeros"}
    network = comfy("comfy.ldm.lightricks.vae.causal_video_autoencoder").VideoVAE(config=config).eval()
    tensors = random_like(network)
    tensors["decoder.conv_out.conv.weight"] *= 20
    network.load_state_dict(tensors)
    save_file(tensors, tmp_path / "ltx_vae.safetensors")
    (tmp_path / "config.json").write_text(json.dumps(config), encoding="utf-8")
    vae = pack("host.checkpoints.vae_files").load_vae(tmp_path / "ltx_vae.safetensors")
    codec = pack("host.vae").StockVideoCodec(vae, target(pack, 128, (8, 32, 32)))
    latents = torch.randn(1, 128, 2, 2, 2, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = network.decode(latents)
    found = codec.decode(latents)
    assert found.abs().max() > 1.1
    torch.testing.assert_close(found, expected, atol=0.02, rtol=0.01)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("taehv", "tiny VAE of HunyuanVideo: use taew2_1"),
        ("decoder", "may be taew2_1 or lighttaew2_1.*rename the file"),
    ],
)
def test_tiny_vae_of_unknown_name_is_asked_for(
    pack: Import, tiny_wan: Any, tmp_path: Path, name: str, message: str
) -> None:
    save_file(tiny_wan[1], tmp_path / f"{name}.safetensors")
    with pytest.raises(ValueError, match=message):
        pack("host.checkpoints.vae_files").load_vae(tmp_path / f"{name}.safetensors")


def ltx_network(comfy: Import, version: int) -> Any:
    with torch.device("meta"):
        return comfy("comfy.ldm.lightricks.vae.causal_video_autoencoder").VideoVAE(version=version)


@pytest.mark.parametrize(("version", "generation"), [(0, "0.9.0"), (1, "0.9.1"), (2, "0.9.5 or later")])
def test_ltx_generations_are_told_from_their_tensors(
    comfy: Import, pack: Import, version: int, generation: str
) -> None:
    network = ltx_network(comfy, version)
    names = set(network.state_dict())
    assert pack("host.checkpoints.ltx_keys").generation(names) == generation
    assert pack("host.checkpoints.ltx_keys").generation({"encoder.down_blocks.1.conv.conv.weight"}) == "2"
    other = pack("host.vae")._other_model(network, 128)
    assert other == ("" if version == 0 else f"LTX-Video {generation}")


def test_ltx_without_statistics_is_one_message(comfy: Import, pack: Import, tmp_path: Path) -> None:
    state = ltx_network(comfy, 0).state_dict()
    tensors = {name: torch.zeros(1).expand(tensor.shape) for name, tensor in state.items() if "statistics" not in name}
    with pytest.raises(ValueError, match=r"vae\.safetensors: this LTX-Video VAE lacks the statistics.*latents_mean"):
        pack("host.checkpoints.vae_files").make_vae(tmp_path / "vae.safetensors", tensors, {})


@pytest.mark.parametrize(
    "config",
    [
        '{"vae": {"blocks": [["res_x", 1000000000]]}}',
        '{"vae": {"blocks": [["res_x", true]]}}',
        '{"vae": {"blocks": "x", "dims": 3}}',
        '{"vae": {"blocks": [["res_x", {"num_layers": 1e9}]]}}',
        '{"vae": {"dims": 3, "latent_channels": 1e9, "blocks": [["res_x", 1]]}}',
        '{"vae": 3}',
        "[",
        "[" * 100_000,
        '{"vae": {"dims": 3, "patch_size": 0, "blocks": [["res_x", 1]]}}',
        '{"vae": {"dims": 3, "blocks": [["nothing", 1]], "norm_layer": {}}}',
    ],
)
def test_ltx_layouts_with_lies_are_one_message(comfy: Import, pack: Import, tmp_path: Path, config: str) -> None:
    state = ltx_network(comfy, 0).state_dict()
    tensors = {name: torch.zeros(1).expand(tensor.shape) for name, tensor in state.items()}
    with pytest.raises(ValueError, match=r"vae\.safetensors"):
        pack("host.checkpoints.vae_files").make_vae(tmp_path / "vae.safetensors", tensors, {"config": config})


def test_check_vae_names_what_came(comfy: Import, pack: Import) -> None:
    model = target(pack, 16, (4, 8, 8))
    check = pack("host.vae").check_vae
    for value, what in ((None, "no usable VAE is connected; tiny"), ("x", r"got a str"), (3, "got an int")):
        with pytest.raises(ValueError, match=rf"vae: .*{what}"):
            check(value, model)
    foreign = type("Foreign", (), {"first_stage_model": torch.nn.Identity()})()
    with pytest.raises(ValueError, match=r"vae: .*got a Foreign"):
        check(foreign, model)
    assert pack("host.vae")._other_model(torch.nn.Identity(), 16) == "another model (Identity)"


@pytest.mark.parametrize("value", [None, "x", 3, object()])
def test_talking_head_names_what_came(pack: Import, value: object) -> None:
    what = "empty" if value is None else f"a {type(value).__name__}"
    with pytest.raises(ValueError, match=f"model: this MODEL is {what}.*Load AsymTalker"):
        pack("host.model").talking_head(value)


@pytest.fixture(scope="module")
def wav2vec2(pack: Import) -> Tensors:
    """wav2vec2-base in core's names."""
    generator = torch.Generator().manual_seed(0)
    shapes = pack("host.checkpoints.wav2vec2").expected_shapes(768)
    return {name: torch.randn(shape, generator=generator) * 0.02 for name, shape in shapes.items()}


FAIRSEQ = (
    (r"^feature_extractor\.conv_layers\.(\d)\.conv\.", r"feature_extractor.conv_layers.\1.0."),
    (r"^feature_extractor\.conv_layers\.(\d)\.layer_norm\.", r"feature_extractor.conv_layers.\1.2."),
    (r"^feature_projection\.projection\.", "post_extract_proj."),
    (r"^feature_projection\.layer_norm\.", "layer_norm."),
    (r"^masked_spec_embed$", "mask_emb"),
    (r"^encoder\.pos_conv_embed\.conv\.parametrizations\.weight\.original0$", "encoder.pos_conv.0.weight_g"),
    (r"^encoder\.pos_conv_embed\.conv\.parametrizations\.weight\.original1$", "encoder.pos_conv.0.weight_v"),
    (r"^encoder\.pos_conv_embed\.conv\.", "encoder.pos_conv.0."),
    (r"(layers\.\d+)\.layer_norm\.", r"\1.self_attn_layer_norm."),
    (r"(layers\.\d+)\.attention\.", r"\1.self_attn."),
    (r"\.feed_forward\.intermediate_dense\.", ".fc1."),
    (r"\.feed_forward\.output_dense\.", ".fc2."),
)


def wav2vec2_forms(tensors: Tensors) -> Iterator[Tensors]:
    old = {"parametrizations.weight.original0": "weight_g", "parametrizations.weight.original1": "weight_v"}
    yield tensors
    yield {f"wav2vec2.{name}": tensor for name, tensor in tensors.items()} | {"lm_head.weight": torch.zeros(32, 768)}
    yield {re.sub("|".join(old), lambda part: old[part[0]], name): tensor for name, tensor in tensors.items()}
    yield {renamed(name, FAIRSEQ): tensor for name, tensor in tensors.items()}
    yield {f"w2v_encoder.w2v_model.{renamed(name, FAIRSEQ)}": tensor for name, tensor in tensors.items()}


def test_wav2vec2_under_every_name(pack: Import, wav2vec2: Tensors) -> None:
    rename = pack("host.checkpoints.wav2vec2")._core_names
    for form in wav2vec2_forms(wav2vec2):
        found = rename(form)
        assert found.keys() == wav2vec2.keys()
        assert all(found[name] is wav2vec2[name] for name in found)


def test_wav2vec2_is_loaded_whole(pack: Import, wav2vec2: Tensors) -> None:
    *_, fairseq = wav2vec2_forms(wav2vec2)
    stored = pack("host.checkpoints.wav2vec2").load_wav2vec2(fairseq, "fairseq.pt").get_sd()
    assert all(torch.equal(stored[name], tensor) for name, tensor in wav2vec2.items())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"encoder.layers.11.": None}, r"16 missing \(encoder\.layers\.11\."),
        ({"feature_projection.projection.weight": torch.zeros(768, 511)}, "1 of another shape"),
        ({"encoder.layers.12.layer_norm.bias": torch.zeros(768)}, r"1 unexpected.*layers\.12"),
        ({"encoder.layer_norm.bias": torch.zeros(1024)}, "missing"),
        ({"encoder.layer_norm.bias": torch.zeros(512)}, "not a wav2vec2 checkpoint"),
        ({"encoder.layer_norm.bias": None}, "not a wav2vec2 checkpoint"),
        ({"feature_projection.projection.bias": torch.zeros(768, dtype=torch.int8)}, "quantised"),
    ],
)
def test_wav2vec2_that_is_not_whole_is_refused(
    pack: Import, wav2vec2: Tensors, change: dict[str, Tensor | None], message: str
) -> None:
    kept = {name: tensor for name, tensor in wav2vec2.items() if not name.startswith(tuple(change))}
    added = {name: tensor for name, tensor in change.items() if tensor is not None}
    with pytest.raises(ValueError, match=rf"model\.bin: .*{message}.*wav2vec2-base-960h"):
        pack("host.checkpoints.wav2vec2").load_wav2vec2({**kept, **added}, "model.bin")


def test_other_audio_encoders_are_refused(pack: Import) -> None:
    whisper = {"model.encoder.embed_positions.weight": torch.zeros(1500, 1280)}
    with pytest.raises(ValueError, match=r"whisper\.safetensors: not a wav2vec2 checkpoint"):
        pack("host.checkpoints.wav2vec2").load_wav2vec2(whisper, "whisper.safetensors")
