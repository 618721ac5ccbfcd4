"""From the loader's choices to stock MODEL, VAE and AUDIO_ENCODER objects."""

from __future__ import annotations

from typing import Any

from comfy.model_patcher import ModelPatcher
from comfy.sd import VAE

from ...models.checkpoint import read_checkpoint, read_published
from . import folders
from .audio import LogMelAudioEncoder
from .model import load_model, talking_head
from .vae import check_vae
from .vae_files import load_vae
from .wav2vec2 import load_wav2vec2

LOG_MEL_BLOCKS = 1
"""nano's features have one block per frame, wav2vec2's one per transformer layer."""


def load_all(choice: str, weight_dtype: str, vae_choice: str, audio_choice: str) -> tuple[ModelPatcher, VAE, Any]:
    """MODEL, VAE and AUDIO_ENCODER for the loader's choices; all files are found before the first is read.

    Raises:
        FileNotFoundError: names the folder and the file that are missing.
        CheckpointError: a file is damaged, unsafe or of another architecture.
    """
    located = folders.locate_model(choice)
    state_dict, metadata = read_published(located.file)
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
