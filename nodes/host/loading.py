"""From the loader's choices to stock MODEL, VAE and AUDIO_ENCODER objects."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from comfy.model_patcher import ModelPatcher
from comfy.sd import VAE
from comfy.taesd.taehv import TAEHV
from comfy.utils import state_dict_prefix_replace

from ...models.checkpoint import CheckpointError, read_checkpoint
from . import folders
from .audio import LogMelAudioEncoder, load_wav2vec2
from .model import load_model, talking_head
from .vae import check_vae, load_nano_vae

LOG_MEL_BLOCKS = 1
"""nano's features have one block per frame, wav2vec2's one per transformer layer."""


def load_all(choice: str, weight_dtype: str, vae_choice: str, audio_choice: str) -> tuple[ModelPatcher, VAE, Any]:
    """MODEL, VAE and AUDIO_ENCODER for the loader's choices; all files are found before the first is read.

    Raises:
        FileNotFoundError: names the folder and the file that are missing.
        CheckpointError: a file is damaged, unsafe or of another architecture.
    """
    located = folders.locate_model(choice)
    state_dict, metadata = read_checkpoint(located.file)
    model = load_model(state_dict, metadata, name=choice, weight_dtype=weight_dtype)
    del state_dict
    network = talking_head(model)
    config = network.checkpoint.config
    vae_file = folders.locate_vae(vae_choice, located, config.latent_channels)
    own_features = config.audio.blocks == LOG_MEL_BLOCKS and audio_choice == folders.DEFAULT
    audio_file = None if own_features else folders.locate_audio_encoder(audio_choice, located)
    vae = load_vae(vae_file)
    check_vae(vae, network)
    if audio_file is None:
        return model, vae, LogMelAudioEncoder()
    weights, _ = read_checkpoint(audio_file)
    return model, vae, load_wav2vec2(weights, audio_file.name)


def load_vae(file: Path) -> VAE:
    """Any video VAE that core knows, or nano's.

    Raises:
        CheckpointError: the file holds no VAE.
    """
    state_dict, metadata = read_checkpoint(file)
    if "nano_vae" in metadata:
        return load_nano_vae(state_dict, metadata)
    for prefix in ("first_stage_model.", "vae."):
        state_dict = state_dict_prefix_replace(state_dict, {prefix: ""})
    vae = VAE(sd=dict(state_dict), metadata=_core_metadata(file, metadata))
    if vae.first_stage_model is None:
        raise CheckpointError(f"{file}: ComfyUI does not recognise this file as a VAE")
    if isinstance(vae.first_stage_model, TAEHV):
        vae.first_stage_model.show_progress_bar = False
    return vae


def _core_metadata(file: Path, metadata: dict[str, str]) -> dict[str, str]:
    """Core reads an LTX VAE's layout from the ``config`` entry's ``vae`` part; a published config.json is that part."""
    declared = json.loads(metadata["config"]) if "config" in metadata else {}
    beside = file.with_name("config.json")
    if "vae" not in declared and "config" not in metadata and beside.is_file():
        declared = {"vae": json.loads(beside.read_text(encoding="utf-8"))}
    return {**metadata, "config": json.dumps(declared)} if "vae" in declared else dict(metadata)
