"""Frames on disk and muxing: bounded memory, resumable, every output complete or absent.

`spool` stores generated RGB frames losslessly, chunk by chunk; `housekeeping` lists, sizes and removes such stores;
`disk` checks disk space before a job starts; `mux` turns frames and audio into an mp4.
"""

from .disk import check_disk
from .errors import MediaError
from .housekeeping import (
    SpoolInfo,
    enforce_cap,
    estimate_spool_bytes,
    has_frames,
    is_job_name,
    list_spools,
    mark_saved,
    remove_spool,
    spool_bytes,
)
from .locks import HELD_NAME, FolderBusyError, FolderGoneError, FolderLock
from .manifest import Segment, SpoolHeader
from .mux import EncodedVideo, encode_video
from .spool import SpoolWriter
from .spool_reader import SpoolReader

__all__ = [
    "HELD_NAME",
    "EncodedVideo",
    "FolderBusyError",
    "FolderGoneError",
    "FolderLock",
    "MediaError",
    "Segment",
    "SpoolHeader",
    "SpoolInfo",
    "SpoolReader",
    "SpoolWriter",
    "check_disk",
    "encode_video",
    "enforce_cap",
    "estimate_spool_bytes",
    "has_frames",
    "is_job_name",
    "list_spools",
    "mark_saved",
    "remove_spool",
    "spool_bytes",
]
