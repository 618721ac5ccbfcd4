"""What a spool folder says about itself: its header, and one line per complete segment.

    job.json          the header
    manifest.jsonl    one JSON object per complete segment, in order
    000000.segment    compressed frames, then the opaque state that the next chunk needs
    lock              held by whoever writes, reads or removes the spool
    saved             there once a finished video was saved from these frames
    held              held (shared) by processes in which a finished video still refers to the spool

A segment exists once its manifest line is on disk, and the line is written only after the segment's own bytes are: so
the readable part is always a prefix of whole chunks, wherever the writer was stopped.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

from .errors import MediaError, storage_error

HEADER_NAME = "job.json"
MANIFEST_NAME = "manifest.jsonl"
SAVED_NAME = "saved"
SEGMENT_SUFFIX = ".segment"
TEMPORARY_SUFFIX = ".part"
FORMAT_VERSION = 1


@dataclass(frozen=True)
class SpoolHeader:
    """Which job a spool belongs to. Two spools hold the same frames exactly if their `job_id` is the same.

    `job_id` is a hash, by the caller, of everything that changes frames; `metadata` is any JSON-able mapping.
    """

    job_id: str
    width: int
    height: int
    fps: Fraction = Fraction(25)
    metadata: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.job_id:
            raise MediaError("A spool needs a job id: a hash of everything that changes its frames.")
        if min(self.width, self.height) < 2:
            raise MediaError(f"Frames of {self.width}x{self.height} cannot be stored: both sides must be at least 2.")
        if self.fps <= 0:
            raise MediaError(f"{self.fps} frames per second cannot be stored: the rate must be positive.")

    def to_json(self) -> str:
        """The content of job.json."""
        fields = {**asdict(self), "fps": str(self.fps), "metadata": dict(self.metadata), "version": FORMAT_VERSION}
        return json.dumps(fields, indent=1, sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> SpoolHeader:
        """Parse job.json. Raises ValueError or KeyError on anything else."""
        fields = json.loads(text)
        if fields["version"] != FORMAT_VERSION:
            raise ValueError(f"spool format {fields['version']}, this version reads {FORMAT_VERSION}")
        return cls(fields["job_id"], fields["width"], fields["height"], Fraction(fields["fps"]), fields["metadata"])


@dataclass(frozen=True)
class Segment:
    """One complete chunk: `video_bytes` of compressed frames followed by `state_bytes` of state in one file.

    `identity` is a hash, by the caller, of everything that this chunk and those before it depend on: chunks of two
    spools with the same identity hold the same frames. Empty where the caller gave none.
    """

    index: int
    first_frame: int
    frames: int
    video_bytes: int
    state_bytes: int
    checksum: str
    codec: str
    stats: dict[str, float]
    identity: str = ""

    @property
    def file_name(self) -> str:
        """Its file in the spool's folder."""
        return f"{self.index:06d}{SEGMENT_SUFFIX}"

    @property
    def end_frame(self) -> int:
        """One past the last frame."""
        return self.first_frame + self.frames

    def to_line(self) -> bytes:
        """Its line in the manifest, newline included."""
        return (json.dumps(asdict(self)) + "\n").encode()


def checksum(data: bytes) -> str:
    """Hash of a segment file's content."""
    return hashlib.blake2b(data, digest_size=16).hexdigest()


def read_header(folder: Path) -> SpoolHeader | None:
    """The header of the spool in `folder`; None if there is none, or none that can be read."""
    try:
        return SpoolHeader.from_json((folder / HEADER_NAME).read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError, ValueError, KeyError, TypeError):
        return None
    except OSError as error:
        raise storage_error(folder, "reading a spool", error) from error


def read_segment(folder: Path, segment: Segment) -> tuple[bytes, bytes]:
    """(compressed frames, state) of a segment. Raises MediaError if the file is missing or damaged."""
    try:
        data = (folder / segment.file_name).read_bytes()
    except OSError as error:
        raise MediaError(
            f"Frames {segment.first_frame} to {segment.end_frame - 1} are gone: {folder / segment.file_name} cannot be "
            f"read ({error.strerror}). Queue the job again to generate them anew."
        ) from error
    if len(data) != segment.video_bytes + segment.state_bytes or checksum(data) != segment.checksum:
        raise MediaError(
            f"{folder / segment.file_name} is damaged (frames {segment.first_frame} to {segment.end_frame - 1}). "
            f"Delete the folder {folder} and queue the job again."
        )
    return data[: segment.video_bytes], data[segment.video_bytes :]


def complete_segments(folder: Path) -> list[Segment]:
    """The whole chunks of a spool, in order: the longest prefix whose manifest lines and files are intact.

    Sizes are checked for every file and content for the last, the only one a crash can have torn: an hour of video
    must not be read in full to continue it (readers check each segment's content as they reach it).
    """
    segments = [
        segment for segment in _parse_manifest(folder) if _file_size(folder, segment.file_name) == _total(segment)
    ]
    whole: list[Segment] = []
    for segment in segments:
        if segment.index != len(whole):
            break
        whole.append(segment)
    while whole:
        try:
            read_segment(folder, whole[-1])
            break
        except MediaError:
            whole.pop()
    return whole


def manifest_bytes(segments: Sequence[Segment]) -> bytes:
    """The manifest that lists exactly `segments`."""
    return b"".join(segment.to_line() for segment in segments)


def sync_folder(folder: Path) -> None:
    """Make renames and removals in `folder` survive power loss (Windows does so on its own)."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_atomically(path: Path, data: bytes) -> None:
    """Write, sync and rename, so that `path` has the old content or the new, never a part. Raises OSError."""
    temporary = path.with_name(path.name + TEMPORARY_SUFFIX)
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        sync_folder(path.parent)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _parse_manifest(folder: Path) -> list[Segment]:
    try:
        content = (folder / MANIFEST_NAME).read_bytes()
    except FileNotFoundError:
        return []
    except OSError as error:
        raise storage_error(folder, "reading a spool", error) from error
    segments: list[Segment] = []
    # A line without its newline was cut short by a crash; nothing after a bad line can be trusted.
    for line in content.split(b"\n")[:-1]:
        try:
            segment = Segment(**json.loads(line))
        except (ValueError, TypeError):
            break
        if segment.index != len(segments) or segment.first_frame != (segments[-1].end_frame if segments else 0):
            break
        segments.append(segment)
    return segments


def _total(segment: Segment) -> int:
    return segment.video_bytes + segment.state_bytes


def _file_size(folder: Path, name: str) -> int:
    try:
        return (folder / name).stat().st_size
    except FileNotFoundError:
        return -1
