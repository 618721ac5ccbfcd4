"""The description of a spool folder: its header, and one line per complete segment.

    job.json          the header
    manifest.jsonl    one JSON object per complete segment, in order
    000000.segment    compressed frames, then the opaque state that the next chunk needs
    lock              held by processes that write, read or remove the spool
    saved             there once a finished video was saved from these frames
    held              held (shared) by processes in which a finished video still refers to the spool

A segment exists once its manifest line is on disk, and the line is written only after the segment's own bytes are: so
the readable part is always a prefix of whole chunks, wherever the writer was stopped.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import stat
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from fractions import Fraction
from itertools import takewhile
from pathlib import Path
from typing import Any, cast

from ..models.rates import FPS
from ..models.record import ChunkRecord
from .disk import storage_error
from .errors import MediaError
from .segments import CODECS, Codec

HEADER_NAME = "job.json"
MANIFEST_NAME = "manifest.jsonl"
SAVED_NAME = "saved"
SEGMENT_SUFFIX = ".segment"
FORMAT_VERSION = 1

MAX_SIDE = 1 << 16
MAX_FPS = 1000
MAX_HEADER_BYTES = 1 << 20
MAX_MANIFEST_BYTES = 1 << 28
MAX_SEGMENT_BYTES = 1 << 31
_HASH_BLOCK = 1 << 20
HASHING_THREADS = 4

# No exponents: 1e9999999 takes minutes to become a fraction.
_RATE = re.compile(r"[0-9]{1,9}(/[0-9]{1,9})?")

_NOT_READABLE = (ValueError, TypeError, KeyError, AttributeError, ArithmeticError, RecursionError, MediaError)
"""What parsing content of any kind raises: wrong types, a rate of 0/0, nesting without end."""


@dataclass(frozen=True)
class SpoolHeader:
    """Which job a spool belongs to. Two spools hold the same frames exactly if their `job_id` is the same.

    `job_id` is a hash, by the caller, of everything that changes frames; `metadata` is any JSON-able mapping.
    """

    job_id: str
    width: int
    height: int
    fps: Fraction = Fraction(FPS)
    metadata: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not isinstance(self.job_id, str) or not self.job_id:
            raise MediaError("A spool needs a job id: a hash of everything that changes its frames.")
        if not (is_whole(self.width, 2, MAX_SIDE) and is_whole(self.height, 2, MAX_SIDE)):
            raise MediaError(
                f"Frames of {self.width}x{self.height} cannot be stored: both sides must be at least 2 and at most "
                f"{MAX_SIDE}."
            )
        if not isinstance(self.fps, Fraction) or not 0 < self.fps <= MAX_FPS:
            raise MediaError(
                f"{self.fps} frames per second cannot be stored: the rate must be above 0 and at most {MAX_FPS}."
            )
        if not isinstance(self.metadata, Mapping) or not all(map(_is_plain, self.metadata.values())):
            raise MediaError("The metadata of a spool must be a mapping of names to texts and numbers.")

    def to_json(self) -> str:
        """The content of job.json."""
        fields = {**asdict(self), "fps": str(self.fps), "metadata": dict(self.metadata), "version": FORMAT_VERSION}
        return json.dumps(fields, indent=1, sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> SpoolHeader:
        """Parse job.json. Raises one of `_NOT_READABLE` on anything else."""
        fields = _parse(text)
        if fields["version"] != FORMAT_VERSION:
            raise ValueError(f"spool format {fields['version']}, this version reads {FORMAT_VERSION}")
        if not _RATE.fullmatch(fields["fps"]):
            raise ValueError(f"{fields['fps']} is not a frame rate as this version writes it")
        return cls(fields["job_id"], fields["width"], fields["height"], Fraction(fields["fps"]), fields["metadata"])


@dataclass(frozen=True, kw_only=True)
class Segment(ChunkRecord):
    """One stored chunk: `video_bytes` of compressed frames followed by `state_bytes` of state in one file.

    `identity` is a hash, by the caller, of everything that this chunk and those before it depend on: chunks of two
    spools with the same identity hold the same frames. Empty where the caller gave none.
    """

    video_bytes: int
    state_bytes: int
    checksum: str
    codec: Codec
    identity: str = ""
    # The time that it took is not stored.
    seconds: dict[str, float] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        counts = (self.index, 0), (self.first_frame, 0), (self.frames, 1), (self.video_bytes, 1), (self.state_bytes, 0)
        if not all(is_whole(count, least, MAX_SEGMENT_BYTES) for count, least in counts):
            raise MediaError(f"Segment {self.index} has invalid counts: {[count for count, _ in counts]}.")
        if not isinstance(self.checksum, str) or not isinstance(self.identity, str) or self.codec not in CODECS:
            raise MediaError(f"Segment {self.index} has an invalid hash, identity or codec.")
        if not isinstance(self.stats, dict) or not all(map(_is_number, self.stats.values())):
            raise MediaError(f"Segment {self.index} has statistics that are not numbers.")

    @property
    def file_name(self) -> str:
        """Its file in the spool's folder."""
        return f"{self.index:06d}{SEGMENT_SUFFIX}"

    @property
    def num_bytes(self) -> int:
        """Size of its file."""
        return self.video_bytes + self.state_bytes

    def to_line(self) -> bytes:
        """Its line in the manifest, newline included."""
        values = asdict(self)
        del values["seconds"]
        return (json.dumps(values) + "\n").encode()


def is_whole(value: Any, least: int, most: int) -> bool:
    """Whether `value` is an integer (no float, no bool) of `least` to `most`."""
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most


def checksum(data: bytes) -> str:
    """Hash of a segment file's content."""
    return hashlib.blake2b(data, digest_size=16).hexdigest()


def read_header(folder: Path) -> SpoolHeader | None:
    """The header of the spool in `folder`; None if there is none, or none that fits this version.

    Raises MediaError when the disk or its permissions keep it from being read.
    """
    try:
        return SpoolHeader.from_json(_read_file(folder / HEADER_NAME, MAX_HEADER_BYTES).decode())
    except (FileNotFoundError, NotADirectoryError, *_NOT_READABLE):
        return None
    except OSError as error:
        raise storage_error(folder, "reading a spool", error) from error


def read_segment(folder: Path, segment: Segment) -> tuple[bytes, bytes]:
    """(compressed frames, state) of a segment. Raises MediaError if the file is missing or damaged."""
    try:
        data = _read_file(folder / segment.file_name, MAX_SEGMENT_BYTES)
    except OSError as error:
        raise MediaError(
            f"Frames {segment.first_frame} to {segment.end_frame - 1} are gone: {folder / segment.file_name} cannot be "
            f"read ({error.strerror}). Queue the job again to regenerate them."
        ) from error
    except ValueError as error:
        raise _damaged(folder, segment) from error
    if len(data) != segment.num_bytes or checksum(data) != segment.checksum:
        raise _damaged(folder, segment)
    return data[: segment.video_bytes], data[segment.video_bytes :]


def complete_segments(folder: Path) -> list[Segment]:
    """The whole chunks of a spool, in order: the longest prefix whose manifest lines and files are intact.

    Sizes are checked for every file and content for the last, the only one a crash can have torn: an hour of video
    must not be read in full to list it. Code that relies on the content hashes it first (`intact_segments`).
    """
    whole = list(takewhile(lambda one: _file_size(folder / one.file_name) == one.num_bytes, _parse_manifest(folder)))
    while whole and not is_intact(folder, whole[-1]):
        whole.pop()
    return whole


def intact_segments(folder: Path, start: int = 0, stop: int | None = None) -> list[Segment]:
    """`complete_segments`, cut before the first of chunks [start, stop) whose content is not what was written."""
    segments = complete_segments(folder)
    chosen = segments[start:stop]
    # Hashing releases Python's lock, and a single thread is slower than the disk.
    with ThreadPoolExecutor(HASHING_THREADS) as threads:
        for segment, intact in zip(chosen, threads.map(lambda one: is_intact(folder, one), chosen), strict=True):
            if not intact:
                return segments[: segment.index]
    return segments


def is_intact(folder: Path, segment: Segment) -> bool:
    """Whether a segment's file holds what was written, read in small blocks."""
    path, digest = folder / segment.file_name, hashlib.blake2b(digest_size=16)
    if _file_size(path) != segment.num_bytes:
        return False
    try:
        with path.open("rb") as file:
            while block := file.read(_HASH_BLOCK):
                digest.update(block)
    except OSError:
        return False
    return digest.hexdigest() == segment.checksum


def manifest_bytes(segments: Sequence[Segment]) -> bytes:
    """The manifest that lists exactly `segments`."""
    return b"".join(segment.to_line() for segment in segments)


def remove_entry(path: Path) -> None:
    """Delete a file, a link (not what it points to) or a folder with all in it. Raises OSError."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


def remove_unless_plain(path: Path) -> None:
    """Delete anything but a plain file in a file's place: a link, a folder, a pipe. Raises OSError."""
    if os.path.lexists(path) and _file_size(path) < 0:
        remove_entry(path)


def _parse_manifest(folder: Path) -> list[Segment]:
    try:
        content = _read_file(folder / MANIFEST_NAME, MAX_MANIFEST_BYTES)
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return []
    except OSError as error:
        raise storage_error(folder, "reading a spool", error) from error
    segments: list[Segment] = []
    # A line without its newline was cut short by a crash; nothing after a bad line can be trusted.
    for line in content.split(b"\n")[:-1]:
        try:
            segment = Segment(**_parse(line))
        except _NOT_READABLE:
            break
        if segment.index != len(segments) or segment.first_frame != (segments[-1].end_frame if segments else 0):
            break
        segments.append(segment)
    return segments


def _parse(text: str | bytes) -> dict[str, Any]:
    fields = json.loads(text)
    if not isinstance(fields, dict):
        raise ValueError(f"an object is needed, this is a {type(fields).__name__}")
    return cast("dict[str, Any]", fields)


def _read_file(path: Path, max_bytes: int) -> bytes:
    """Content of a plain file; a link is not followed. Raises OSError, or ValueError for anything else or larger."""
    status = path.lstat()
    if not stat.S_ISREG(status.st_mode) or status.st_size > max_bytes:
        raise ValueError(f"{path} is not a plain file of at most {max_bytes} bytes")
    return path.read_bytes()


def _file_size(path: Path) -> int:
    """Size of a plain file, -1 for anything else."""
    try:
        status = path.lstat()
    except OSError:
        return -1
    return status.st_size if stat.S_ISREG(status.st_mode) else -1


def _is_number(value: Any) -> bool:
    return isinstance(value, float) or is_whole(value, -MAX_SEGMENT_BYTES, MAX_SEGMENT_BYTES)


def _is_plain(value: Any) -> bool:
    return value is None or isinstance(value, (bool, int, float, str))


def _damaged(folder: Path, segment: Segment) -> MediaError:
    return MediaError(
        f"{folder / segment.file_name} is damaged (frames {segment.first_frame} to {segment.end_frame - 1}). "
        "Queue the job again to regenerate them."
    )
