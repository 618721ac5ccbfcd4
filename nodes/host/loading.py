"""From the loader's choices to stock MODEL, VAE and AUDIO_ENCODER objects."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

from comfy.ldm.lightricks.vae.causal_video_autoencoder import VideoVAE
from comfy.model_patcher import ModelPatcher
from comfy.sd import VAE
from comfy.taesd.taehv import TAEHV
from comfy.utils import state_dict_prefix_replace
from torch import Tensor
from torch.nn import Conv3d, Module

from ...models.checkpoint import CheckpointError, read_checkpoint, read_published
from ...models.config import DiTConfig
from . import folders, ltx_keys
from .audio import LogMelAudioEncoder, load_wav2vec2
from .companions import VAES, Found, locate_companions
from .model import load_model, talking_head
from .progress import tell
from .sources import note_file, shown_path
from .vae import check_vae, load_nano_vae

LOG_MEL_BLOCKS = 1
"""nano's features have one block per frame, wav2vec2's one per transformer layer."""

FAMILY_VALUES = {item.name for item in dataclasses.fields(DiTConfig)} - {"num_layers", "eps", "patch_size"}
"""Of a config.json; the three are in those of other architectures too."""

MAX_CONFIG_CHARACTERS = 1_000_000


def load_all(
    choice: str, weight_dtype: str, vae_choice: str, audio_choice: str, node_id: str | None = None
) -> tuple[ModelPatcher, VAE, Any]:
    """MODEL, VAE and AUDIO_ENCODER for the loader's choices; which files they are of is logged and shown on the node.

    Raises:
        FileNotFoundError: lists the files that are missing, and where they go.
        CheckpointError: a file is damaged, unsafe or of another architecture.
    """
    located = folders.locate_model(choice)
    state_dict, metadata, note = _read_network(located.file)
    model = load_model(state_dict, metadata, name=choice, weight_dtype=weight_dtype)
    del state_dict
    network = talking_head(model)
    config = network.checkpoint.config
    needs_wav2vec2 = config.audio.blocks != LOG_MEL_BLOCKS
    vae_found, audio_found = locate_companions(
        vae_choice, audio_choice, located, config.latent_channels, needs_wav2vec2
    )
    vae = load_vae(vae_found.file)
    check_vae(vae, network)
    note_file(network, located.file)
    note_file(vae, vae_found.file)
    audio_encoder = _load_audio_encoder(audio_found)
    tell(node_id, "\n".join([*_notes(located, vae_found, audio_found), *note]))
    return model, vae, audio_encoder


def _read_network(file: Path) -> tuple[dict[str, Tensor], dict[str, str], tuple[str, ...]]:
    """Tensors, metadata and notes. Another model's config.json, as lies in models/diffusion_models, is not read."""
    beside = file.with_name("config.json")
    if not _is_of_another_model(beside):
        return (*read_published(file), ())
    tensors, metadata = read_checkpoint(file)
    note = f"model: {shown_path(beside)} was not read, because it is another model's"
    return tensors, metadata, () if "config" in metadata else (note,)


def _is_of_another_model(config: Path) -> bool:
    """Whether there is a configuration without any value of this family. What cannot be read is none."""
    try:
        with config.open(encoding="utf-8-sig") as file:
            declared = json.loads(file.read(MAX_CONFIG_CHARACTERS))
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(declared, dict) and bool(declared) and FAMILY_VALUES.isdisjoint(declared)


def _load_audio_encoder(found: Found | None) -> Any:
    if found is None:
        return LogMelAudioEncoder()
    weights, _ = read_checkpoint(found.file)
    encoder = load_wav2vec2(weights, found.file.name)
    note_file(encoder, found.file)
    return encoder


def _notes(located: folders.Located, vae: Found, audio: Found | None) -> tuple[str, ...]:
    """Which file was taken for what, then what is worth knowing about them."""
    files = {"model": located.file, "vae": vae.file, "audio_encoder": audio.file if audio is not None else None}
    notes = [", ".join(f"{name}: {shown_path(file)}" for name, file in files.items() if file is not None)]
    if located.others:
        notes.append(f"model: the same folder holds {', '.join(located.others)} too; choose one to load it instead")
    return (*notes, *(found.note for found in (vae, audio) if found is not None and found.note))


def load_vae(file: Path) -> VAE:
    """Any video VAE that core knows, LTX-Video's with diffusers' tensor names, or nano's.

    Raises:
        CheckpointError: the file holds no VAE, or one of a layout that core has no network for.
    """
    state_dict, metadata = read_checkpoint(file)
    if "nano_vae" in metadata:
        return load_nano_vae(state_dict, metadata)
    for prefix in ("first_stage_model.", "vae."):
        state_dict = state_dict_prefix_replace(state_dict, {prefix: ""})
    if ltx_keys.has_diffusers_names(state_dict):
        vae = _load_diffusers_ltx(file, state_dict)
    else:
        metadata = _with_ltx_config(file, metadata)
        vae = VAE(sd=dict(state_dict), metadata=metadata)
    if vae.first_stage_model is None:
        raise CheckpointError(f"{file}: ComfyUI does not recognise this file as a VAE")
    if isinstance(vae.first_stage_model, TAEHV):
        vae.first_stage_model.show_progress_bar = False
    if isinstance(vae.first_stage_model, VideoVAE) and "spatial_padding_mode" not in metadata.get("config", ""):
        _pad_with_zeros(vae.first_stage_model.decoder)
    return vae


def _load_diffusers_ltx(file: Path, state_dict: dict[str, Tensor]) -> VAE:
    """Core picks its network by the tensors' shapes; what then does not fit is a layout that core does not have."""
    remedy = (
        f"{file} is an LTX-Video VAE in diffusers' naming, but of a layout that ComfyUI does not have: use "
        f"{VAES[128].directory}/diffusion_pytorch_model.safetensors of Soul-AILab/{folders.PUBLISHED}"
    )
    renamed = ltx_keys.core_names(state_dict)
    try:
        vae = VAE(sd=dict(renamed))
    except RuntimeError as error:
        raise CheckpointError(f"{remedy} ({error})") from error
    if vae.first_stage_model is None or vae.get_sd().keys() != renamed.keys():
        raise CheckpointError(remedy)
    return vae


def _with_ltx_config(file: Path, metadata: dict[str, str]) -> dict[str, str]:
    """Core reads an LTX VAE's layout from the ``vae`` part of the ``config`` entry; LTX-Video's config.json is it."""
    beside = file.with_name("config.json")
    if "config" in metadata or not beside.is_file():
        return metadata
    declared = json.loads(beside.read_text("utf-8"))
    return {**metadata, "config": json.dumps({"vae": declared})} if "dims" in declared else metadata


def _pad_with_zeros(decoder: Module) -> None:
    """LTX-Video pads with zeros unless its configuration says otherwise; core's decoder would mirror the edges."""
    for convolution in decoder.modules():
        if isinstance(convolution, Conv3d):
            convolution.padding_mode = "zeros"
