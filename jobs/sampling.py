"""One generation: everything is checked first, then chunks stream from the rollout to the spool."""

from __future__ import annotations

import dataclasses
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from comfy.model_patcher import ModelPatcher
from comfy.sd import VAE

from ..host.audio import recordings_of, sound_of
from ..host.cores import CpuShare, cpu_share
from ..host.guards import check_memory
from ..host.lane import CountingLane, open_lane
from ..host.model import talking_head
from ..host.network import ChunkNetwork, noise_dtype
from ..host.progress import duration, notify
from ..host.residence import Residence
from ..host.vae import StockVideoCodec, check_vae
from ..live.jobs import LiveJob, watchable
from ..live.origin import Origin
from ..media import (
    FolderBusyError,
    MediaError,
    SpoolHeader,
    SpoolWriter,
    check_disk,
    enforce_cap,
    estimate_spool_bytes,
    has_frames,
    remove_spool,
)
from ..media.disk import format_bytes
from ..models.audio import RecordingFeatures
from ..models.choices import Keep
from ..models.chunks import ContinuityState
from ..models.record import ChunkRecord
from ..models.reference import Reference
from ..models.rollout import Chunk, Lane, rollout
from ..video.spooled import SpooledVideo, SpoolHandle
from .identity import MULTIGPU_COPIES
from .inputs import Inputs, Settings
from .job import (
    MAX_SPOOL_BYTES,
    Job,
    drop_unwanted,
    make_job,
    pack_state,
    resume,
    spool_header,
    spool_root,
)
from .pace import ChunkTimes, Laps
from .progress import RolloutProgress
from .report import run_report

ONE_GPU = "guidance is computed on one GPU: MultiGPU CFG Split has no effect"
NO_LOCKS = (
    "the disk of {folder} does not support file locks (like some network drives): do not use this folder in two "
    "ComfyUI servers at the same time"
)


def generate(
    model: ModelPatcher,
    vae: VAE,
    reference: Reference,
    audio: RecordingFeatures,
    settings: Settings,
    origin: Origin | None = None,
) -> tuple[SpooledVideo, str]:
    """Generate (or finish) a video of the audio's length.

    ``origin`` is where it is shown while it runs.

    Returns:
        The video, and a JSON report of settings, speed and statistics.

    Raises:
        ValueError, MemoryError: inputs that do not fit together, or not into main memory, before any work.
        MediaError: the disk cannot hold the frames, or another job is using them.
        RolloutError: a chunk was NaN twice; the chunks before it are kept.
    """
    prepared = _prepare(model, vae, reference, audio, settings)
    job, header = prepared.job, prepared.header
    folder = spool_root() / header.job_id
    origin = origin or Origin()
    live = LiveJob(origin, header, len(job.spans), job.num_frames, sound_of(audio))
    started = time.monotonic()
    drop_unwanted(job, settings.keep)
    with (
        watchable(live),
        _kept(folder, settings.keep),
        SpoolWriter(folder, header) as spool,
        cpu_share(prepared.residence.device) as share,
        open_lane(prepared.residence, share, prepared.codec.has_parts) as lane,
    ):
        notes = [] if spool.is_exclusive else [NO_LOCKS.format(folder=spool_root())]
        if MULTIGPU_COPIES in model.additional_models:
            notes.append(ONE_GPU)
        resumed, made, laps = _run(prepared, spool, live, share, lane, notes)
        # Before the lock is released, so that other servers always find the folder locked or held.
        handle = SpoolHandle.of(folder, settings.keep)
    enforce_cap(spool_root(), MAX_SPOOL_BYTES, keep=(folder,))
    elapsed_s = time.monotonic() - started
    prepared.times.note(laps)
    report = run_report(prepared.inputs, header, resumed, made, elapsed_s, notes, lane.chunks, laps.usual)
    return _video(handle, audio, origin.node_id), report


@dataclasses.dataclass(frozen=True)
class _Prepared:
    """A generation whose inputs were checked; ``memory`` is what a chunk takes, in bytes."""

    inputs: Inputs
    job: Job
    header: SpoolHeader
    residence: Residence
    codec: StockVideoCodec
    times: ChunkTimes
    memory: int


def _prepare(
    model: ModelPatcher, vae: VAE, reference: Reference, audio: RecordingFeatures, settings: Settings
) -> _Prepared:
    """Check the inputs, before anything is loaded or written. Raises ValueError, MemoryError."""
    check_vae(vae, talking_head(model))
    # One device for all: another node may have moved the MODEL since the portrait was encoded.
    reference = reference.to(model.load_device)
    inputs = Inputs(model, vae, reference, audio, settings)
    inputs.check()
    residence = Residence(model, vae, reference)
    codec = StockVideoCodec(vae, inputs.network, residence.device, residence.bring_vae)
    memory = check_memory(model, vae, reference)
    job = make_job(inputs)
    header = spool_header(job, reference, inputs.network.checkpoint.name, settings.seed, settings.keep)
    times = ChunkTimes.of(model, header, inputs.sampling, settings.continuity)
    return _Prepared(inputs, job, header, residence, codec, times, memory)


def _run(
    prepared: _Prepared, spool: SpoolWriter, live: LiveJob, share: CpuShare, lane: CountingLane, notes: list[str]
) -> tuple[tuple[ChunkRecord, ...], list[ChunkRecord], Laps]:
    """Generate the chunks that ``spool`` lacks. Returns those that it had, the new ones, and their times."""
    inputs, job, header = prepared.inputs, prepared.job, prepared.header
    state = resume(spool, job, inputs.reference)
    missing = job.num_frames - spool.num_frames
    disk = estimate_spool_bytes(missing, header.width, header.height)
    check_disk(spool.folder, disk, "the frames of this video")
    resumed: tuple[ChunkRecord, ...] = spool.segments
    outlook = _outlook(len(resumed), len(job.spans), disk, prepared.memory, prepared.times.seconds_per_chunk())
    notify(live.origin.node_id, *notes, outlook)
    live.begin(spool)
    made: list[ChunkRecord] = []
    laps = Laps()
    if missing > 0:
        steps, latent_format = inputs.sampling.steps, inputs.network.latent_format
        progress = RolloutProgress(live, steps, latent_format, inputs.reference, laps)
        made.extend(_store(share.between(_chunks(prepared, state, progress, lane)), spool, progress, job))
    spool.flush()
    return resumed, made, laps


def _chunks(
    prepared: _Prepared, state: ContinuityState | None, progress: RolloutProgress, lane: Lane
) -> Iterator[tuple[Chunk, ContinuityState]]:
    """The rollout from ``state`` on; each chunk is one sampling run of core."""
    inputs, condition = prepared.inputs, prepared.inputs.condition
    bring, guided = prepared.residence.bring_network, inputs.guided
    network = ChunkNetwork(inputs.model, bring, condition.strength, condition.silence, guided)
    return rollout(
        network,
        prepared.codec,
        inputs.reference,
        condition,
        inputs.sampling,
        inputs.settings.continuity,
        inputs.settings.seed,
        spans=prepared.job.spans,
        state=state,
        on_step=progress.on_step,
        run_sampling=network.run_sampling,
        noise_dtype=noise_dtype(inputs.network, inputs.model.load_device),
        lane=lane,
        lids=inputs.drawn_lids,
        mouth_alone=inputs.mouth_alone,
    )


def _video(handle: SpoolHandle, audio: RecordingFeatures, node_id: str | None) -> SpooledVideo:
    """The finished video with the speech. Raises MediaError if frames are missing from it."""
    video = SpooledVideo(handle, node_id, recordings_of(audio))
    if video.get_frame_count() != audio.num_frames:
        raise MediaError(
            f"{handle.folder} holds {video.get_frame_count()} of {audio.num_frames} frames: files in it were removed "
            "or changed while the job ran. Queue the job again to generate what is missing."
        )
    return video


@contextmanager
def _kept(folder: Path, keep: Keep) -> Iterator[None]:
    """Remove the folder of a job that ends early if it keeps nothing or has no complete chunk."""
    try:
        yield
    except BaseException:
        try:
            if keep is Keep.NEVER or not has_frames(folder):
                remove_spool(folder)
        except FolderBusyError:
            logging.debug("AsymTalker: %s is in use and is not removed", folder)
        except MediaError as error:
            # The current exception is the reason why the job ended; this one must not hide it.
            logging.warning("AsymTalker: frames of a job that ended early were not removed: %s", error)
        raise


def _store(
    chunks: Iterator[tuple[Chunk, ContinuityState]], spool: SpoolWriter, progress: RolloutProgress, job: Job
) -> Iterator[ChunkRecord]:
    """Store each chunk with the state from which the next one starts."""
    for chunk, state in chunks:
        record, handed_over = chunk.record, time.monotonic()
        spool.append(chunk.frames.numpy(), pack_state(state), record.stats, job.chunk_ids[record.index])
        seconds = {**record.seconds, "hand_over": time.monotonic() - handed_over}
        yield dataclasses.replace(record, seconds=seconds)
        progress.on_chunk(chunk)


def _outlook(resumed_at: int, total: int, disk: int, memory: int, chunk_s: float | None) -> str:
    """What is on disk and what the rest needs; the time only if an earlier job has measured it."""
    start = "continuing, " if resumed_at else ""
    needs = f"at most {format_bytes(disk)} of disk and about {format_bytes(memory)} of memory"
    time_needed = "" if chunk_s is None else f", about {duration(chunk_s * (total - resumed_at))}"
    return f"chunk {resumed_at} of {total}, {start}{needs}{time_needed}"
