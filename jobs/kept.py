"""The frames that jobs have left on disk: a list for users, and removal."""

from __future__ import annotations

import base64
import io
import logging
import time
from dataclasses import dataclass
from typing import Any

from PIL import Image

from ..host.messages import counted, encodable, quoted
from ..host.progress import duration
from ..media import FolderBusyError, MediaError, SpoolInfo, SpoolReader, is_job_name, list_spools, remove_spool
from ..media.disk import format_bytes
from .job import MAX_SPOOL_BYTES, JobRecord, spool_root

ID_LENGTH = 8
MAX_NAME = 80
MAX_PICTURES, PICTURE_SIZE = 24, 64
"""How many of the newest jobs get a picture, and its longer side in pixels."""
ALL = "all"
FINISHED = "finished"


@dataclass(frozen=True)
class KeptJob:
    """One entry of the list, in words; ``id`` is what `remove` takes, ``picture`` a data URI or empty."""

    id: str
    state: str
    description: str
    progress: str
    size: str
    age: str
    date: str
    in_use: bool
    picture: str = ""

    @property
    def line(self) -> str:
        """As text."""
        return " | ".join((self.id, self.state, self.description, self.progress, self.size, f"{self.age} old"))


@dataclass(frozen=True)
class KeptJobs:
    """What is on disk, newest first, and what could not be removed."""

    summary: str
    jobs: tuple[KeptJob, ...]
    failures: tuple[str, ...]

    @property
    def text(self) -> str:
        """One job a line. Names of files need not be text, which ComfyUI's own messages must be."""
        return encodable("\n".join([self.summary, *(job.line for job in self.jobs), *self.failures]))

    def table(self) -> dict[str, Any]:
        """For the table on the node."""
        return {
            "summary": encodable(self.summary),
            "jobs": [
                {name: encodable(value) if isinstance(value, str) else value for name, value in vars(job).items()}
                for job in self.jobs
            ],
            "failures": [encodable(failure) for failure in self.failures],
        }


def kept_jobs(remove: str) -> KeptJobs:
    """List what is kept, after removing what ``remove`` names: ids, ``finished`` or ``all``, separated by commas.

    What cannot be removed is named under the list, and all else is.

    Raises:
        ValueError: an id that is not there, or means several jobs.
        FolderBusyError: a named job is being worked on, or its video is in use. Nothing is removed in either case.
    """
    spools = list_spools(spool_root())
    words = [word.strip().lower() for word in remove.split(",") if word.strip()]
    chosen = {spool.folder: spool for word in words for spool in _named(word, spools)}
    failures = tuple(filter(None, map(_remove, chosen.values())))
    left = list_spools(spool_root()) if words else spools
    total = sum(spool.num_bytes for spool in left)
    summary = f"{len(left)} kept, {format_bytes(total)} of at most {format_bytes(MAX_SPOOL_BYTES)} in {spool_root()}"
    # Newest first.
    newest = enumerate(reversed(left))
    return KeptJobs(summary, tuple(_job(spool, number < MAX_PICTURES) for number, spool in newest), failures)


def _remove(spool: SpoolInfo) -> str:
    """Remove one spool; returns why it was not removed, or an empty text."""
    try:
        remove_spool(spool.folder)
    except MediaError as error:
        logging.warning("AsymTalker: a kept job was not removed: %s", error)
        return f"{_name(spool)} was not removed: {error}"
    return ""


def _named(word: str, spools: list[SpoolInfo]) -> list[SpoolInfo]:
    if word == ALL:
        return [spool for spool in spools if not spool.in_use]
    if word == FINISHED:
        return [spool for spool in spools if _is_finished(spool) and not spool.in_use]
    found = [spool for spool in spools if spool.folder.name.lower().startswith(word)]
    if len(found) != 1:
        which = f"{len(found)} kept jobs have ids that begin" if found else "no kept job has an id that begins"
        raise ValueError(
            f"remove: {which} with {quoted(word)}; give an id from the list, `{FINISHED}` or `{ALL}`, or leave it "
            "empty to remove nothing"
        )
    if found[0].in_use:
        raise FolderBusyError(
            f"remove: {word} is in use; wait until its job has finished and its video is released, then try again"
        )
    return found


def _job(spool: SpoolInfo, with_picture: bool) -> KeptJob:
    record = JobRecord.of(spool)
    if spool.header is None or record is None:
        state, what = "unknown", spool.problem or "its description does not fit this version"
        progress = counted(spool.num_frames, "frame")
    else:
        state, fps = "finished" if _is_finished(spool) else "unfinished", float(spool.header.fps)
        what = f"{record.model[:MAX_NAME]} {spool.header.width}x{spool.header.height}, seed {record.seed}"
        share = spool.num_frames / record.num_frames
        progress = f"{spool.num_frames / fps:.1f} of {record.num_frames / fps:.1f} s ({share:.0%})"
    return KeptJob(
        id=_name(spool),
        state=f"{state}, in use" if spool.in_use else state,
        description=what,
        progress=progress,
        size=format_bytes(spool.num_bytes),
        age=duration(max(0.0, time.time() - spool.modified)),
        date=time.strftime("%Y-%m-%d %H:%M", time.localtime(spool.modified)),
        in_use=spool.in_use,
        picture=_picture(spool) if with_picture and state != "unknown" and spool.num_frames else "",
    )


def _picture(spool: SpoolInfo) -> str:
    """A thumbnail of the first frame as a data URI; empty if it cannot be read, such as while a job is written."""
    try:
        frame = next(SpoolReader(spool.folder).frames(0, 1))
    except (MediaError, StopIteration):
        return ""
    image = Image.fromarray(frame)
    image.thumbnail((PICTURE_SIZE, PICTURE_SIZE))
    data = io.BytesIO()
    image.save(data, "JPEG", quality=80)
    return f"data:image/jpeg;base64,{base64.b64encode(data.getvalue()).decode()}"


def _name(spool: SpoolInfo) -> str:
    """Its id: enough of a job's hash to identify it, and all of any other name."""
    name = spool.folder.name
    return name[:ID_LENGTH] if is_job_name(name) else name


def _is_finished(spool: SpoolInfo) -> bool:
    record = JobRecord.of(spool)
    return record is not None and spool.num_frames >= record.num_frames
