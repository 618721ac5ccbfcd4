"""The Sampler's VIDEO: frames in a spool on disk behind core's video interface."""

from __future__ import annotations

import logging
import weakref
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import ClassVar

from typing_extensions import override

from ...media import (
    HELD_NAME,
    FolderBusyError,
    FolderLock,
    MediaError,
    SpoolReader,
    mark_saved,
    remove_spool,
)
from .streamed import StreamedVideo
from .video_file import Frame


@dataclass
class _Fate:
    """What becomes of a finished spool: ``keep`` is one of ``jobs.KEEP``."""

    keep: str
    saved: bool = False


class SpoolHandle:
    """Shared ownership of one spool folder in this process.

    When the last owner goes, or at exit, the folder goes too, unless its video was never saved or is to be extended.
    Other processes cannot remove it before.
    """

    _owned: ClassVar[weakref.WeakValueDictionary[Path, SpoolHandle]] = weakref.WeakValueDictionary()

    def __init__(self, folder: Path, keep: str) -> None:
        self.folder = folder
        self._fate = _Fate(keep)
        weakref.finalize(self, _let_go, FolderLock(folder, shared=True, name=HELD_NAME), self._fate)

    @classmethod
    def of(cls, folder: Path, keep: str) -> SpoolHandle:
        """The handle of ``folder``: two videos over the same finished job keep it as long as either lives."""
        handle = cls._owned.get(folder)
        if handle is None:
            handle = cls._owned[folder] = cls(folder, keep)
        handle._fate.keep = keep
        return handle

    def saved(self) -> None:
        """Note that all frames were saved, or given to the graph."""
        self._fate.saved = True
        mark_saved(self.folder)


def _let_go(hold: FolderLock, fate: _Fate) -> None:
    hold.release()
    if fate.keep == "for extending" or (fate.keep == "until saved" and not fate.saved):
        return
    try:
        remove_spool(hold.folder)
    except FolderBusyError:
        logging.debug("AsymTalker: another process still needs %s and removes it", hold.folder)
    except MediaError as error:
        logging.warning("AsymTalker: finished frames stay in %s: %s", hold.folder, error)


class SpooledVideo(StreamedVideo):
    """The Sampler's VIDEO over a finished spool."""

    def __init__(self, handle: SpoolHandle) -> None:
        super().__init__()
        self._handle = handle
        self._reader = SpoolReader(handle.folder)

    @override
    def note_saved(self) -> None:
        """The frames may go once nothing refers to them any more."""
        self._handle.saved()

    @override
    def frames(self, start: int = 0, stop: int | None = None) -> Iterator[Frame]:
        """Frames [start, stop) as uint8 [H, W, 3], in bounded memory."""
        return self._reader.frames(start, stop)

    @override
    def get_dimensions(self) -> tuple[int, int]:
        """(width, height) in pixels."""
        return self._reader.size

    @override
    def get_frame_count(self) -> int:
        """Number of frames."""
        return self._reader.num_frames

    @override
    def get_frame_rate(self) -> Fraction:
        """Frames per second."""
        return self._reader.fps
