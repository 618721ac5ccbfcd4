"""A chunk's latents to its frames: decoding, colour correction, detail, blinks, and their way to the host."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .blinks import LidTrack
from .chunks import Carry, ChunkSpan, ContinuityOptions
from .clock import StageClock
from .codec import Parts, VideoCodec, decode_parts
from .color import color_target, match_color
from .config import SamplingConfig
from .detail import DetailTransfer
from .drift import ChunkFigures, DriftMeter, sample_of, seam
from .pictures import EVERYWHERE, Window
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
        # The frame that shows the pose of the latent frame before.
        self._earlier = 0 if self._transfer is None else self._stride - self._stride // 2

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

    def _correct(self, pixels: Tensor, window: Window = EVERYWHERE) -> Tensor:
        """``pixels`` in the portrait's colours, in place."""
        return match_color(pixels, self._target, self._continuity.color_strength, in_place=True, window=window)

    def decode(self, latents: Tensor, clock: StageClock) -> Decoded:
        """As much of the chunk as the next one waits for."""
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
        seen = sample_of(self._kept(pixels))
        clock.stage("statistics")
        corrected = 0
        if self.carry is Carry.LATENTS:
            continuity = self.tail(latents)
        else:
            # On a GPU, all at once, though not all are new: what matters there is the number of operations.
            corrected = self._overlap if pixels.device.type == "cpu" else pixels.shape[2]
            self._correct(pixels[:, :, -corrected:])
            clock.stage("colour")
            continuity = self._codec.encode(pixels[:, :, -self._overlap :])
        clock.stage("continuity")
        return Decoded(pixels, corrected, seen, continuity, first, parts if first else None)

    def frames(self, decoded: Decoded, latents: Tensor, span: ChunkSpan, clock: StageClock) -> Pending:
        """Queue the new frames of the chunk; the previous chunk contains the first ``span.overlap``."""
        pixels, before, seen = self._whole(decoded, span.overlap, clock)
        figures = self._meter.decoded(latents, seen)
        clock.stage("statistics")
        window = EVERYWHERE if self._transfer is None else self._transfer.shown(self._detail)
        # The last frame is corrected as a whole, because it is measured.
        stop = pixels.shape[2] - max(decoded.corrected, 1)
        self._correct(pixels[:, :, before : max(before, stop)], window)
        if not decoded.corrected:
            self._correct(pixels[:, :, -1:])
        clock.stage("colour")
        new = pixels[:, :, before:]
        closed = self._closed(span.first_frame, new.shape[2])
        shown = new
        # The next chunk continues from frames without detail transfer, as the checkpoints were trained.
        if self._transfer is not None and (self._detail or any(closed)):
            shown = self._transfer.apply(pixels[0], self._detail, closed, before)[None]
            clock.stage("detail")
        frames = to_uint8(shown[:, :, : span.new_frames])
        clock.stage("colour")
        figures = torch.cat((figures, self._meter.corrected(new, shown)))
        clock.stage("statistics")
        # One copy: the overhead of a copy to the host equals thousands of values.
        carried = decoded.continuity
        arriving = queue_fetch(frames, torch.cat((carried.flatten().float(), figures)))
        return Pending(arriving, torch.empty(carried.shape, dtype=carried.dtype, device="meta"))

    def _whole(self, decoded: Decoded, overlap: int, clock: StageClock) -> tuple[Tensor, int, Tensor]:
        """The chunk's pixels as far as they are used, how many come before the new ones, and the sample of them."""
        if decoded.parts is None:
            return decoded.pixels, overlap, decoded.seen
        # Whole latent frames, of which the first one is a single frame.
        skipped = min(decoded.first, -(-max(0, overlap - self._earlier) // self._stride))
        earlier = decoded.parts(skipped, decoded.first)
        clock.stage("decode")
        seen = torch.cat((sample_of(self._kept(earlier)), decoded.seen), dim=2)
        clock.stage("statistics")
        before = overlap - (1 + self._stride * (skipped - 1) if skipped else 0)
        return torch.cat((earlier, decoded.pixels), dim=2), before, seen

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
