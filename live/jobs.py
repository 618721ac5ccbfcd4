"""Generations that can be watched while they run: their state, and their finished chunks as mp4 fragments.

Nothing is encoded before it is requested. The newest frames are still in memory; older ones are read from the disk.
"""

from __future__ import annotations

import logging
import math
import secrets
import tempfile
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import folder_paths
import numpy as np
from comfy.model_management import InterruptProcessingException

from ..host.messages import encodable
from ..host.progress import show
from ..host.server import prompt_server
from ..media import MediaError, SpoolHeader, SpoolWriter
from ..media.audio_track import AudioTrack
from ..media.segments import Frames
from ..models.choices import Choice, Keep
from ..models.record import ChunkRecord
from ..models.rollout import Chunk
from .fragments import Fragment, encode_fragment
from .origin import Origin

EVENT = "asymtalker.live"

MAX_ENDED = 2
"""Ended generations that can still be watched, for viewers behind the live edge."""

RECENT_CHUNKS = 4
"""Chunks that may not be on disk yet: one handed over, two waiting, one being written."""

MAX_CACHED_FRAGMENTS = 32
"""Of a generation, for several viewers: about 50 kB each at 256x256."""

WATCHED_S = 6.0
"""A player counts as watching for this long after its last request; a visible player renews it every two seconds."""

MAX_ERROR_CHARACTERS = 400


class JobState(Choice):
    """How far a generation is, as the browser reads it."""

    RUNNING = "running"
    FINISHED = "finished"
    STOPPED = "stopped"
    FAILED = "failed"


class LiveJob:
    """One generation. The server's threads read what the generation's thread writes.

    Args:
        num_chunks, num_frames: of the whole video.
        sound: its soundtrack, mono at a rate that AAC supports.
    """

    def __init__(
        self, origin: Origin, header: SpoolHeader, num_chunks: int, num_frames: int, sound: AudioTrack | None
    ) -> None:
        self.id = secrets.token_hex(8)
        self.state = JobState.RUNNING
        self.origin, self._header, self._sound = origin, header, sound
        self.num_chunks, self._num_frames = num_chunks, num_frames
        self._chunks: list[ChunkRecord] = []
        self._made_fps: float | None = None
        self._seconds_left: float | None = None
        self._spool: SpoolWriter | None = None
        self._recent: deque[tuple[int, Frames]] = deque(maxlen=RECENT_CHUNKS)
        self._fragments: OrderedDict[int, Fragment] = OrderedDict()
        self._encoding = threading.Lock()
        self._watched_until = -math.inf
        self._error: str | None = None

    @property
    def is_watched(self) -> bool:
        """Whether a player shows the job, so that previews are not needed."""
        return time.monotonic() < self._watched_until

    def watch(self) -> None:
        """Record that a visible player shows the job."""
        self._watched_until = time.monotonic() + WATCHED_S

    def begin(self, spool: SpoolWriter) -> None:
        """Notify viewers that the generation starts, with what ``spool`` has of it already."""
        self._spool = spool
        self._chunks.extend(spool.segments)
        self._notify()

    def add(self, chunk: Chunk, made_fps: float, seconds_left: float) -> None:
        """The next chunk, which has been handed over to the spool; frames a second and the time left as measured."""
        self._recent.append((chunk.record.index, chunk.frames.numpy()))
        self._made_fps, self._seconds_left = round(made_fps, 2), round(seconds_left, 1)
        self._chunks.append(chunk.record)
        self._notify(_described(chunk.record))

    def end(self, state: JobState, error: str | None = None) -> None:
        """No more chunks follow. All chunks are on disk, and the sound is moved there too."""
        with self._encoding:
            self._sound = None if self._sound is None else _moved_to_disk(self._sound)
        self.state, self._error = state, error
        self._seconds_left = 0.0
        self._recent.clear()
        self._notify()

    @property
    def num_done(self) -> int:
        """Finished chunks."""
        return len(self._chunks)

    @property
    def resumes(self) -> bool:
        """Whether queueing the same graph after a stop resumes the job after its last chunk."""
        return bool(self._chunks) and self._header.metadata.get("keep") != Keep.NEVER

    def summary(self) -> dict[str, Any]:
        """What a viewer shows beside the picture, as a JSON-able mapping."""
        return {
            "id": self.id,
            "node": self.origin.node_id,
            "prompt": self.origin.prompt_id,
            "workflow": self.origin.workflow_id,
            "savers": list(self.origin.savers),
            "own_savers": list(self.origin.own_savers),
            "state": self.state,
            "error": self._error,
            "resumes": self.resumes,
            "width": self._header.width,
            "height": self._header.height,
            "fps": float(self._header.fps),
            "frames": self._num_frames,
            "chunks": self.num_chunks,
            "done": len(self._chunks),
            "made_fps": self._made_fps,
            "seconds_left": self._seconds_left,
        }

    def chunk_list(self) -> list[dict[str, Any]]:
        """Every finished chunk: index, first_frame, frames, stats."""
        return [_described(chunk) for chunk in tuple(self._chunks)]

    def fragment(self, index: int) -> Fragment:
        """A finished chunk for the player; blocks while it is encoded. Raises IndexError, or MediaError if it is gone.

        May be called from any thread.
        """
        chunk = self._chunks[index]
        self.watch()
        with self._encoding:
            fragment = self._fragments.get(index)
            if fragment is None:
                fragment = encode_fragment(
                    self._frames(index), chunk.first_frame, chunk.frames, self._header.fps, self._sound
                )
                self._fragments[index] = fragment
                if len(self._fragments) > MAX_CACHED_FRAGMENTS:
                    self._fragments.popitem(last=False)
            return fragment

    def _frames(self, index: int) -> Iterable[Frames]:
        for number, frames in tuple(self._recent):
            if number == index:
                return frames
        if self._spool is None:
            raise MediaError(f"Chunk {index} is not on disk.")
        return self._spool.stored_frames(index)

    def _notify(self, chunk: dict[str, Any] | None = None) -> None:
        """To every client: several may show this workflow."""
        server = prompt_server()
        if server is not None:
            server.send_sync(EVENT, {"job": self.summary(), "chunk": chunk})


def _described(chunk: ChunkRecord) -> dict[str, Any]:
    """A chunk for viewers, JSON-able: JSON has no NaN."""
    finite = {name: value for name, value in chunk.stats.items() if math.isfinite(value)}
    return {"index": chunk.index, "first_frame": chunk.first_frame, "frames": chunk.frames, "stats": finite}


def _moved_to_disk(sound: AudioTrack) -> AudioTrack:
    """The same sound in an unnamed file, which is freed when nothing refers to it: an hour takes 230 MB.

    If the disk is full, it stays in memory.
    """
    try:
        Path(folder_paths.get_temp_directory()).mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder_paths.get_temp_directory()) as file:
            sound.waveform.tofile(file)
            file.flush()
            waveform = np.memmap(file, sound.waveform.dtype, "r", shape=sound.waveform.shape)
    except OSError as error:
        logging.info("AsymTalker: the sound of an ended job stays in memory: %s", error)
        return sound
    return AudioTrack(waveform, sound.sample_rate)


class LiveJobs:
    """The generations of this process that can be watched: those that run, and the last ones that ended."""

    def __init__(self) -> None:
        self._jobs: dict[str, LiveJob] = {}

    def add(self, job: LiveJob) -> None:
        """List a generation and drop the oldest of those that ended."""
        ended = [key for key, other in self._jobs.items() if other.state is not JobState.RUNNING]
        for key in ended[: max(len(ended) - MAX_ENDED + 1, 0)]:
            del self._jobs[key]
        self._jobs[job.id] = job

    def get(self, key: str) -> LiveJob | None:
        """The generation with an id, None where there is none."""
        return self._jobs.get(key)

    def all(self) -> list[LiveJob]:
        """Oldest first."""
        return list(self._jobs.values())


JOBS = LiveJobs()


@contextmanager
def watchable(job: LiveJob) -> Iterator[LiveJob]:
    """List ``job`` while it runs and for a while afterwards."""
    JOBS.add(job)
    try:
        yield job
    except InterruptProcessingException:
        _end_early(job, JobState.STOPPED)
        raise
    except BaseException as error:
        _end_early(job, JobState.FAILED, encodable(str(error) or type(error).__name__)[:MAX_ERROR_CHARACTERS])
        raise
    job.end(JobState.FINISHED)


def _end_early(job: LiveJob, state: JobState, error: str | None = None) -> None:
    """End ``job``, and show on its node how many chunks are done instead of the progress."""
    job.end(state, error)
    if job.num_done:
        goes_on = f"; Run resumes from chunk {job.num_done + 1}" if job.resumes else ""
        show(job.origin.node_id, f"{state} after chunk {job.num_done} of {job.num_chunks}{goes_on}")
    else:
        show(job.origin.node_id, f"{state} before the first chunk")
