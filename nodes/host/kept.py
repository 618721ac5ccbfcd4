"""The frames that jobs have left on disk: a listing for people, and removal."""

from __future__ import annotations

import time

from ...media import SpoolInfo, list_spools, remove_spool
from ...media.errors import format_bytes
from .jobs import MAX_SPOOL_BYTES, spool_root
from .progress import duration

ID_LENGTH = 8
ALL = "all"
FINISHED = "finished"


def kept_jobs(remove: str) -> str:
    """List what is kept, after removing what ``remove`` names: ids, ``finished`` or ``all``, separated by commas.

    Raises:
        ValueError: an id that is not there, or means several jobs; nothing is removed then.
        FolderBusyError: a named job is being worked on, or its video is in use.
    """
    spools = list_spools(spool_root())
    words = [word.strip().lower() for word in remove.split(",") if word.strip()]
    for spool in [found for word in words for found in _named(word, spools)]:
        remove_spool(spool.folder)
    return _table(list_spools(spool_root()) if words else spools)


def _named(word: str, spools: list[SpoolInfo]) -> list[SpoolInfo]:
    if word == ALL:
        return [spool for spool in spools if not spool.in_use]
    if word == FINISHED:
        return [spool for spool in spools if _is_finished(spool) and not spool.in_use]
    found = [spool for spool in spools if spool.folder.name.startswith(word)]
    if len(found) != 1:
        raise ValueError(
            f"remove: {len(found)} kept jobs have an id that begins with {word!r}; give an id of the list, "
            f"`{FINISHED}` or `{ALL}`, or leave it empty to remove nothing"
        )
    return found


def _table(spools: list[SpoolInfo]) -> str:
    total = sum(spool.num_bytes for spool in spools)
    summary = f"{len(spools)} kept, {format_bytes(total)} of at most {format_bytes(MAX_SPOOL_BYTES)} in {spool_root()}"
    # The newest first: that is what one looks for.
    return "\n".join([summary, *(_line(spool) for spool in reversed(spools))])


def _line(spool: SpoolInfo) -> str:
    what, progress = "unknown", f"{spool.num_frames} frames"
    if spool.header is not None:
        metadata, fps = spool.header.metadata, float(spool.header.fps)
        what = f"{metadata['model']} {spool.header.width}x{spool.header.height}, seed {metadata['seed']}"
        share = spool.num_frames / metadata["num_frames"]
        progress = f"{spool.num_frames / fps:.1f} of {metadata['num_frames'] / fps:.1f} s ({share:.0%})"
    state = "finished" if _is_finished(spool) else "unfinished"
    if spool.in_use:
        state += ", in use"
    age = f"{duration(max(0.0, time.time() - spool.modified))} old"
    return " | ".join((spool.folder.name[:ID_LENGTH], state, what, progress, format_bytes(spool.num_bytes), age))


def _is_finished(spool: SpoolInfo) -> bool:
    return spool.header is not None and spool.num_frames >= spool.header.metadata["num_frames"]
