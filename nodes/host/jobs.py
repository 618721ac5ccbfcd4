"""What makes two jobs the same, where their frames lie, and the state that lets one go on after a stop."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any

import folder_paths
import torch
from comfy.model_patcher import ModelPatcher
from comfy.sd import VAE
from safetensors.torch import load, save
from torch import Tensor

from ...models.audio import AudioFeatures
from ...models.config import SamplingConfig
from ...models.reference import Reference
from ...models.rollout import ContinuityOptions, ContinuityState
from .model import talking_head, weights_fingerprint

JOB_VERSION = 3
"""Raised when a change of the pack changes frames, so that no video is continued by another version."""

MAX_SPOOL_BYTES = 20_000_000_000
"""Unfinished jobs are kept for resuming up to this size together, the oldest ones go first."""


def spool_root() -> Path:
    """Where jobs keep their frames: in ComfyUI's user folder, which survives restarts (its temp folder does not)."""
    return Path(folder_paths.get_user_directory()) / "asymtalker" / "spool"


def job_id(
    model: ModelPatcher,
    vae: VAE,
    reference: Reference,
    audio: AudioFeatures,
    sampling: SamplingConfig,
    continuity: ContinuityOptions,
    seed: int,
) -> str:
    """Content hash of everything that changes frames: weights, LoRAs, VAE, portrait, audio, seed and settings."""
    network = talking_head(model)
    digest = hashlib.blake2b(digest_size=16)
    settings = {
        "version": JOB_VERSION,
        "weights": network.checkpoint.weights_id,
        "dtype": [str(network.get_dtype()), str(network.manual_cast_dtype), str(vae.vae_dtype)],
        "device": model.load_device.type,
        "vae": weights_fingerprint(vae.get_sd()),
        "sampling": dataclasses.asdict(sampling),
        "continuity": dataclasses.asdict(continuity),
        "seed": seed,
        "num_frames": audio.num_frames,
        "frames_per_chunk": reference.frames_per_chunk,
        "wrappers": sorted(str(key) for kind in model.wrappers.values() for key in kind),
    }
    digest.update(json.dumps(settings, sort_keys=True).encode())
    for tensor in (reference.latents, reference.portrait, audio.features):
        _hash(digest, tensor)
    for name in sorted(model.patches):
        digest.update(name.encode())
        _hash(digest, model.patches[name])
    return digest.hexdigest()


def pack_state(state: ContinuityState) -> bytes:
    """A continuity state for the disk."""
    return save({"latents": state.latents.cpu().contiguous(), "chunk_index": torch.tensor(state.chunk_index)})


def unpack_state(blob: bytes) -> ContinuityState:
    """The state that ``pack_state`` wrote."""
    tensors = load(blob)
    return ContinuityState(int(tensors["chunk_index"]), tensors["latents"])


def _hash(digest: Any, value: Any) -> None:
    """Feed any nesting of tensors, weight adapters and plain values to ``digest``."""
    if isinstance(value, Tensor):
        digest.update(f"{tuple(value.shape)}:{value.dtype}".encode())
        digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    elif isinstance(value, (list, tuple)):
        for item in value:
            _hash(digest, item)
    elif hasattr(value, "weights"):
        digest.update(type(value).__name__.encode())
        _hash(digest, value.weights)
    elif value is None or isinstance(value, (bool, int, float, str)):
        digest.update(repr(value).encode())
    else:
        # An unknown patch cannot be compared across runs: its identity keeps this job from being mistaken for another.
        digest.update(f"{type(value).__name__}:{id(value)}".encode())
