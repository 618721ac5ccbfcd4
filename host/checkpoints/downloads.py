"""The missing files of a published model, in the form that ComfyUI's missing-models dialogue shows and downloads.

The dialogue identifies files by their names in a model folder. Each file is therefore listed under the name with which
the loader finds it there, because many models share the published names (``diffusion_pytorch_model.safetensors``).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from ...models.family import LITE, PRO, WAV2VEC2
from .companions import locate_audio_encoder, locate_vae
from .folders import DEFAULT, NETWORK_CHOICES, SINGLE_FILES, Located, listed, model_states, roots

WAN_VAE_LINK = "https://huggingface.co/Comfy-Org/Wan_2.1_ComfyUI_repackaged/resolve/main/split_files/vae/"
"""Pro's VAE as safetensors: the dialogue of older versions accepts no pickle files."""

COMPANIONS = {
    PRO.vae: (PRO.vae.single_file, WAN_VAE_LINK + PRO.vae.single_file),
    LITE.vae: ("ltx_video_0.9.0_vae.safetensors", LITE.vae.file_link),
    WAV2VEC2: (WAV2VEC2.single_file, WAV2VEC2.file_link),
}
"""Name and address of each."""


def missing_files() -> dict[str, dict[str, dict[str, str]]]:
    """{published choice: {input of the loader: {name, url, directory}}} for the files that are not installed."""
    states = model_states()
    names = {choice: name for name, choice in SINGLE_FILES.items()}
    missing: dict[str, dict[str, dict[str, str]]] = {}
    for choice, spec in NETWORK_CHOICES.items():
        found: dict[str, dict[str, str]] = {}
        if states[choice].startswith("missing") and names[choice] not in listed("diffusion_models"):
            found["model"] = _entry(names[choice], spec.network.file_link, "diffusion_models")
        home = roots()[0] / spec.network.repository_name
        located = Located(home / spec.network.folder / spec.network.main_file, home)
        if _is_missing(partial(locate_vae, DEFAULT, located, spec.config.latent_channels)):
            found["vae"] = _entry(*COMPANIONS[spec.vae], "vae")
        encoder = spec.audio_encoder
        if encoder is not None and _is_missing(partial(locate_audio_encoder, DEFAULT, located)):
            found["audio_encoder"] = _entry(*COMPANIONS[encoder], "audio_encoders")
        if found:
            missing[choice] = found
    return missing


def _entry(name: str, url: str, directory: str) -> dict[str, str]:
    return {"name": name, "url": url, "directory": directory}


def _is_missing(search: Callable[[], Any]) -> bool:
    """Whether no file was found. If several files match, the error message handles it."""
    try:
        search()
    except FileNotFoundError as error:
        return "was found" in str(error) or "was not found" in str(error)
    return False
