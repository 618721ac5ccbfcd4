"""A chunk's latents to its frames: decoding, colour correction, detail, blinks, and their way to the host."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .blinks import LidTrack
from .chunks import Carry, ChunkSpan, ContinuityOptions
from .clock import StageClock
from .codec import DecodedParts, Parts, VideoCodec, Views, decode_parts, frames_before
from .color import color_target, match_color
from .config import SamplingConfig
from .detail import DetailTransfer, frames_of_poses
from .drift import ChunkFigures, DriftMeter, sample_of, seam
from .pictures import EVERYWHERE
from .placing import kept
from .reference import Reference
from .transfer import Arriving, queue_fetch

_SETTLED_LATENTS = 3
"""Decoders treat the first latents differently; the frames of the third hardly differ from the later ones."""


@dataclass(frozen=True)
class Made:
    """A decoded chunk on the host: ``frames`` uint8 [n, H, W, 3], and the first latents of the next chunk."""

    frames: Tensor
    continuity: Tensor
    figures: ChunkFigures


@dataclass(frozen=True)
class Pending:
    """A chunk whose copies to the host are queued; ``like`` is an empty tensor of the continuity's shape and type."""

    arriving: Arriving
    like: Tensor

    def wait(self) -> Made:
        frames, values = self.arriving.wait()
        state, figures = values.split((self.like.numel(), len(values) - self.like.numel()))
        return Made(frames, state.view(self.like.shape).to(self.like.dtype), ChunkFigures(*figures.tolist()))


@dataclass(frozen=True)
class Decoded:
    """The end of a chunk that the next one continues from, and what gives the rest.

    ``pixels`` [1, 3, f, H, W] are those of the latents from ``first`` on, of which the last ``corrected`` are in their
    final colours; ``seen`` is their sample (``sample_of``) before any was corrected. ``parts`` decodes the latents
    before them; None where there are none. ``continuity`` [1, C, n, h, w] opens the next chunk.
    """

    pixels: Tensor
    corrected: int
    seen: Tensor
    continuity: Tensor
    first: int = 0
    parts: Parts | None = None


@dataclass(frozen=True)
class _New:
    """A chunk's new ``frames``, as far as they are needed, and whole frames that show the ``poses`` of the head.

    See ``DetailTransfer.apply``.
    """

    frames: Tensor
    poses: Tensor


class Draft:
    """Latents to frames, in two parts: ``decode`` gives what the next chunk continues from, ``frames`` the frames.

    The host waits for a GPU once, after all copies are queued.
    """

    def __init__(
        self,
        codec: VideoCodec,
        reference: Reference,
        continuity: ContinuityOptions,
        overlap: int,
        sampling: SamplingConfig,
        lids: LidTrack | None,
        mouth_alone: bool,
    ) -> None:
        self._codec, self._continuity, self._overlap = codec, continuity, overlap
        self._shift = reference.shift
        self._detail, self._lids = sampling.detail, None if reference.face is None else lids
        self._meter = DriftMeter(reference)
        self._target = color_target(reference.portrait)
        self.carry = continuity.carry
        self.portrait_contrast = self._meter.portrait_contrast
        self._last_frame: Tensor | None = None
        self._transfer: DetailTransfer | None = None
        if self._detail or self._lids:
            is_guided = mouth_alone and sampling.guidance != 1
            self._transfer = self._transfer_from(reference, mouth_alone, is_guided)
        self._stride = reference.stride_t
        self._window = EVERYWHERE if self._transfer is None else self._transfer.shown(self._detail)
        self._has_poses = self._transfer is not None and self._transfer.stride > 1

    def _transfer_from(self, reference: Reference, mouth_alone: bool, is_guided: bool) -> DetailTransfer:
        frames = self._codec.decode(reference.latents[:, :, :_SETTLED_LATENTS])[:, :, -1:]
        round_trip = self._correct(frames)
        return DetailTransfer.of(
            reference.portrait[0, :, 0],
            round_trip[0, :, 0],
            reference.face,
            reference.shift,
            reference.stride_t,
            mouth_alone,
            is_guided,
        )

    def _correct(self, pixels: Tensor, measured: Tensor | None = None) -> Tensor:
        """``pixels`` in the portrait's colours, in place; see ``match_color``."""
        return match_color(pixels, self._target, self._continuity.color_strength, in_place=True, measured=measured)

    def decode(self, latents: Tensor, overlap: int, clock: StageClock) -> Decoded:
        """As much of the chunk as the next one waits for; the previous one contains the first ``overlap`` frames."""
        parts, first = None, 0
        if self.carry is Carry.PIXELS and latents.device.type == "cpu":
            parts = decode_parts(self._codec, latents)
        if parts is None:
            pixels = self._codec.decode(latents)
        else:
            # These have the frames that the next chunk continues from.
            first = max(0, latents.shape[2] - self._continuity.latents)
            pixels = parts(first, latents.shape[2])
        clock.stage("decode")
        rest = DecodedParts(pixels, first, self._stride)
        views = self._views(rest, max(first, self._first_of(overlap)), latents.shape[2])
        seen = sample_of(self._kept(views.whole))
        clock.stage("statistics")
        # On a GPU, all at once, though not all are new: what matters there is the number of operations.
        corrected = pixels.shape[2]
        if pixels.device.type == "cpu":
            corrected = self._overlap if self.carry is Carry.PIXELS else 0
        if corrected:
            self._correct(pixels[:, :, -corrected:])
            clock.stage("colour")
        if self.carry is Carry.PIXELS:
            continuity = self._codec.encode(pixels[:, :, -self._overlap :])
        else:
            continuity = self.tail(latents)
        clock.stage("continuity")
        return Decoded(pixels, corrected, seen, continuity, first, parts if first else None)

    def frames(self, decoded: Decoded, latents: Tensor, span: ChunkSpan, clock: StageClock) -> Pending:
        """Queue the new frames of the chunk; the previous chunk contains the first ``span.overlap``."""
        new, seen = self._new(decoded, latents.shape[2], span.overlap, clock)
        figures = self._meter.decoded(latents, seen)
        clock.stage("statistics")
        self._correct_new(new, decoded)
        clock.stage("colour")
        shown, closed = new.frames, self._closed(span.first_frame, new.frames.shape[2])
        # The next chunk continues from frames without detail transfer, as the checkpoints were trained.
        if self._transfer is not None and (self._detail or any(closed)):
            shown = self._transfer.apply(new.frames[0], new.poses[0], self._detail, closed)[None]
            clock.stage("detail")
        frames = to_uint8(shown[:, :, : span.new_frames])
        clock.stage("colour")
        figures = torch.cat((figures, self._meter.corrected(decoded.pixels, shown)))
        clock.stage("statistics")
        # One copy: the overhead of a copy to the host equals thousands of values.
        carried = decoded.continuity
        arriving = queue_fetch(frames, torch.cat((carried.flatten().float(), figures)))
        return Pending(arriving, torch.empty(carried.shape, dtype=carried.dtype, device="meta"))

    def _new(self, decoded: Decoded, num_latents: int, overlap: int, clock: StageClock) -> tuple[_New, Tensor]:
        """The frames that are not the previous chunk's, and the sample of all that is decoded."""
        known, first = self._known(overlap), self._first_of(overlap)
        views, seen = [], decoded.seen
        if decoded.parts is not None and first < decoded.first:
            views.append(self._views(decoded.parts, first, decoded.first))
            clock.stage("decode")
            seen = torch.cat((sample_of(self._kept(views[0].whole)), seen), dim=2)
            clock.stage("statistics")
        rest = DecodedParts(decoded.pixels, decoded.first, self._stride)
        views.append(self._views(rest, max(first, decoded.first), num_latents))
        frames = _joined([view.part for view in views])
        frames = frames[:, :, frames_before(known, self._stride) - frames_before(first, self._stride) :]
        # Without poses, each frame is looked at, in its final colours.
        return _New(frames, _joined([view.whole for view in views]) if self._has_poses else frames), seen

    def _known(self, overlap: int) -> int:
        """How many latents are the previous chunk's."""
        return self._continuity.latents if overlap else 0

    def _first_of(self, overlap: int) -> int:
        """The first latent that is used: the head moves on from the pose before the new frames."""
        return max(0, self._known(overlap) - int(self._has_poses))

    def _views(self, parts: Parts, first: int, stop: int) -> Views:
        """The pixels of some latents that are used, and one whole frame of each if that shows its pose, else all."""
        if self._has_poses:
            return parts.views(first, stop, self._window, self._stride // 2)
        pixels = parts(first, stop)
        return Views(pixels, pixels)

    def _correct_new(self, new: _New, decoded: Decoded) -> None:
        """Correct the new frames that are not yet corrected."""
        corrected = decoded.corrected
        if not corrected:
            # The last frame is corrected as a whole, because it is measured; ``new`` is a view of it then.
            self._correct(decoded.pixels[:, :, -1:])
            corrected = 1
        rest = new.frames[:, :, : max(0, new.frames.shape[2] - corrected)]
        if self._window == EVERYWHERE:
            self._correct(rest)
            return
        # One frame is measured for all frames of a latent frame, at a quarter of its pixels.
        # It is not corrected while others of them are not: it is never the last one.
        groups = frames_of_poses(new.frames.shape[2], new.poses.shape[2], self._stride)
        for pose, group in zip(new.poses.split(1, dim=2), groups, strict=True):
            if rest[:, :, group].shape[2]:
                self._correct(rest[:, :, group], pose[..., ::2, ::2])

    def _kept(self, pixels: Tensor) -> Tensor:
        """What the network has seen: what a shift loses is the portrait's."""
        return pixels[(..., *kept(self._shift, *pixels.shape[-2:]))]

    def tail(self, latents: Tensor) -> Tensor:
        """The next chunk's continuity, if ``carry`` is ``latents``."""
        return latents[:, :, -self._continuity.latents :].clone()

    def seam(self, frames: Tensor, motion: float) -> dict[str, float]:
        """The figure of the seam between ``frames`` and those of the last call; none in the first."""
        last, self._last_frame = self._last_frame, frames[-1].clone()
        return {} if last is None else {"seam": seam(last, frames[0], motion)}

    def _closed(self, first_frame: int, frames: int) -> list[float]:
        """How far the lids are closed in each frame from ``first_frame`` on."""
        return [] if self._lids is None else self._lids(first_frame, frames).tolist()


def _joined(pieces: list[Tensor]) -> Tensor:
    """Frames one after the other: a view if there is one piece."""
    return pieces[0] if len(pieces) == 1 else torch.cat(pieces, dim=2)


def to_uint8(pixels: Tensor) -> Tensor:
    """[1, 3, n, H, W] in [-1, 1] -> uint8 [n, H, W, 3]."""
    if pixels.device.type != "cpu":
        scaled = pixels[0].add(1).mul_(127.5).round_().clamp_(0, 255)
        return scaled.to(torch.uint8).movedim(0, -1).contiguous()
    frames = []
    for frame in pixels[0].unbind(1):
        scaled = frame.add(1).mul_(127.5).round_().clamp_(0, 255)
        # Through int32, and a stack instead of a permuted copy: both are faster on CPUs.
        frames.append(torch.stack(scaled.to(torch.int32).to(torch.uint8).unbind(0), dim=-1))
    return torch.stack(frames)
