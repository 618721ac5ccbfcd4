"""The chunks of a video: which frames they cover, and how each continues the one before."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from .choices import Choice
from .config import ConfigError

MAX_CONTINUITY_LATENTS = 4


class Carry(Choice):
    """How a chunk's tail becomes the next one's continuity."""

    PIXELS = "pixels"
    """The last frames are encoded again after colour correction, as the checkpoints were trained."""
    LATENTS = "latents"
    """The last latents are used unchanged: faster, drifts sooner."""


@dataclass(frozen=True)
class ContinuityOptions:
    """How a chunk continues the previous one.

    ``latents`` is the number of latent frames, 1..4; ``color_strength`` 0..1 moves each frame's Lab statistics to the
    portrait's. ``carry`` may be given as its text.
    """

    carry: Carry = Carry.PIXELS
    color_strength: float = 1.0
    latents: int = 2

    def __post_init__(self) -> None:
        object.__setattr__(self, "carry", Carry.parse(self.carry, "carry"))
        if not 0 <= self.color_strength <= 1:
            raise ConfigError(f"color_strength must be 0..1, got {self.color_strength}")
        if not 1 <= self.latents <= MAX_CONTINUITY_LATENTS:
            raise ConfigError(f"continuity latents must be 1..{MAX_CONTINUITY_LATENTS}, got {self.latents}")


@dataclass(frozen=True)
class ContinuityState:
    """The state before chunk ``chunk_index``: ``latents`` [1, C, n, h, w] become its first latent frames."""

    chunk_index: int
    latents: Tensor


def continuity_frames(latents: int, stride_t: int) -> int:
    """Pixel frames of ``latents`` continuity latents: the first frame alone, then ``stride_t`` each."""
    return (latents - 1) * stride_t + 1


@dataclass(frozen=True)
class ChunkSpan:
    """Chunk ``index`` covers video frames from ``start``; the first ``overlap`` of them belong to the chunk before."""

    index: int
    start: int
    overlap: int
    new_frames: int

    @property
    def first_frame(self) -> int:
        """The first new frame."""
        return self.start + self.overlap

    @property
    def end_frame(self) -> int:
        """One past the last new frame."""
        return self.first_frame + self.new_frames


def plan(num_frames: int, frames_per_chunk: int, overlap: int) -> list[ChunkSpan]:
    """Cover ``num_frames`` exactly; consecutive chunks share ``overlap`` frames and the last one may be cut short.

    Raises:
        ConfigError: no frames to make, or chunks that would not advance.
    """
    if num_frames < 1:
        raise ConfigError(f"there are no frames to generate: {num_frames}")
    if overlap >= frames_per_chunk:
        raise ConfigError(f"{overlap} continuity frames leave nothing new in a chunk of {frames_per_chunk}")
    spans = [ChunkSpan(0, 0, 0, min(num_frames, frames_per_chunk))]
    while (done := spans[-1].end_frame) < num_frames:
        new = min(frames_per_chunk - overlap, num_frames - done)
        spans.append(ChunkSpan(len(spans), done - overlap, overlap, new))
    return spans
