"""One generation: everything is checked first, then chunks stream from the rollout to the spool."""

from __future__ import annotations

import dataclasses
import json
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from comfy.model_patcher import ModelPatcher
from comfy.sd import VAE

from ..host.audio import sound_of
from ..host.checkpoints.sources import file_of
from ..host.guards import check_memory
from ..host.model import TalkingHeadModel, talking_head
from ..host.network import ChunkNetwork
from ..host.progress import duration, notify
from ..host.vae import StockVideoCodec
from ..live.jobs import LiveJob, Origin, watchable
from ..media import (
    FolderBusyError,
    MediaError,
    Segment,
    SpoolHeader,
    SpoolWriter,
    check_disk,
    enforce_cap,
    estimate_spool_bytes,
    has_frames,
    remove_spool,
)
from ..media.errors import format_bytes
from ..models.audio import FPS, RecordingFeatures
from ..models.config import SAMPLERS, SamplingConfig
from ..models.reference import Reference
from ..models.rollout import Chunk, ContinuityOptions, ContinuityState, rollout
from ..video.spooled import SpooledVideo, SpoolHandle
from . import pace
from .job import (
    MAX_SPOOL_BYTES,
    Job,
    checked_keep,
    drop_unwanted,
    make_job,
    pack_state,
    resume,
    spool_header,
    spool_root,
)
from .progress import RolloutProgress

SAMPLER_CHOICES = ("auto", *SAMPLERS)

NO_LOCKS = (
    "the disk of {folder} has no file locks (as on some network drives): the job runs, but no second ComfyUI may use "
    "this folder at the same time"
)


@dataclass(frozen=True)
class Settings:
    """The Sampler's widgets; 0 and ``auto`` stand for what the checkpoint was made for."""

    seed: int
    steps: int
    sampler: str
    shift: float
    audio_guidance: float
    continuity: ContinuityOptions
    keep: str = "until saved"

    def __post_init__(self) -> None:
        checked_keep(self.keep)

    def resolve(self, own: SamplingConfig, frames_per_chunk: int) -> SamplingConfig:
        """The checkpoint's ``own`` configuration with what the user set. Raises ConfigError for impossible values."""
        return SamplingConfig(
            sampler=own.sampler if self.sampler == "auto" else self.sampler,
            steps=self.steps or own.steps,
            shift=self.shift or own.shift,
            guidance=self.audio_guidance or own.guidance,
            frames_per_chunk=frames_per_chunk,
        )


@dataclass
class ChunkRecord:
    """One chunk's line in the report."""

    index: int
    first_frame: int
    frames: int
    seconds: dict[str, float]
    stats: dict[str, float]
    regenerated: bool = False


def generate(
    model: ModelPatcher,
    vae: VAE,
    reference: Reference,
    audio: RecordingFeatures,
    settings: Settings,
    node_id: str | None,
    workflow_id: str | None = None,
) -> tuple[SpooledVideo, str]:
    """Generate (or finish) a video of the audio's length.

    ``node_id`` and ``workflow_id`` say where it is shown while it runs.

    Returns:
        The video, and a JSON report of settings, speed and statistics.

    Raises:
        ValueError, MemoryError: inputs that do not fit together, or not into main memory, before any work.
        MediaError: the disk cannot hold the frames, or another job is using them.
        RolloutError: a chunk came out as NaN twice; the ones before it are kept.
    """
    network = talking_head(model)
    codec = StockVideoCodec(vae, network)
    sampling = settings.resolve(network.checkpoint.sampling, reference.frames_per_chunk)
    check_inputs(network, reference, audio)
    memory = check_memory(model, vae, reference)
    job = make_job(model, vae, reference, audio, sampling, settings.continuity, settings.seed)
    header = spool_header(job, reference, network.checkpoint.name, settings.seed, settings.keep)
    folder = spool_root() / header.job_id
    live = LiveJob(Origin.of_this_run(node_id, workflow_id), header, len(job.spans), audio.num_frames, sound_of(audio))
    started = time.monotonic()
    drop_unwanted(job, settings.keep)
    with watchable(live), _kept(folder, settings.keep), SpoolWriter(folder, header) as spool:
        notes = [] if spool.is_exclusive else [NO_LOCKS.format(folder=spool_root())]
        state = resume(spool, job, reference)
        missing = audio.num_frames - spool.num_frames
        disk = estimate_spool_bytes(missing, header.width, header.height)
        check_disk(folder, disk, "the frames of this video")
        records = [_stored(segment) for segment in spool.segments]
        resumed_at = len(records)
        usual = pace.Pace.of(model, header, sampling, settings.continuity)
        outlook = _outlook(resumed_at, len(job.spans), disk, memory, usual.seconds_per_chunk())
        notify(node_id, *notes, outlook)
        live.begin(spool)
        progress = RolloutProgress(live, sampling.steps, network.latent_format, reference)
        if missing > 0:
            chunks = _chunks(model, codec, reference, audio, sampling, settings, state, progress)
            records.extend(_store(chunks, spool, progress, job))
        spool.flush()
        # Before the folder is given up: another server must find it either written or held.
        handle = SpoolHandle.of(folder, settings.keep)
    enforce_cap(spool_root(), MAX_SPOOL_BYTES, keep=(folder,))
    made, elapsed_s = records[resumed_at:], time.monotonic() - started
    usual.note([sum(record.seconds.values()) for record in made])
    files = {"model": file_of(network), "vae": file_of(vae), "audio_encoder": audio.encoder}
    report = _report(network, files, header, sampling, settings, made, records, elapsed_s, notes)
    return _video(handle, audio.num_frames, node_id), report


def _chunks(
    model: ModelPatcher,
    codec: StockVideoCodec,
    reference: Reference,
    audio: RecordingFeatures,
    sampling: SamplingConfig,
    settings: Settings,
    state: ContinuityState | None,
    progress: RolloutProgress,
) -> Iterator[tuple[Chunk, ContinuityState]]:
    """The rollout from ``state`` on, each chunk one sampling of core's."""
    network = ChunkNetwork(model)
    return rollout(
        network,
        codec,
        reference,
        audio,
        sampling,
        settings.continuity,
        settings.seed,
        state=state,
        on_step=progress.on_step,
        run_sampling=network.run_sampling,
    )


def _video(handle: SpoolHandle, num_frames: int, node_id: str | None) -> SpooledVideo:
    """The finished video. Raises MediaError if it is not whole any more, rather than give a shorter one."""
    video = SpooledVideo(handle, node_id)
    if video.get_frame_count() != num_frames:
        raise MediaError(
            f"{handle.folder} holds {video.get_frame_count()} of {num_frames} frames: files in it were removed or "
            "changed while the job ran. Queue the job again to generate what is missing."
        )
    return video


@contextmanager
def _kept(folder: Path, keep: str) -> Iterator[None]:
    """Remove the folder of a job that ends early if it was to keep nothing, or there is nothing to keep."""
    try:
        yield
    except BaseException:
        try:
            if keep == "never" or not has_frames(folder):
                remove_spool(folder)
        except FolderBusyError:
            logging.debug("AsymTalker: %s is in use and stays", folder)
        except MediaError as error:
            # The exception under way says why the job ended; this one must not hide it.
            logging.warning("AsymTalker: frames of a job that ended early stay: %s", error)
        raise


def _store(
    chunks: Iterator[tuple[Chunk, ContinuityState]], spool: SpoolWriter, progress: RolloutProgress, job: Job
) -> Iterator[ChunkRecord]:
    """Hand each chunk to the disk with the state that the next one starts from."""
    for chunk, state in chunks:
        handed_over = time.monotonic()
        spool.append(chunk.frames.numpy(), pack_state(state), chunk.stats, job.chunk_ids[chunk.index])
        yield _made(chunk, time.monotonic() - handed_over)
        progress.on_chunk(chunk)


def check_inputs(network: TalkingHeadModel, reference: Reference, audio: RecordingFeatures) -> None:
    """Refuse inputs that do not belong together. Raises ValueError that names the input and the remedy."""
    config, name = network.checkpoint.config, network.checkpoint.name
    channels = reference.latents.shape[1]
    if channels != config.latent_channels:
        raise ValueError(
            f"reference: it was encoded for {channels} latent channels, {name} has {config.latent_channels}; "
            "connect the same MODEL and VAE to AsymTalker Temporal Reference Encode"
        )
    given, wanted = audio.shape, (config.audio.blocks, config.audio.channels)
    if given != wanted:
        raise ValueError(
            f"audio_features: {audio.encoder} gives {given[0]} x {given[1]} values per frame, {name} needs "
            f"{wanted[0]} x {wanted[1]}; use the AUDIO_ENCODER of the same Load AsymTalker"
        )


def _outlook(resumed_at: int, total: int, disk: int, memory: int, chunk_s: float | None) -> str:
    """What is there and what the rest will take; the time only if an earlier job has measured it."""
    start = "continuing, " if resumed_at else ""
    needs = f"at most {format_bytes(disk)} of disk and about {format_bytes(memory)} of memory"
    time_needed = "" if chunk_s is None else f", about {duration(chunk_s * (total - resumed_at))}"
    return f"chunk {resumed_at} of {total}, {start}{needs}{time_needed}"


def _stored(segment: Segment) -> ChunkRecord:
    return _record(segment.index, segment.first_frame, segment.frames, {}, segment.stats)


def _made(chunk: Chunk, hand_over_s: float) -> ChunkRecord:
    seconds = {**chunk.seconds, "hand_over": hand_over_s}
    return _record(chunk.index, chunk.first_frame, chunk.frames.shape[0], seconds, chunk.stats)


def _record(
    index: int, first_frame: int, frames: int, seconds: dict[str, float], stats: dict[str, float]
) -> ChunkRecord:
    return ChunkRecord(index, first_frame, frames, seconds, stats, regenerated="regenerated" in stats)


def _report(
    network: TalkingHeadModel,
    files: dict[str, str],
    header: SpoolHeader,
    sampling: SamplingConfig,
    settings: Settings,
    made: list[ChunkRecord],
    records: list[ChunkRecord],
    elapsed_s: float,
    notes: list[str],
) -> str:
    frames_made = sum(record.frames for record in made)
    report: dict[str, Any] = {
        "model": network.checkpoint.name,
        "files": files,
        "width": header.width,
        "height": header.height,
        "frames": sum(record.frames for record in records),
        "frames_per_second_of_video": FPS,
        "chunks_resumed": len(records) - len(made),
        "chunks_regenerated": [record.index for record in records if record.regenerated],
        "seconds": round(elapsed_s, 3),
        "fps": round(frames_made / elapsed_s, 2) if made else None,
        "seed": settings.seed,
        "sampling": dataclasses.asdict(sampling),
        "continuity": dataclasses.asdict(settings.continuity),
        "chunks": [_rounded(record) for record in records],
    }
    if notes:
        report["notes"] = notes
    return json.dumps(report, indent=1)


def _rounded(record: ChunkRecord) -> dict[str, Any]:
    values = dataclasses.asdict(record)
    for part in ("seconds", "stats"):
        values[part] = {name: round(value, 4) for name, value in values[part].items()}
    return values
