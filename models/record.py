"""The record of a finished chunk, used when it is generated, stored, shown to a viewer, or listed in a report."""

from __future__ import annotations

from dataclasses import dataclass, field

REGENERATED, COLLAPSED = "regenerated", "collapsed"
"""Figures that are 1 for a chunk whose first attempt collapsed, or whose second attempt did too."""


@dataclass(frozen=True, kw_only=True)
class ChunkRecord:
    """Chunk ``index`` of a video: ``frames`` new frames, the first of them frame ``first_frame``.

    ``stats`` holds figures (see ``drift``): ``reference_distance``, ``color_distance`` (what the correction had to
    move), ``sharpness``, ``motion``, and ``seam`` where the same run made the chunk before. ``seconds`` holds wall time
    per stage of a chunk that this run made, and is empty for others.
    """

    index: int
    first_frame: int
    frames: int
    stats: dict[str, float]
    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def end_frame(self) -> int:
        """One past the last frame."""
        return self.first_frame + self.frames

    @property
    def is_regenerated(self) -> bool:
        """Whether the first attempt collapsed."""
        return REGENERATED in self.stats
