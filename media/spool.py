"""Lossless frame store on disk: written chunk by chunk while generating, resumable, read in bounded memory.

A `SpoolWriter` gives the point at which an earlier run of the same job stopped (`num_frames`, `state`) and appends from
there; a `SpoolReader` (`spool_reader`) iterates over the frames.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import queue
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType

import numpy as np

from ..models.files import sync_folder, write_bytes
from .disk import storage_error
from .errors import MediaError
from .locks import HELD_NAME, LOCK_NAME, FolderGoneError, FolderLock
from .manifest import (
    HEADER_NAME,
    MANIFEST_NAME,
    Segment,
    SpoolHeader,
    checksum,
    intact_segments,
    manifest_bytes,
    read_header,
    read_segment,
    remove_entry,
    remove_unless_plain,
)
from .segments import Compression, Frames, decode_segment, encode_segment

QUEUE_DEPTH = 1
"""Chunks that wait for the disk: `append` blocks until the previous one is written, so a crash loses no more."""

BEHIND = 0.1
"""Time spent waiting for the disk, relative to the time spent generating, above which later chunks are compressed
faster."""

_Work = tuple[Frames, bytes, dict[str, float], str]


class SpoolWriter:
    """Appends chunks to the spool in `folder`, creating it or continuing it; a context manager.

    Compression and disk writes happen in one background thread behind a bounded queue. Its errors (disk full,
    read-only folder) are raised by the next `append`, `flush` or `close`; whatever was complete before stays readable.
    Leaving the `with` block, by an exception or not, first stores the chunks already handed over.
    Raises MediaError if the folder holds another job, is being used, or cannot be written.
    """

    def __init__(self, folder: str | os.PathLike[str], header: SpoolHeader) -> None:
        self.folder = Path(folder)
        self.header = header
        self._lock = _lock_new(self.folder)
        try:
            self._segments = _prepare(self.folder, header)
            self._manifest = (self.folder / MANIFEST_NAME).open("ab", buffering=0)
        except OSError as error:
            self._lock.release()
            raise storage_error(self.folder, "preparing the folder for frames", error) from error
        except BaseException:
            self._lock.release()
            raise
        self.compression = Compression()
        self._lag = WriterLag()
        self._error: BaseException | None = None
        self._queue: queue.Queue[_Work | None] = queue.Queue(QUEUE_DEPTH)
        self._thread = threading.Thread(target=self._store_queued, name="frame-spool", daemon=True)
        self._thread.start()

    @property
    def is_exclusive(self) -> bool:
        """Whether other processes are kept out; False on a disk without locks."""
        return self._lock.is_exclusive

    @property
    def num_segments(self) -> int:
        """Chunks safely on disk."""
        return len(self._segments)

    @property
    def num_frames(self) -> int:
        """Frames safely on disk."""
        return self._segments[-1].end_frame if self._segments else 0

    @property
    def segments(self) -> tuple[Segment, ...]:
        """The chunks safely on disk."""
        return tuple(self._segments)

    def state(self, index: int) -> bytes:
        """The state given with chunk `index` (negative: from the end)."""
        return read_segment(self.folder, self._segments[index])[1]

    def stored_frames(self, index: int) -> Iterator[Frames]:
        """Frames uint8 [H, W, 3] of chunk `index`, from the disk, also while later ones are written.

        Raises MediaError when it is gone or damaged, IndexError when it is not on disk yet.
        """
        return decode_segment(read_segment(self.folder, self._segments[index])[0])

    def append(
        self, frames: Frames, state: bytes = b"", stats: Mapping[str, float] | None = None, identity: str = ""
    ) -> None:
        """Hand over the next chunk, uint8 [n, H, W, 3], not to be changed afterwards, once the one before is on disk.

        `state` is what the chunk after it needs to continue; `stats` and `identity` go into the manifest.
        """
        self._raise_error()
        array = np.ascontiguousarray(frames)
        expected = (self.header.height, self.header.width, 3)
        if array.dtype != np.uint8 or array.ndim != 4 or len(array) == 0 or array.shape[1:] != expected:
            raise MediaError(
                f"Frames must be uint8 of shape [n >= 1, {expected[0]}, {expected[1]}, 3]; got {array.dtype} of shape "
                f"{list(array.shape)}."
            )
        with self._lag.waiting():
            self._queue.join()
        self._raise_error()
        # The thread is idle now, so its settings can be changed.
        if self._lag.is_behind():
            self.compress_faster()
        self._queue.put((array, state, dict(stats or {}), identity))
        self._raise_error()

    def compress_faster(self) -> None:
        """Use more threads or a faster codec for later chunks, at the cost of cores or disk space."""
        self.compression = self.compression.faster()

    def flush(self) -> None:
        """Wait until everything handed over is on disk."""
        self._queue.join()
        self._raise_error()

    def truncate(self, num_segments: int) -> None:
        """Remove all chunks from `num_segments` on, such as a last, partial chunk that is redone with more audio."""
        self.flush()
        if not 0 <= num_segments <= len(self._segments):
            raise MediaError(f"{self.folder} has {self.num_segments} chunks; it cannot be cut back to {num_segments}.")
        dropped, self._segments = self._segments[num_segments:], self._segments[:num_segments]
        try:
            # The manifest first: a crash between the two leaves stray files, which the next opening removes.
            self._manifest.truncate(len(manifest_bytes(self._segments)))
            os.fsync(self._manifest.fileno())
            for segment in dropped:
                (self.folder / segment.file_name).unlink(missing_ok=True)
        except OSError as error:
            raise storage_error(self.folder, "removing frames", error) from error

    def adopt(self, source: Path, segments: Sequence[Segment]) -> None:
        """Add the next chunks from the spool in `source`, which is not changed.

        The files are shared where the file system has hard links, else copied. Raises MediaError if the chunks do not
        follow on the last one here, are not what `source` lists any more, are damaged, or cannot be written.
        """
        self.flush()
        with FolderLock(source, shared=True):
            first, stop = self.num_segments, self.num_segments + len(segments)
            if intact_segments(source, first, stop)[first:stop] != list(segments):
                raise MediaError(f"{source} changed while its frames were copied. Queue the job again.")
            try:
                for segment in segments:
                    _link_or_copy(source / segment.file_name, self.folder / segment.file_name)
                sync_folder(self.folder)
                self._record(segments)
            except OSError as error:
                raise storage_error(self.folder, "copying frames", error) from error

    def close(self) -> None:
        """Store what was handed over, stop the thread and release the folder. Raises the thread's error, if any."""
        if self._thread.is_alive():
            self._queue.put(None)
            self._thread.join()
        self._manifest.close()
        self._lock.release()
        self._raise_error()

    def __enter__(self) -> SpoolWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.close()
        except MediaError as storing:
            if error is None:
                raise
            # The current exception is the reason why the job ended; this one must not hide it.
            logging.getLogger(__name__).warning("%s", storing)

    def _raise_error(self) -> None:
        if isinstance(self._error, OSError):
            raise storage_error(self.folder, "storing frames", self._error) from self._error
        if self._error is not None:
            raise MediaError(f"Storing frames in {self.folder} failed: {self._error}") from self._error

    def _store_queued(self) -> None:
        while (work := self._queue.get()) is not None:
            try:
                # After an error the queue is only emptied, so that append() never blocks for good.
                if self._error is None:
                    self._store(*work)
            except BaseException as error:  # noqa: BLE001 - raised in the caller's thread by _raise_error
                self._error = error
            finally:
                del work
                self._queue.task_done()
        self._queue.task_done()

    def _store(self, frames: Frames, state: bytes, stats: dict[str, float], identity: str) -> None:
        video, codec = encode_segment(frames, self.header.fps, self.compression)
        self.compression = replace(self.compression, codec=codec)
        content = video + state
        segment = Segment(
            index=len(self._segments),
            first_frame=self.num_frames,
            frames=len(frames),
            video_bytes=len(video),
            state_bytes=len(state),
            checksum=checksum(content),
            codec=codec,
            stats=stats,
            identity=identity,
        )
        path = self.folder / segment.file_name
        write_bytes(path, content)
        self._record([segment])

    def _record(self, segments: Sequence[Segment]) -> None:
        """Add segments whose files exist to the manifest; if that fails, delete their files."""
        lines = manifest_bytes(segments)
        length = os.fstat(self._manifest.fileno()).st_size
        try:
            if self._manifest.write(lines) != len(lines):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.fsync(self._manifest.fileno())
        except BaseException:
            with contextlib.suppress(OSError):
                os.ftruncate(self._manifest.fileno(), length)
            for segment in segments:
                (self.folder / segment.file_name).unlink(missing_ok=True)
            raise
        self._segments.extend(segments)


class WriterLag:
    """Whether the writer keeps up with generation, measured by how long generation waits."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._resumed = clock()
        self._worked = self._waited = 0.0

    @contextlib.contextmanager
    def waiting(self) -> Iterator[None]:
        """Around a wait for the writer; all other time is work."""
        started = self._clock()
        self._worked += started - self._resumed
        yield
        self._resumed = self._clock()
        self._waited += self._resumed - started

    def is_behind(self) -> bool:
        """Whether too much time was spent waiting since this was last true."""
        if self._waited <= BEHIND * self._worked:
            return False
        self._worked = self._waited = 0.0
        return True


def _link_or_copy(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:
        # Another disk, a file system without links, or too many of them: a full disk fails here again.
        write_bytes(target, source.read_bytes())


def _lock_new(folder: Path) -> FolderLock:
    """Create `folder` where it is not there yet, and lock it."""
    while True:
        if folder.is_symlink():
            raise MediaError(f"{folder} is a link, which is not followed. Remove the link and queue the job again.")
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            if isinstance(error, FileExistsError) and not _is_in_the_way(Path(error.filename)):
                # Another process made and removed it while `mkdir` looked for it.
                continue
            raise storage_error(folder, "creating the folder for frames", error) from error
        try:
            return FolderLock(folder)
        except FolderGoneError:
            # Another process removed it in the meantime.
            continue


def _is_in_the_way(path: Path) -> bool:
    """Whether ``path`` is there and no folder; a link to nothing is one of these."""
    return os.path.lexists(path) and not path.is_dir()


def _prepare(folder: Path, header: SpoolHeader) -> list[Segment]:
    """Make `folder`, locked by us, a clean spool of `header`'s job; returns its segments, their content hashed."""
    remove_unless_plain(folder / HELD_NAME)
    (folder / HELD_NAME).touch()
    existing = read_header(folder)
    if existing is None:
        # No header (a new folder, or lost in a power failure): the owner of these frames is unknown.
        _remove_except(folder, {LOCK_NAME, HELD_NAME})
        write_bytes(folder / HEADER_NAME, header.to_json().encode())
        return []
    if (existing.job_id, existing.width, existing.height, existing.fps) != (
        header.job_id,
        header.width,
        header.height,
        header.fps,
    ):
        raise MediaError(
            f"{folder} holds frames of another job ({existing.job_id}, {existing.width}x{existing.height} at "
            f"{existing.fps} fps), not of {header.job_id} ({header.width}x{header.height} at {header.fps} fps). "
            "Give each job a folder of its own, or delete that folder."
        )
    if existing != header:
        write_bytes(folder / HEADER_NAME, header.to_json().encode())
    segments = intact_segments(folder)
    intact = manifest_bytes(segments)
    path = folder / MANIFEST_NAME
    remove_unless_plain(path)
    if not path.exists() or path.read_bytes() != intact:
        write_bytes(path, intact)
    listed = {segment.file_name for segment in segments}
    _remove_except(folder, {LOCK_NAME, HELD_NAME, HEADER_NAME, MANIFEST_NAME, *listed})
    return segments


def _remove_except(folder: Path, keep: set[str]) -> None:
    for entry in list(folder.iterdir()):
        if entry.name not in keep:
            try:
                remove_entry(entry)
            except OSError as error:
                # Files of network disks and NAS systems (.nfs..., @eaDir) are harmless.
                logging.getLogger(__name__).info("%s is not removed: %s", entry, error)
    sync_folder(folder)
