"""VAE files in any known form, as stock VAE objects: recognised, renamed and checked before they are built."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Container, Mapping
from pathlib import Path
from typing import Any

import torch
from comfy import latent_formats
from comfy.ldm.lightricks.vae.causal_video_autoencoder import VideoVAE
from comfy.sd import VAE
from comfy.taesd.taehv import TAEHV
from torch import Tensor
from torch.nn import Conv3d, Module

from ...models.checkpoint import CheckpointError, differences, examples, read_checkpoint, read_text
from ...models.config import ConfigError, parse_object, short
from ..vae import LTX_CHANNELS, VAE_ADVICE, WAN_CHANNELS, load_nano_vae, without_core_warnings
from . import ltx_keys, wan_keys

PREFIXES = ("first_stage_model.", "vae.", "model.", "module.", "_orig_mod.", "")
"""What may stand before a VAE's names, alone in its file or beside a network's tensors."""

ROOMS = ("encoder.", "decoder.", "conv1.", "conv2.")
"""Of a VAE's own parts: what core has no place for there changes the result."""
MAX_BLOCKS = 64
MAX_LAYERS = 64

Metadata = Mapping[str, str]


@dataclasses.dataclass(frozen=True)
class VAETensors:
    """A file's tensors under core's names, and the metadata that core reads a layout from."""

    tensors: dict[str, Tensor]
    metadata: dict[str, str]


def load_vae(file: Path) -> VAE:
    """Any video VAE that core supports, Wan's and LTX-Video's with diffusers' tensor names, or nano's.

    Raises:
        CheckpointError: the file holds no VAE, not a whole one, or one of a layout that core has no network for.
        ConfigError: its configuration does not describe a VAE.
    """
    tensors, metadata = read_checkpoint(file)
    return make_vae(file, tensors, metadata)


def make_vae(file: Path, tensors: Mapping[str, Tensor], metadata: Metadata) -> VAE:
    """``load_vae`` of what was read from ``file``."""
    try:
        if "nano_vae" in metadata:
            return load_nano_vae(tensors, metadata)
        known = _known(file, _without_prefix(tensors), metadata)
        return _built(file, _checked(file, known))
    except (CheckpointError, ConfigError) as error:
        if str(file) in str(error):
            raise
        raise type(error)(f"{file}: {error}") from error


def _without_prefix(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The VAE's own tensors: behind one prefix, where some are; of a checkpoint in one file, only those."""
    for prefix in PREFIXES:
        own = {name[len(prefix) :]: tensor for name, tensor in tensors.items() if name.startswith(prefix)}
        if any(name.startswith("decoder.") for name in own):
            return own
    return dict(tensors)


def _known(file: Path, tensors: dict[str, Tensor], metadata: Metadata) -> VAETensors:
    """Under core's names, with the layout that LTX-Video's config.json describes."""
    if wan_keys.has_diffusers_names(tensors):
        return VAETensors(wan_keys.core_names(tensors), {})
    if ltx_keys.has_diffusers_names(tensors):
        return VAETensors(ltx_keys.core_names(tensors), {})
    if ltx_keys.has_core_names(tensors):
        return VAETensors(tensors, _ltx_layout(file, metadata))
    return VAETensors(tensors, dict(metadata))


def _ltx_layout(file: Path, metadata: Metadata) -> dict[str, str]:
    """Core reads an LTX VAE's layout from the ``vae`` part of the ``config`` entry; LTX-Video's config.json is it."""
    beside = file.with_name("config.json")
    if "config" in metadata:
        config, source = parse_object(metadata["config"], f"{file}: the `config` metadata").get("vae"), str(file)
    elif beside.is_file():
        config, source = parse_object(read_text(beside), str(beside)), str(beside)
        config = config if "dims" in config else None
    else:
        return {}
    if config is None:
        return {}
    _check_layout(config, source)
    return {**metadata, "config": json.dumps({"vae": config})}


def _check_layout(config: Any, source: str) -> None:
    """Refuse layouts that core would take very long to build. The result is compared with the tensors later."""
    if not isinstance(config, dict):
        raise ConfigError(f"{source}: the layout of a VAE must be an object, got {short(config)}")
    for name in ("blocks", "encoder_blocks", "decoder_blocks"):
        blocks = config.get(name, [])
        if not isinstance(blocks, list) or len(blocks) > MAX_BLOCKS:
            raise ConfigError(f"{source}: {name} must be a list of at most {MAX_BLOCKS} blocks, got {short(blocks)}")
        for block in blocks:
            params = block[1] if isinstance(block, list) and len(block) == 2 else None
            layers = params.get("num_layers", 1) if isinstance(params, dict) else params
            if isinstance(layers, bool) or not isinstance(layers, int) or not 0 <= layers <= MAX_LAYERS:
                raise ConfigError(f"{source}: {name} must be pairs of a name and at most {MAX_LAYERS} layers")


def _checked(file: Path, known: VAETensors) -> VAETensors:
    """The tensors of the network that core chooses for them, which nothing has been allocated for yet.

    Raises:
        CheckpointError: core does not support the VAE, or tensors are missing, of other shapes, or too many.
    """
    tensors = dict(known.tensors)
    if not ltx_keys.has_statistics(tensors):
        raise CheckpointError(
            f"{file}: this LTX-Video VAE lacks the statistics of its latents (latents_mean and latents_std, or "
            "per_channel_statistics), which are needed for right colours: download the complete file"
        )
    try:
        with torch.device("meta"), without_core_warnings():
            network = VAE(sd=_as_shapes(tensors), metadata=known.metadata).first_stage_model
    # Core does not check its input, so any exception can occur.
    except Exception as error:
        raise CheckpointError(
            f"{file}: ComfyUI cannot build a VAE from its tensors: the file is incomplete, ComfyUI does not support "
            f"its layout, or its configuration is wrong ({str(error).strip()[:300]})"
        ) from error
    if network is None:
        raise CheckpointError(f"{file}: ComfyUI does not recognise this file as a VAE; choose another file")
    expected = {name: tensor.shape for name, tensor in network.state_dict().items()}
    for name in ltx_keys.UNREAD_STATISTICS:
        if name in expected and name not in tensors:
            tensors[name] = torch.zeros(expected[name])
    unlike = differences(expected, tensors, [key for key in tensors if key not in expected and key.startswith(ROOMS)])
    if unlike:
        raise CheckpointError(
            f"{file}: {unlike}: the VAE is incomplete, or ComfyUI does not support its layout; {_remedy(tensors)}"
        )
    whole = [name for name in expected if not tensors[name].is_floating_point() and tensors[name].numel() > 1]
    if whole:
        raise CheckpointError(
            f"{file}: its weights are quantised ({examples(whole)}), which cannot be used: use another version"
        )
    return dataclasses.replace(known, tensors=tensors)


def _remedy(names: Container[str]) -> str:
    if ltx_keys.has_core_names(names):
        return VAE_ADVICE[LTX_CHANNELS]
    return VAE_ADVICE[WAN_CHANNELS] if wan_keys.CORE_MARK in names else "download the file again"


def _as_shapes(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: torch.empty_like(tensor, device="meta") for name, tensor in tensors.items()}


def _built(file: Path, known: VAETensors) -> VAE:
    vae = VAE(sd=dict(known.tensors), metadata=known.metadata)
    network = vae.first_stage_model
    if isinstance(network, TAEHV):
        network.show_progress_bar = False
        if vae.latent_channels == WAN_CHANNELS:
            _distinguish_tiny(file, network)
    if isinstance(network, VideoVAE) and "spatial_padding_mode" not in known.metadata.get("config", ""):
        _pad_with_zeros(network.decoder)
    return vae


def _distinguish_tiny(file: Path, network: TAEHV) -> None:
    """Two tiny VAEs for Wan have the same tensors: taew2_1 works on normalised latents, lighttaew2_1 on Wan's own.

    Core goes by the type of the weights, which any conversion changes; their makers, and others, go by the name.
    """
    name = file.name.lower()
    if "lighttae" in name:
        latent_format = None
    elif "taew2" in name:
        latent_format = latent_formats.Wan21
    elif "taehv" in name:
        raise CheckpointError(f"{file}: taehv is the tiny VAE of HunyuanVideo: use taew2_1 or lighttaew2_1")
    else:
        raise CheckpointError(
            f"{file}: this tiny VAE may be taew2_1 or lighttaew2_1, which have the same tensors but different latents: "
            "rename the file so that its name contains the right one of the two"
        )
    network.latent_format = latent_format
    network.process_in = latent_format().process_in if latent_format else _unchanged
    network.process_out = latent_format().process_out if latent_format else _unchanged


def _unchanged(latents: Tensor) -> Tensor:
    return latents


def _pad_with_zeros(decoder: Module) -> None:
    """LTX-Video pads with zeros unless its configuration differs; core's decoder would mirror the edges."""
    for convolution in decoder.modules():
        if isinstance(convolution, Conv3d):
            convolution.padding_mode = "zeros"
