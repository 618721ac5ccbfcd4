"""The frames that jobs have left on disk: a listing for people, and removal."""

from __future__ import annotations

import logging
import time

from ...media import FolderBusyError, MediaError, SpoolInfo, is_job_name, list_spools, remove_spool
from ...media.errors import format_bytes
from .jobs import MAX_SPOOL_BYTES, JobRecord, spool_root
from .messages import counted, encodable, quoted
from .progress import duration

ID_LENGTH = 8
MAX_NAME = 80
ALL = "all"
FINISHED = "finished"


def kept_jobs(remove: str) -> str:
    """List what is kept, after removing what ``remove`` names: ids, ``finished`` or ``all``, separated by commas.

    What cannot be removed is named under the list, and all else is.

    Raises:
        ValueError: an id that is not there, or means several jobs.
        FolderBusyError: a named job is being worked on, or its video is in use. Nothing is removed in either case.
    """
    spools = list_spools(spool_root())
    words = [word.strip().lower() for word in remove.split(",") if word.strip()]
    chosen = {spool.folder: spool for word in words for spool in _named(word, spools)}
    failures = list(filter(None, map(_remove, chosen.values())))
    # Names of files need not be text, which ComfyUI's own messages must be.
    return encodable("\n".join([_table(list_spools(spool_root()) if words else spools), *failures]))


def _remove(spool: SpoolInfo) -> str:
    """Remove one spool; why it stays, if it does."""
    try:
        remove_spool(spool.folder)
    except MediaError as error:
        logging.warning("AsymTalker: a kept job stays: %s", error)
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


def _table(spools: list[SpoolInfo]) -> str:
    total = sum(spool.num_bytes for spool in spools)
    summary = f"{len(spools)} kept, {format_bytes(total)} of at most {format_bytes(MAX_SPOOL_BYTES)} in {spool_root()}"
    # The newest first: that is what one looks for.
    return "\n".join([summary, *(_line(spool) for spool in reversed(spools))])


def _line(spool: SpoolInfo) -> str:
    record = JobRecord.of(spool)
    if spool.header is None or record is None:
        state, what = "unknown", spool.problem or "its description does not fit this version"
        progress = counted(spool.num_frames, "frame")
    else:
        state, fps = "finished" if _is_finished(spool) else "unfinished", float(spool.header.fps)
        what = f"{record.model[:MAX_NAME]} {spool.header.width}x{spool.header.height}, seed {record.seed}"
        share = spool.num_frames / record.num_frames
        progress = f"{spool.num_frames / fps:.1f} of {record.num_frames / fps:.1f} s ({share:.0%})"
    if spool.in_use:
        state += ", in use"
    age = f"{duration(max(0.0, time.time() - spool.modified))} old"
    return " | ".join((_name(spool), state, what, progress, format_bytes(spool.num_bytes), age))


def _name(spool: SpoolInfo) -> str:
    """Its id: enough of a job's hash to identify it, and all of any other name."""
    name = spool.folder.name
    return name[:ID_LENGTH] if is_job_name(name) else name


def _is_finished(spool: SpoolInfo) -> bool:
    record = JobRecord.of(spool)
    return record is not None and spool.num_frames >= record.num_frames
