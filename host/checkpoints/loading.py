"""From the loader's choices to stock MODEL, VAE and AUDIO_ENCODER objects."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from comfy.model_patcher import ModelPatcher
from comfy.sd import VAE
from torch import Tensor

from ...models.checkpoint import CheckpointError, read_checkpoint, read_published, read_text
from ...models.config import ConfigError, DiTConfig
from ...models.family import spec_by_audio
from ..audio import LogMelAudioEncoder
from ..model import load_model, talking_head
from ..progress import notify
from ..vae import check_vae
from . import folders
from .adapters import apply_adapter
from .companions import Found, locate_companions
from .fingerprints import kept_fingerprint
from .sources import note_file, shown_path
from .vae_files import load_vae
from .wav2vec2 import load_wav2vec2
from .weight_files import parts

FAMILY_VALUES = {item.name for item in dataclasses.fields(DiTConfig)} - {"num_layers", "eps", "patch_size"}
"""Of a config.json; the three are in those of other architectures too."""


def load_all(
    choice: str, weight_dtype: str, vae_choice: str, audio_choice: str, node_id: str | None = None
) -> tuple[ModelPatcher, VAE, Any]:
    """MODEL, VAE and AUDIO_ENCODER for the loader's choices; which files they are of is logged and shown on the node.

    Raises:
        FileNotFoundError: lists the files that are missing, and where they go.
        CheckpointError, ConfigError: a file is damaged, unsafe or of another architecture; names the input.
    """
    located = folders.locate_model(choice)
    model, note = _load_network(located, choice, weight_dtype)
    _let_reload(model, load_network, located, choice, weight_dtype)
    network = talking_head(model)
    config = network.checkpoint.config
    needs_wav2vec2 = spec_by_audio(config).audio_encoder is not None
    vae_found, audio_found = locate_companions(
        vae_choice, audio_choice, located, config.latent_channels, needs_wav2vec2
    )
    with _chosen_in("vae"):
        vae = load_vae(vae_found.file)
    check_vae(vae, network)
    _let_reload(vae.patcher, load_vae_patcher, vae_found.file)
    note_file(vae, vae_found.file)
    with _chosen_in("audio_encoder"):
        audio_encoder = _load_audio_encoder(audio_found)
    notify(node_id, *_notes(located, vae_found, audio_found), *note, *network.checkpoint.notes)
    return model, vae, audio_encoder


def load_network(
    located: folders.Located, choice: str, weight_dtype: str, disable_dynamic: bool = False
) -> ModelPatcher:
    """The MODEL, loaded once more."""
    return _load_network(located, choice, weight_dtype, dynamic=not disable_dynamic)[0]


def load_vae_patcher(file: Path, disable_dynamic: bool = False) -> ModelPatcher:
    """The patcher of the VAE, loaded once more; where dynamic VRAM is not wanted, core takes only the network of it."""
    return load_vae(file).patcher


def _let_reload(patcher: Any, load: Callable[..., ModelPatcher], *arguments: Any) -> None:
    """Let core load another copy by ``load(*arguments)``, in versions where it compiles that or moves it elsewhere."""
    if hasattr(patcher, "cached_patcher_init"):
        patcher.cached_patcher_init = (load, arguments)


def _load_network(
    located: folders.Located, choice: str, weight_dtype: str, dynamic: bool = True
) -> tuple[ModelPatcher, tuple[str, ...]]:
    """The MODEL, which its file is noted on, and notes for the user."""
    with _chosen_in("model"):
        state_dict, metadata, note = _read_network(located.file)
        files = parts(located.file)
        if located.adapter is not None:
            state_dict, added = apply_adapter(located.adapter, state_dict, metadata)
            sampling = located.adapter.spec.sampling
            metadata = {**metadata, **({} if sampling is None else sampling.to_metadata())}
            note = (*note, *added)
            files += located.adapter.files
        fingerprint = partial(kept_fingerprint, files)
        options = {"weight_dtype": weight_dtype, "fingerprint": fingerprint, "dynamic": dynamic}
        model = load_model(state_dict, metadata, name=choice, **options)
    note_file(talking_head(model), located.file)
    return model, note


@contextmanager
def _chosen_in(input_name: str) -> Iterator[None]:
    """Errors of a file under the name of the input that chose it."""
    try:
        yield
    except (CheckpointError, ConfigError) as error:
        raise type(error)(f"{input_name}: {error}") from error


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
        declared = json.loads(read_text(config))
    except (CheckpointError, ValueError, RecursionError):
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
    """The file of each part, then notes about them."""
    files = {"model": located.file, "vae": vae.file, "audio_encoder": audio.file if audio is not None else None}
    notes = [", ".join(f"{name}: {shown_path(file)}" for name, file in files.items() if file is not None)]
    if located.adapter is not None:
        added = (located.adapter.lora, located.adapter.projection)
        notes.append(f"with {' and '.join(shown_path(file) for file in added if file is not None)}")
    if located.others:
        notes.append(f"model: the same folder holds {', '.join(located.others)} too; choose one to load it instead")
    return (*notes, *(found.note for found in (vae, audio) if found is not None and found.note))
