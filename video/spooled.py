"""The Sampler's VIDEO: frames in a spool on disk behind core's video interface."""

from __future__ import annotations

import logging
import weakref
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import ClassVar

from comfy_execution.utils import get_executing_context
from typing_extensions import override

from ..host.audio import joined
from ..media import HELD_NAME, FolderBusyError, FolderLock, MediaError, SpoolReader, mark_saved, remove_spool
from ..media.audio_track import AudioTrack
from ..models.choices import Keep
from ..models.streaming import Recording
from .streamed import StreamedVideo
from .writing import Frame


@dataclass
class _Fate:
    """Whether a finished spool is kept or removed."""

    keep: Keep
    saved: bool = False


class SpoolHandle:
    """Shared ownership of one spool folder in this process.

    When the last owner goes, or at exit, the folder goes too, unless its video was never saved or is to be extended.
    Other processes cannot remove it before.
    """

    _owned: ClassVar[weakref.WeakValueDictionary[Path, SpoolHandle]] = weakref.WeakValueDictionary()

    def __init__(self, folder: Path, keep: Keep) -> None:
        self.folder = folder
        self._fate = _Fate(keep)
        weakref.finalize(self, _release, FolderLock(folder, shared=True, name=HELD_NAME), self._fate)

    @classmethod
    def of(cls, folder: Path, keep: Keep) -> SpoolHandle:
        """The handle of ``folder``: two videos over the same finished job keep it as long as either lives."""
        handle = cls._owned.get(folder)
        if handle is None:
            handle = cls._owned[folder] = cls(folder, keep)
        handle._fate.keep = keep
        return handle

    def disown(self) -> None:
        """The frames are gone. A new video of the same job gets its own handle."""
        self._owned.pop(self.folder, None)

    def saved(self) -> None:
        """Note that all frames were saved, or given to the graph."""
        self._fate.saved = True
        mark_saved(self.folder)


def _release(hold: FolderLock, fate: _Fate) -> None:
    hold.release()
    if fate.keep is Keep.FOR_EXTENDING or (fate.keep is Keep.UNTIL_SAVED and not fate.saved):
        return
    try:
        remove_spool(hold.folder)
    except FolderBusyError:
        logging.debug("AsymTalker: another process still needs %s and removes it", hold.folder)
    except MediaError as error:
        logging.warning("AsymTalker: finished frames in %s were not removed: %s", hold.folder, error)


_LOSSES: Counter[str] = Counter()
"""How often frames of a node's videos were missing or damaged, by node id."""


def losses_of_this_node() -> int:
    """A number that changes when frames of a video of the node being fingerprinted were found to be gone.

    As a node's fingerprint it makes ComfyUI drop the cached video, so that the node makes the frames again.
    """
    context = get_executing_context()
    return 0 if context is None else _LOSSES[context.node_id]


class SpooledVideo(StreamedVideo):
    """The Sampler's VIDEO over a finished spool.

    Args:
        handle: keeps the spool.
        node_id: the node that made it, which is to run again where the frames turn out to be gone.
        recordings: its sound, in order; none: it is silent.
    """

    def __init__(self, handle: SpoolHandle, node_id: str | None = None, recordings: tuple[Recording, ...] = ()) -> None:
        super().__init__()
        self._recordings = recordings
        self._handle = handle
        self._node_id = node_id
        self._reader = SpoolReader(handle.folder)

    @override
    def note_saved(self) -> None:
        """The frames may be removed once nothing refers to them."""
        self._handle.saved()

    @override
    def frames(self, start: int = 0, stop: int | None = None) -> Iterator[Frame]:
        """Frames [start, stop) as uint8 [H, W, 3], in bounded memory."""
        try:
            yield from self._reader.frames(start, stop)
        except MediaError as error:
            if not isinstance(error, FolderBusyError):
                self._handle.disown()
                if self._node_id is not None:
                    _LOSSES[self._node_id] += 1
            raise type(error)(f"video: {error}") from error

    @override
    def sound(self) -> AudioTrack | None:
        """The speech as the user gave it."""
        return joined(self._recordings)

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
