"""The identity of a job, its folder on disk, and the state from which it resumes."""

from __future__ import annotations

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
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from ..host.fused import kernels_in_use
from ..host.network import compute_dtype, noise_dtype
from ..host.vae import vae_identity
from ..media import MediaError, Segment, SpoolHeader, SpoolInfo, SpoolReader, SpoolWriter, list_spools, remove_spool
from ..media.manifest import is_whole
from ..models.choices import Keep
from ..models.chunks import ChunkSpan, ContinuityState, continuity_frames, plan
from ..models.reference import Reference
from .identity import hash_value, patches_id
from .inputs import Inputs

JOB_VERSION = 3
"""Raise it when a change of the pack changes frames, so that no job resumes with another version."""

DETAIL_VERSION = 3
"""The same for changes that only jobs with detail transfer, drawn lids or guidance at the mouth see."""

MAX_SPOOL_BYTES = 20_000_000_000
"""Limit for all kept frames together; the oldest are removed first."""

MAX_FRAMES = 1 << 31
MAX_SEED = (1 << 64) - 1


def spool_root() -> Path:
    """Where jobs keep their frames: in ComfyUI's user folder, which survives restarts (its temp folder does not)."""
    return Path(folder_paths.get_user_directory()) / "asymtalker" / "spool"


@dataclass(frozen=True)
class Job:
    """What one generation makes: ``chunk_ids`` has an entry for each chunk of ``spans``.

    A chunk's id is a hash of all that its frames depend on: weights, portrait, settings, its sound, and the same of
    every chunk before it. Jobs whose first ids agree share those chunks, bit for bit.
    """

    settings_id: str
    spans: tuple[ChunkSpan, ...]
    chunk_ids: tuple[str, ...]

    @property
    def job_id(self) -> str:
        """The last chunk's id, which depends on all inputs."""
        return self.chunk_ids[-1]

    @property
    def num_frames(self) -> int:
        """Frames of the whole video."""
        return self.spans[-1].end_frame

    def shared_chunks(self, segments: Sequence[Segment]) -> int:
        """How many of the first chunks ``segments`` holds already, each with the frames that it is to have."""

        def is_same(planned: tuple[str, ChunkSpan], segment: Segment) -> bool:
            chunk_id, span = planned
            place = (span.first_frame, span.new_frames)
            return segment.identity == chunk_id and (segment.first_frame, segment.frames) == place

        planned = zip(self.chunk_ids, self.spans, strict=True)
        return sum(1 for _ in takewhile(lambda pair: is_same(*pair), zip(planned, segments, strict=False)))


@dataclass(frozen=True)
class JobRecord:
    """A job's entries in a spool's metadata; ``num_frames`` is the whole video's."""

    model: str
    num_frames: int
    seed: int
    settings_id: str
    keep: str

    @classmethod
    def of(cls, spool: SpoolInfo) -> JobRecord | None:
        """The record of a listed spool; None where it is unknown or its metadata does not fit."""
        if spool.header is None:
            return None
        names = [field.name for field in dataclasses.fields(cls)]
        values: dict[str, Any] = {name: spool.header.metadata.get(name) for name in names}
        texts = all(isinstance(values[name], str) for name in ("model", "settings_id", "keep"))
        numbers = is_whole(values["num_frames"], 1, MAX_FRAMES) and is_whole(values["seed"], 0, MAX_SEED)
        return cls(**values) if texts and numbers else None

    def metadata(self) -> dict[str, Any]:
        """For the header of a spool."""
        return dataclasses.asdict(self)


def make_job(inputs: Inputs) -> Job:
    """Plan a video of the audio's length and compute the ids of its chunks."""
    reference, audio = inputs.reference, inputs.audio
    overlap = continuity_frames(inputs.settings.continuity.latents, reference.stride_t)
    spans = plan(audio.num_frames, reference.frames_per_chunk, overlap)
    settings = settings_id(inputs)
    stream, before = inputs.condition.stream(), settings.encode()
    chunk_ids: list[str] = []
    for span in spans:
        digest = hashlib.blake2b(before, digest_size=16)
        digest.update(str((span.overlap, span.new_frames)).encode())
        digest.update(stream.identity(span.start, reference.frames_per_chunk))
        before = digest.digest()
        chunk_ids.append(digest.hexdigest())
    return Job(settings, tuple(spans), tuple(chunk_ids))


def settings_id(inputs: Inputs) -> str:
    """Content hash of everything except the audio that changes frames: weights, LoRAs, VAE, portrait, seed, settings.

    Overrides, wrappers and patches of the MODEL are in it by their code and values (see ``identity``).
    """
    model, network, vae, reference = inputs.model, inputs.network, inputs.vae, inputs.reference
    digest = hashlib.blake2b(digest_size=16)
    sampling = dataclasses.asdict(inputs.sampling)
    if not inputs.blinks:
        sampling["blinks"] = 0
    for newer in ("detail", "blinks"):
        # Jobs without it are those of versions that had none.
        if not sampling[newer]:
            del sampling[newer]
    settings = {
        "version": JOB_VERSION,
        "weights": network.checkpoint.weights_id,
        "dtype": [str(network.get_dtype()), str(network.manual_cast_dtype), str(vae.vae_dtype)],
        "device": model.load_device.type,
        "vae": vae_identity(vae),
        "sampling": sampling,
        "continuity": dataclasses.asdict(inputs.settings.continuity),
        "seed": inputs.settings.seed,
        "frames_per_chunk": reference.frames_per_chunk,
        "wrappers": sorted(str(key) for kind in model.wrappers.values() for key in kind),
    }
    if reference.shift != (0, 0):
        settings["shift"] = reference.shift
    if inputs.sampling.detail or inputs.drawn_lids is not None or inputs.guided is not None:
        settings["detail_version"] = DETAIL_VERSION
    if inputs.uses_face:
        # Not its landmarks: they follow from the portrait, but their last bits depend on the machine.
        settings["face"] = True
    if noise := noise_dtype(network, model.load_device):
        settings["noise"] = str(noise)
    if fused := kernels_in_use(model.load_device, compute_dtype(network)):
        settings["fused"] = fused
    if patched := patches_id(model):
        settings["patched"] = patched
    digest.update(json.dumps(settings, sort_keys=True).encode())
    for tensor in (reference.latents, reference.portrait):
        hash_value(digest, tensor)
    for name in sorted(model.patches):
        digest.update(name.encode())
        hash_value(digest, model.patches[name])
    return digest.hexdigest()


def spool_header(job: Job, reference: Reference, model_name: str, seed: int, keep: str) -> SpoolHeader:
    """The header of a job's folder."""
    width, height = reference.size
    record = JobRecord(model_name, job.num_frames, seed, job.settings_id, keep)
    return SpoolHeader(job.job_id, width, height, metadata=record.metadata())


def drop_unwanted(job: Job, keep: str) -> None:
    """Remove frames that a killed process left behind: of saved videos, and of jobs with ``Keep.NEVER``.

    If ``keep`` is ``Keep.NEVER``, this job's own frames are removed too, so that it starts from the beginning. Folders
    that are in use, unknown or cannot be removed stay.
    """
    for spool in list_spools(spool_root()):
        record = JobRecord.of(spool)
        done = record is not None and (record.keep == Keep.NEVER or (record.keep == Keep.UNTIL_SAVED and spool.saved))
        afresh = keep == Keep.NEVER and spool.folder.name == job.job_id
        if (done or afresh) and not spool.in_use:
            try:
                remove_spool(spool.folder)
            except MediaError as error:
                logging.info("AsymTalker: frames of an earlier job were not removed: %s", error)


def reuse_chunks(spool: SpoolWriter, job: Job) -> int:
    """Copy the job's next chunks from another job that has more of its first ones; returns their number.

    If another job's spool is damaged or was removed meanwhile, only its chunks are not reused.
    """
    best: tuple[Path, list[Segment]] | None = None
    shared = spool.num_segments
    for other in list_spools(spool_root()):
        record = JobRecord.of(other)
        if record is None or record.settings_id != job.settings_id or other.folder == spool.folder:
            continue
        try:
            segments = SpoolReader(other.folder).segments
        except MediaError as error:
            logging.info("AsymTalker: frames of an earlier job are not reused: %s", error)
            continue
        if job.shared_chunks(segments) > shared:
            shared = job.shared_chunks(segments)
            best = other.folder, list(segments[spool.num_segments : shared])
    if best is None:
        return 0
    try:
        spool.adopt(*best)
    except MediaError as error:
        logging.info("AsymTalker: frames of an earlier job are not reused: %s", error)
        return 0
    return len(best[1])


def resume(spool: SpoolWriter, job: Job, reference: Reference) -> ContinuityState | None:
    """Reuse the chunks of ``job`` that are on disk; returns the state after them, None if there are none."""
    state = keep_fitting(spool, job, reference)
    return keep_fitting(spool, job, reference) if reuse_chunks(spool, job) else state


def keep_fitting(spool: SpoolWriter, job: Job, reference: Reference) -> ContinuityState | None:
    """Truncate a job's spool to the chunks that still belong to it; returns the state after them.

    Returns None if there are none.
    """
    spool.truncate(job.shared_chunks(spool.segments))
    if spool.num_segments == 0:
        return None
    try:
        state = unpack_state(spool.state(-1))
        if state.chunk_index == spool.num_segments and _follows(state.latents, reference.latents):
            return state
        problem = "it belongs to another chunk or has another size"
    except (SafetensorError, KeyError, ValueError, RuntimeError) as error:
        problem = str(error)
    logging.warning(
        "AsymTalker: the job starts from the beginning; the state in %s cannot be used: %s", spool.folder, problem
    )
    spool.truncate(0)
    return None


def _follows(latents: Tensor, whole: Tensor) -> bool:
    """Whether ``latents`` [1, C, n, h, w] can open a chunk of ``whole``'s shape."""
    return latents.ndim == 5 and (*latents.shape[:2], *latents.shape[3:]) == (*whole.shape[:2], *whole.shape[3:])


def pack_state(state: ContinuityState) -> bytes:
    """A continuity state for the disk."""
    return save({"latents": state.latents.cpu().contiguous(), "chunk_index": torch.tensor(state.chunk_index)})


def unpack_state(blob: bytes) -> ContinuityState:
    """The state that ``pack_state`` wrote."""
    tensors = load(blob)
    return ContinuityState(int(tensors["chunk_index"]), tensors["latents"])
