"""The frames of a spool, read in bounded memory."""

from __future__ import annotations

import os
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

from .errors import MediaError
from .locks import FolderLock
from .manifest import Segment, SpoolHeader, complete_segments, read_header, read_segment
from .segments import Frames, decode_segment


class SpoolReader:
    """The frames of a spool as they were when it was opened. Raises MediaError if `folder` holds no spool."""

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(folder)
        header = read_header(self.folder)
        if header is None:
            raise MediaError(f"{self.folder} holds no stored frames. Queue the job again to generate them.")
        self.header: SpoolHeader = header
        self.segments: tuple[Segment, ...] = tuple(complete_segments(self.folder))

    @property
    def num_frames(self) -> int:
        """Frames in complete chunks."""
        return self.segments[-1].end_frame if self.segments else 0

    @property
    def fps(self) -> Fraction:
        """Frames per second."""
        return self.header.fps

    @property
    def size(self) -> tuple[int, int]:
        """(width, height)."""
        return self.header.width, self.header.height

    def state(self, index: int) -> bytes:
        """The state given with chunk `index` (negative: from the end)."""
        return read_segment(self.folder, self.segments[index])[1]

    def frames(self, start: int = 0, stop: int | None = None) -> Iterator[Frames]:
        """Frames [start, stop) as uint8 [H, W, 3], one at a time; one compressed chunk is in memory.

        Raises MediaError when the range is not there, a chunk is damaged, or the spool is being written.
        """
        stop = self.num_frames if stop is None else stop
        if not 0 <= start <= stop <= self.num_frames:
            raise MediaError(f"Frames {start} to {stop} were requested, but {self.folder} has {self.num_frames}.")
        return self._read(start, stop)

    def _read(self, start: int, stop: int) -> Iterator[Frames]:
        with FolderLock(self.folder, shared=True):
            for segment in self.segments:
                if segment.end_frame <= start:
                    continue
                if segment.first_frame >= stop:
                    return
                video, _ = read_segment(self.folder, segment)
                count = 0
                for count, frame in enumerate(decode_segment(video), start=1):
                    number = segment.first_frame + count - 1
                    if number >= stop:
                        return
                    if number >= start:
                        yield frame
                if count != segment.frames:
                    raise MediaError(
                        f"{self.folder / segment.file_name} decodes to {count} frames instead of {segment.frames}. "
                        f"Delete the folder {self.folder} and queue the job again."
                    )
