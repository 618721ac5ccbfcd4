"""What makes two jobs the same, where their frames lie, and the state that lets one go on after a stop."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Any

import folder_paths
import torch
from comfy.model_patcher import ModelPatcher
from comfy.sd import VAE
from safetensors.torch import load, save
from torch import Tensor

from ...media import (
    FolderBusyError,
    Segment,
    SpoolHeader,
    SpoolReader,
    SpoolWriter,
    list_spools,
    remove_spool,
)
from ...models.audio import RecordingFeatures
from ...models.config import SamplingConfig
from ...models.reference import Reference
from ...models.rollout import ChunkSpan, ContinuityOptions, ContinuityState, continuity_frames, plan
from .model import talking_head, weights_fingerprint

JOB_VERSION = 3
"""Raised when a change of the pack changes frames, so that no video is continued by another version."""

MAX_SPOOL_BYTES = 20_000_000_000
"""Frames are kept up to this size together, the oldest go first."""

KEEP = ("until saved", "for extending", "never")
"""How long a job's frames stay on disk: until the finished video was saved, longer, or not beyond the run at all."""


def spool_root() -> Path:
    """Where jobs keep their frames: in ComfyUI's user folder, which survives restarts (its temp folder does not)."""
    return Path(folder_paths.get_user_directory()) / "asymtalker" / "spool"


@dataclass(frozen=True)
class Job:
    """What one generation makes: ``chunk_ids`` has an entry for each chunk of ``spans``.

    A chunk's id is a hash of all that its frames depend on: weights, portrait, settings, what it hears, and the same of
    every chunk before it. Jobs whose first ids agree share those chunks, bit for bit.
    """

    settings_id: str
    spans: tuple[ChunkSpan, ...]
    chunk_ids: tuple[str, ...]

    @property
    def job_id(self) -> str:
        """The last chunk's id: it depends on everything."""
        return self.chunk_ids[-1]

    def shared_chunks(self, segments: Sequence[Segment]) -> int:
        """How many of the first chunks ``segments`` holds already."""
        pairs = zip(self.chunk_ids, segments, strict=False)
        return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1].identity, pairs))


def make_job(
    model: ModelPatcher,
    vae: VAE,
    reference: Reference,
    audio: RecordingFeatures,
    sampling: SamplingConfig,
    continuity: ContinuityOptions,
    seed: int,
) -> Job:
    """Plan a video of the audio's length and name its chunks."""
    stride_t = talking_head(model).checkpoint.config.vae_stride[0]
    overlap = continuity_frames(continuity.latents, stride_t)
    spans = plan(audio.num_frames, reference.frames_per_chunk, overlap)
    settings = settings_id(model, vae, reference, sampling, continuity, seed)
    reader, before = audio.reader(), settings.encode()
    chunk_ids: list[str] = []
    for span in spans:
        digest = hashlib.blake2b(before, digest_size=16)
        digest.update(str((span.overlap, span.new_frames)).encode())
        digest.update(reader.identity(span.start, reference.frames_per_chunk))
        before = digest.digest()
        chunk_ids.append(digest.hexdigest())
    return Job(settings, tuple(spans), tuple(chunk_ids))


def settings_id(
    model: ModelPatcher,
    vae: VAE,
    reference: Reference,
    sampling: SamplingConfig,
    continuity: ContinuityOptions,
    seed: int,
) -> str:
    """Content hash of everything that changes frames but the audio: weights, LoRAs, VAE, portrait, seed, settings."""
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
        "frames_per_chunk": reference.frames_per_chunk,
        "wrappers": sorted(str(key) for kind in model.wrappers.values() for key in kind),
    }
    digest.update(json.dumps(settings, sort_keys=True).encode())
    for tensor in (reference.latents, reference.portrait):
        _hash(digest, tensor)
    for name in sorted(model.patches):
        digest.update(name.encode())
        _hash(digest, model.patches[name])
    return digest.hexdigest()


def spool_header(job: Job, reference: Reference, model_name: str, seed: int, keep: str) -> SpoolHeader:
    """What a job's folder says about it."""
    width, height = reference.size
    num_frames = job.spans[-1].start + job.spans[-1].overlap + job.spans[-1].new_frames
    metadata = {
        "model": model_name,
        "num_frames": num_frames,
        "seed": seed,
        "settings_id": job.settings_id,
        "keep": keep,
    }
    return SpoolHeader(job.job_id, width, height, metadata=metadata)


def drop_unwanted(job: Job, keep: str) -> None:
    """Remove frames that a killed process had no time to: of saved videos, and of jobs that were to keep nothing.

    With ``keep`` "never" this job's own go too, so that it starts afresh. What is in use stays.
    """
    for spool in list_spools(spool_root()):
        wanted = spool.header.metadata.get("keep") if spool.header is not None else None
        done = wanted == "never" or (wanted == "until saved" and spool.saved)
        afresh = keep == "never" and spool.folder.name == job.job_id
        if (done or afresh) and not spool.in_use:
            with contextlib.suppress(FolderBusyError):
                remove_spool(spool.folder)


def take_over(spool: SpoolWriter, job: Job) -> int:
    """Take the job's next chunks over from another job that has more of its first ones; returns their number."""
    best: tuple[Path, list[Segment]] | None = None
    shared = spool.num_segments
    for other in list_spools(spool_root()):
        if other.folder == spool.folder or other.header is None:
            continue
        if other.header.metadata.get("settings_id") == job.settings_id:
            segments = SpoolReader(other.folder).segments
            if job.shared_chunks(segments) > shared:
                shared = job.shared_chunks(segments)
                best = other.folder, list(segments[spool.num_segments : shared])
    if best is None:
        return 0
    try:
        spool.adopt(*best)
    except FolderBusyError as error:
        logging.info("AsymTalker: frames of an earlier job are not taken over: %s", error)
        return 0
    return len(best[1])


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
