"""LTX-Video's VAE as it is published: a folder with config.json, tensors named by LTX-Video or by diffusers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from .conftest import Import

DIFFUSERS_NAMES = {
    "per_channel_statistics.mean-of-means": "latents_mean",
    "per_channel_statistics.std-of-means": "latents_std",
    "encoder.down_blocks.0.": "encoder.down_blocks.0.",
    "encoder.down_blocks.1.": "encoder.down_blocks.0.downsamplers.0.",
    "encoder.down_blocks.2.": "encoder.down_blocks.0.conv_out.",
    "encoder.down_blocks.3.": "encoder.down_blocks.1.",
    "encoder.down_blocks.4.": "encoder.down_blocks.1.downsamplers.0.",
    "encoder.down_blocks.5.": "encoder.down_blocks.1.conv_out.",
    "encoder.down_blocks.6.": "encoder.down_blocks.2.",
    "encoder.down_blocks.7.": "encoder.down_blocks.2.downsamplers.0.",
    "encoder.down_blocks.8.": "encoder.down_blocks.3.",
    "encoder.down_blocks.9.": "encoder.mid_block.",
    "decoder.up_blocks.0.": "decoder.mid_block.",
    "decoder.up_blocks.1.": "decoder.up_blocks.0.",
    "decoder.up_blocks.2.": "decoder.up_blocks.1.upsamplers.0.",
    "decoder.up_blocks.3.": "decoder.up_blocks.1.",
    "decoder.up_blocks.4.": "decoder.up_blocks.2.conv_in.",
    "decoder.up_blocks.5.": "decoder.up_blocks.2.upsamplers.0.",
    "decoder.up_blocks.6.": "decoder.up_blocks.2.",
    "decoder.up_blocks.7.": "decoder.up_blocks.3.conv_in.",
    "decoder.up_blocks.8.": "decoder.up_blocks.3.upsamplers.0.",
    "decoder.up_blocks.9.": "decoder.up_blocks.3.",
}
"""Of the published VAE_LTX (LTX-Video 0.9.0): where diffusers keeps LTX-Video's parts."""

EXAMPLES = {
    "0.9.0": {
        "encoder.down_blocks.1.conv_out.norm3.weight": "encoder.down_blocks.5.norm3.norm.weight",
        "encoder.down_blocks.2.downsamplers.0.conv.bias": "encoder.down_blocks.7.conv.bias",
        "decoder.up_blocks.2.conv_in.conv_shortcut.conv.weight": "decoder.up_blocks.4.conv_shortcut.weight",
        "decoder.up_blocks.3.upsamplers.0.conv.conv.weight": "decoder.up_blocks.8.conv.conv.weight",
        "decoder.up_blocks.3.resnets.2.conv1.conv.weight": "decoder.up_blocks.9.res_blocks.2.conv1.conv.weight",
    },
    "0.9.1": {
        "encoder.down_blocks.0.conv_out.conv1.conv.weight": "encoder.down_blocks.2.conv1.conv.weight",
        "decoder.mid_block.resnets.4.per_channel_scale1": "decoder.up_blocks.0.res_blocks.4.per_channel_scale1",
        "decoder.up_blocks.0.upsamplers.0.conv.conv.weight": "decoder.up_blocks.1.conv.conv.weight",
        "decoder.up_blocks.2.time_embedder.timestep_embedder.linear_1.bias": (
            "decoder.up_blocks.6.time_embedder.timestep_embedder.linear_1.bias"
        ),
        "decoder.time_embedder.timestep_embedder.linear_2.weight": (
            "decoder.last_time_embedder.timestep_embedder.linear_2.weight"
        ),
        "decoder.scale_shift_table": "decoder.last_scale_shift_table",
        "decoder.up_blocks.1.resnets.0.scale_shift_table": "decoder.up_blocks.4.res_blocks.0.scale_shift_table",
        "decoder.timestep_scale_multiplier": "decoder.timestep_scale_multiplier",
    },
    "0.9.5": {
        "encoder.down_blocks.3.downsamplers.0.conv.conv.bias": "encoder.down_blocks.7.conv.conv.bias",
        "encoder.mid_block.resnets.1.conv2.conv.weight": "encoder.down_blocks.8.res_blocks.1.conv2.conv.weight",
        "decoder.up_blocks.0.upsamplers.0.conv.conv.weight": "decoder.up_blocks.1.conv.conv.weight",
        "decoder.up_blocks.2.resnets.4.conv1.conv.bias": "decoder.up_blocks.6.res_blocks.4.conv1.conv.bias",
    },
}
"""Diffusers' name -> core's. 0.9.1 has 0.9.0's encoder and 0.9.5's decoder."""

SMALL = {
    "_class_name": "CausalVideoAutoencoder",
    "dims": 3,
    "latent_channels": 128,
    "blocks": [["res_x", 1], ["compress_all", 1], ["compress_all", 1], ["compress_all", 1], ["res_x", 1]],
    "norm_layer": "pixel_norm",
    "patch_size": 4,
    "latent_log_var": "uniform",
    "use_quant_conv": False,
    "causal_decoder": False,
}


def core_vae(comfy: Import, **options: Any) -> Any:
    return comfy("comfy.ldm.lightricks.vae.causal_video_autoencoder").VideoVAE(**options)


def diffusers_name(name: str) -> str | None:
    """Diffusers' name of core's tensor in 0.9.0; None for statistics that diffusers leaves out."""
    for ours, theirs in DIFFUSERS_NAMES.items():
        if name.startswith(ours):
            name = theirs + name[len(ours) :]
            break
    if name.startswith("per_channel_statistics"):
        return None
    name = name.replace("res_blocks", "resnets").replace("norm3.norm", "norm3")
    return name.replace("conv_shortcut", "conv_shortcut.conv")


@pytest.fixture
def published(comfy: Import) -> dict[str, torch.Tensor]:
    """The published file's tensors in full size; each is one number repeated, which takes no memory."""
    with torch.device("meta"):
        shapes = {name: tensor.shape for name, tensor in core_vae(comfy, version=0).state_dict().items()}
    renamed = ((diffusers_name(name), shape) for name, shape in shapes.items())
    return {name: torch.tensor(0.5).expand(shape) for name, shape in renamed if name is not None}


def folder_of(folder: Path) -> Path:
    """A published folder's weights file, which is not written: in full size it takes 1.7 GB."""
    folder.mkdir()
    config = {"_class_name": "AutoencoderKLLTXVideo", "latent_channels": 128, "decoder_causal": False}
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    return folder / "diffusion_pytorch_model.safetensors"


def test_published_file_with_diffusers_names_loads_whole(
    comfy: Import, pack: Import, published: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    assert len(published) == 190 and sum(tensor.numel() for tensor in published.values()) == 419_193_905
    vae = pack("nodes.host.vae_files").make_vae(folder_of(tmp_path / "VAE_LTX"), published, {})
    assert (vae.latent_channels, vae.temporal_compression_decode(), vae.spacial_compression_decode()) == (128, 8, 32)
    unread = ("mean-of-stds", "mean-of-stds_over_std-of-means", "channel")
    for name, tensor in vae.get_sd().items():
        assert bool((tensor == (0 if name.endswith(unread) else 0.5)).all()), name
    convolutions = [part for part in vae.first_stage_model.modules() if isinstance(part, torch.nn.Conv3d)]
    assert {convolution.padding_mode for convolution in convolutions} == {"zeros"}


@pytest.mark.parametrize("version", EXAMPLES)
def test_names_of_every_layout(pack: Import, version: str) -> None:
    marks = {name: torch.zeros(128) for name in ("latents_mean", pack("nodes.host.ltx_keys").DIFFUSERS_MARK)}
    if version != "0.9.5":
        marks["encoder.down_blocks.0.conv_out.conv1.conv.weight"] = torch.zeros(1)
    examples = EXAMPLES[version]
    tensors = {**marks, **{name: torch.tensor(index) for index, name in enumerate(examples)}}
    renamed = pack("nodes.host.ltx_keys").core_names(tensors)
    for index, name in enumerate(examples.values()):
        assert renamed[name] == index


def test_other_layouts_are_refused_with_the_file_to_use(
    pack: Import, published: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    make_vae, error = pack("nodes.host.vae_files").make_vae, pack("models.checkpoint").CheckpointError
    shallower = {name: tensor for name, tensor in published.items() if "mid_block.resnets.3" not in name}
    narrower = {**published, "decoder.conv_out.conv.bias": torch.zeros(7)}
    for index, tensors in enumerate((shallower, narrower)):
        file = folder_of(tmp_path / str(index))
        with pytest.raises(error, match=r"diffusion_pytorch_model.*ComfyUI does not support its layout"):
            make_vae(file, tensors, {})


def test_config_beside_a_file_with_core_names_is_its_layout(comfy: Import, pack: Import, tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = core_vae(comfy, config=SMALL)
    weights = {name: torch.randn_like(tensor) * 0.02 for name, tensor in network.state_dict().items()}
    weights["per_channel_statistics.std-of-means"].abs_().add_(0.5)
    save_file(weights, tmp_path / "vae.safetensors")
    (tmp_path / "config.json").write_text(json.dumps(SMALL), encoding="utf-8")
    vae = pack("nodes.host.loading").load_vae(tmp_path / "vae.safetensors")
    assert vae.get_sd().keys() <= weights.keys()

    zero_padded = core_vae(comfy, config={**SMALL, "spatial_padding_mode": "zeros"})
    zero_padded.load_state_dict(weights)
    frames = torch.rand(9, 64, 64, 3)
    latents = vae.encode(frames)
    assert latents.shape == (1, 128, 2, 2, 2)
    with torch.no_grad():
        by_hand = zero_padded.eval().decode(latents.float())[0].movedim(0, -1) / 2 + 0.5
    torch.testing.assert_close(vae.decode(latents)[0], by_hand.clamp(0, 1), atol=1e-4, rtol=0)
