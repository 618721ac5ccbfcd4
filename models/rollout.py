"""Rollout over chunks: state in, chunk and state out. Memory use does not depend on the video's length.

Chunk 0 starts from the reference's first latent frame; every later chunk from latents of the tail of the one before,
so that consecutive chunks share those tail frames and motion continues across the seam.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol, TypeVar

import torch
from torch import Tensor

from .audio import RecordingFeatures
from .blinks import LidTrack
from .choices import Choice
from .clock import StageClock
from .color import color_target, match_color
from .config import ConfigError, SamplingConfig
from .detail import DetailTransfer
from .drift import NOT_FINITE, ChunkFigures, DriftMeter, collapse, seam
from .flow import SAMPLERS, Denoise, chunk_noise
from .record import COLLAPSED, REGENERATED, ChunkRecord
from .reference import Reference
from .transfer import Arriving, queue_fetch, send

logger = logging.getLogger(__name__)

T = TypeVar("T")

Network = Callable[[Tensor, Tensor, float], Denoise]
"""(audio windows [1, F, 5, blocks, channels], reference latents, guidance) -> denoise; prepared once per chunk."""

SamplingLoop = Callable[[Denoise, Tensor, Tensor], Tensor]
"""(denoise, schedule [steps + 1], start noise [1, C, T, h, w]) -> latents: one chunk's whole denoising loop."""

RunSampling = Callable[[SamplingLoop, Denoise, Tensor, Tensor], Tensor]
"""(loop, its arguments) -> latents: runs the loop once, for hosts that do something before and after each."""

OnStep = Callable[[int, int, Tensor], None]
"""(chunk index, step index, x0 [1, C, T, h, w]) after every denoising step; may raise to stop."""


class RolloutError(RuntimeError):
    """A chunk could not be generated; the message gives its number and the reason."""


class VideoCodec(Protocol):
    """A VAE in the network's latent space: pixels [1, 3, F, H, W] in [-1, 1] <-> latents [1, C, T, h, w].

    ``decode`` gives a new tensor, which the caller may overwrite.
    """

    def encode(self, pixels: Tensor) -> Tensor: ...

    def decode(self, latents: Tensor) -> Tensor: ...


class Lane(Protocol):
    """Where a chunk is finished while the network generates the next one: a GPU's second stream, or a CPU's thread."""

    def is_open(self, carry: Carry) -> bool:
        """Whether it can be used now, for chunks that continue as ``carry`` says."""
        ...

    def run(self, work: Callable[[], T], used: Tensor) -> Callable[[], T]:
        """Run ``work``, which reads ``used``, beside what follows. Returns a function that waits for its result."""
        ...


MAX_CONTINUITY_LATENTS = 4
_SETTLED_LATENTS = 3
"""Decoders treat the first latents differently; the frames of the third hardly differ from the later ones."""


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


@dataclass(frozen=True)
class Chunk:
    """A finished chunk: its new frames, uint8 [n, H, W, 3] on the CPU, and its record."""

    record: ChunkRecord
    frames: Tensor


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


def continuity_frames(latents: int, stride_t: int) -> int:
    """Pixel frames of ``latents`` continuity latents: the first frame alone, then ``stride_t`` each."""
    return (latents - 1) * stride_t + 1


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


def initial_state(reference: Reference) -> ContinuityState:
    """Chunk 0 continues the portrait itself."""
    return ContinuityState(0, reference.latents[:, :, :1])


def rollout(
    network: Network,
    codec: VideoCodec,
    reference: Reference,
    audio: RecordingFeatures,
    sampling: SamplingConfig,
    continuity: ContinuityOptions,
    seed: int,
    *,
    spans: Sequence[ChunkSpan] | None = None,
    state: ContinuityState | None = None,
    on_step: OnStep | None = None,
    run_sampling: RunSampling | None = None,
    noise_dtype: torch.dtype | None = None,
    lane: Lane | None = None,
    lids: LidTrack | None = None,
) -> Iterator[tuple[Chunk, ContinuityState]]:
    """Generate the video for ``audio`` chunk by chunk.

    Args:
        spans: the video's chunks, from ``plan``; None plans them here.
        state: where to continue (a state that an earlier run yielded); None starts at the beginning.
        run_sampling: what runs each chunk's denoising loop; None just calls it.
        noise_dtype: the type in which noise goes to the device; None leaves it in float32.
        lane: runs, beside the next chunk's network, what that chunk does not need: decoding, if it continues from
            latents, else correction. A chunk is then yielded after the next one's network is queued.
        lids: when blinks are drawn over ``reference.eyes``; None draws none.

    Yields:
        Each chunk with the state that the next one starts from. Chunk i depends on (inputs, state, seed, i) alone.

    Raises:
        RolloutError: a chunk is not finite, whatever the seed.
    """
    overlap = continuity_frames(continuity.latents, reference.stride_t)
    spans = spans or plan(audio.num_frames, reference.frames_per_chunk, overlap)
    state = state or initial_state(reference)
    features = audio.stream()
    draft = _Draft(codec, reference, continuity, overlap, sampling.detail, lids)

    def begin(span: ChunkSpan, state: ContinuityState) -> _Work:
        clock = StageClock(reference.latents.device)
        windows = features.windows(span.start, reference.frames_per_chunk)
        clock.stage("audio")
        denoise = network(windows, reference.latents, sampling.guidance)
        options = {"run_sampling": run_sampling, "noise_dtype": noise_dtype}
        attempt = partial(sample, denoise, reference, sampling, seed=seed, on_step=on_step, **options)
        work = _Work(attempt, draft, span, clock)
        work.make(state)
        return work

    yield from _in_order(begin, spans[state.chunk_index :], state, continuity.carry, lane)


def _in_order(
    begin: Callable[[ChunkSpan, ContinuityState], _Work],
    spans: Sequence[ChunkSpan],
    state: ContinuityState,
    carry: Carry,
    lane: Lane | None,
) -> Iterator[tuple[Chunk, ContinuityState]]:
    """The chunks of ``spans``; while the ``lane`` is open, each is finished after the next one has begun."""
    waiting: _Work | None = None
    for span in spans:
        try:
            work = begin(span, state)
        except BaseException:
            if waiting is not None:
                # Its frames are complete, so an error or a stop in the next chunk must not lose them.
                yield waiting.finish()
            raise
        if waiting is not None:
            yield waiting.finish()
            if waiting.is_regenerated:
                work.make_again(waiting.next_state)
        is_beside = lane is not None and span is not spans[-1] and lane.is_open(carry)
        work.queue(lane if is_beside else None)
        waiting = work if is_beside else None
        if waiting is None:
            yield work.finish()
        state = work.next_state
    if waiting is not None:
        yield waiting.finish()


@dataclass(frozen=True)
class _Made:
    """A decoded chunk on the host: ``frames`` uint8 [n, H, W, 3], and the first latents of the next chunk."""

    frames: Tensor
    continuity: Tensor
    figures: ChunkFigures


@dataclass(frozen=True)
class _Pending:
    """A chunk whose copies to the host are queued; ``like`` is an empty tensor of the continuity's shape and type."""

    arriving: Arriving
    like: Tensor

    def wait(self) -> _Made:
        frames, values = self.arriving.wait()
        state, figures = values.split((self.like.numel(), len(values) - self.like.numel()))
        return _Made(frames, state.view(self.like.shape).to(self.like.dtype), ChunkFigures(*figures.tolist()))


@dataclass(frozen=True)
class _Decoded:
    """A decoded chunk: ``pixels`` [1, 3, F, H, W], of which the last ``corrected`` frames are in their final colours.

    ``continuity`` [1, C, n, h, w] opens the next chunk; ``figures`` are those of ``DriftMeter.decoded``.
    """

    pixels: Tensor
    corrected: int
    continuity: Tensor
    figures: Tensor


class _Draft:
    """Latents to frames, in two parts: ``decode`` gives what the next chunk continues from, ``frames`` the frames.

    The host waits for a GPU once, after all copies are queued.
    """

    def __init__(
        self,
        codec: VideoCodec,
        reference: Reference,
        continuity: ContinuityOptions,
        overlap: int,
        detail: float,
        lids: LidTrack | None,
    ) -> None:
        self._codec, self._continuity, self._overlap = codec, continuity, overlap
        self._detail, self._lids = detail, None if reference.eyes is None else lids
        self._meter = DriftMeter(reference)
        self._target = color_target(reference.portrait)
        self.carry = continuity.carry
        self.portrait_contrast = self._meter.portrait_contrast
        self._last_frame: Tensor | None = None
        self._transfer = self._transfer_from(reference) if detail or self._lids else None

    def _transfer_from(self, reference: Reference) -> DetailTransfer:
        frames = self._codec.decode(reference.latents[:, :, :_SETTLED_LATENTS])[:, :, -1:]
        round_trip = self._correct(frames)
        return DetailTransfer.of(reference.portrait[0, :, 0], round_trip[0, :, 0], reference.eyes)

    def _correct(self, pixels: Tensor) -> Tensor:
        """``pixels`` in the portrait's colours, in place."""
        return match_color(pixels, self._target, self._continuity.color_strength, in_place=True)

    def decode(self, latents: Tensor, span: ChunkSpan, clock: StageClock) -> _Decoded:
        pixels = self._codec.decode(latents)
        clock.stage("decode")
        figures = self._meter.decoded(latents, pixels)
        clock.stage("statistics")
        corrected = 0
        if self.carry is Carry.LATENTS:
            continuity = self.tail(latents)
        else:
            tail = pixels.shape[2] - self._overlap
            # On a GPU, all at once: what matters there is the number of operations.
            first = tail if pixels.device.type == "cpu" else min(span.overlap, tail)
            corrected = pixels.shape[2] - first
            self._correct(pixels[:, :, first:])
            clock.stage("colour")
            continuity = self._codec.encode(pixels[:, :, tail:])
        clock.stage("continuity")
        return _Decoded(pixels, corrected, continuity, figures)

    def frames(self, decoded: _Decoded, span: ChunkSpan, clock: StageClock) -> _Pending:
        """Queue the new frames of ``decoded``; the previous chunk contains the first ``span.overlap``."""
        pixels = decoded.pixels[:, :, span.overlap :]
        self._correct(pixels[:, :, : max(0, pixels.shape[2] - decoded.corrected)])
        clock.stage("colour")
        shown = pixels
        closed = self._closed(span.first_frame, pixels.shape[2])
        # The next chunk continues from frames without detail transfer, as the checkpoints were trained.
        if self._transfer is not None and (self._detail or any(closed)):
            shown = self._transfer.apply(pixels[0], self._detail, closed)[None]
            clock.stage("detail")
        frames = to_uint8(shown[:, :, : span.new_frames])
        clock.stage("colour")
        figures = torch.cat((decoded.figures, self._meter.corrected(pixels, shown)))
        clock.stage("statistics")
        # One copy: the overhead of a copy to the host equals thousands of values.
        carried = decoded.continuity
        arriving = queue_fetch(frames, torch.cat((carried.flatten().float(), figures)))
        return _Pending(arriving, torch.empty(carried.shape, dtype=carried.dtype, device="meta"))

    def _closed(self, first_frame: int, frames: int) -> list[float]:
        """How far the lids are closed in each frame from ``first_frame`` on."""
        return [] if self._lids is None else self._lids(first_frame, frames).tolist()

    def tail(self, latents: Tensor) -> Tensor:
        """The next chunk's continuity, if ``carry`` is ``latents``."""
        return latents[:, :, -self._continuity.latents :].clone()

    def seam(self, frames: Tensor, motion: float) -> dict[str, float]:
        """The figure of the seam between ``frames`` and those of the last call; none in the first."""
        last, self._last_frame = self._last_frame, frames[-1].clone()
        return {} if last is None else {"seam": seam(last, frames[0], motion)}


class _Work:
    """One chunk: made, queued, then waited for. ``attempt`` generates latents from a state."""

    def __init__(self, attempt: Callable[..., Tensor], draft: _Draft, span: ChunkSpan, clock: StageClock) -> None:
        self._attempt, self._draft, self._span, self._clock = attempt, draft, span, clock
        self.is_regenerated = False

    def make(self, state: ContinuityState) -> None:
        """Generate the latents that continue from ``state``, and decode them if the next chunk continues from pixels.

        ``next_state`` is known then.
        """
        self._state = state
        self._sample()
        self._decoded = None if self._draft.carry is Carry.LATENTS else self._decode()
        continuity = self._draft.tail(self._latents) if self._decoded is None else self._decoded.continuity
        self.next_state = ContinuityState(self._span.index + 1, continuity)

    def make_again(self, state: ContinuityState) -> None:
        """``make``, because the chunk before has been regenerated."""
        self._clock.resume()
        self.make(state)

    def queue(self, lane: Lane | None) -> None:
        """Queue the frames, in the ``lane`` if there is one."""
        if lane is None:
            pending = self._frames()
            self._pending = lambda: pending
        else:
            self._pending = lane.run(self._frames, self._latents if self._decoded is None else self._decoded.pixels)

    def _sample(self, attempt: int = 0) -> None:
        self._latents = self._attempt(state=self._state, attempt=attempt)
        self._clock.stage("network")

    def _decode(self) -> _Decoded:
        return self._draft.decode(self._latents, self._span, self._clock)

    def _frames(self) -> _Pending:
        self._clock.resume()
        decoded, self._decoded = self._decoded or self._decode(), None
        return self._draft.frames(decoded, self._span, self._clock)

    def finish(self) -> tuple[Chunk, ContinuityState]:
        """The chunk, regenerated with another seed if it collapsed, and the state from which the next one starts.

        Raises:
            RolloutError: both attempts gave values that are not finite, from which no chunk can continue.
        """
        made, outcome = self._wait()
        self.next_state = ContinuityState(self._span.index + 1, made.continuity)
        stats = outcome | made.figures.statistics()
        stats |= self._draft.seam(made.frames, stats["motion"])
        first, frames = self._span.first_frame, len(made.frames)
        record = ChunkRecord(
            index=self._span.index, first_frame=first, frames=frames, stats=stats, seconds=self._clock.seconds
        )
        return Chunk(record, made.frames), self.next_state

    def _wait(self) -> tuple[_Made, dict[str, float]]:
        made, index = self._pending().wait(), self._span.index
        problem = collapse(made.figures, self._draft.portrait_contrast)
        if problem is None:
            return made, {}
        logger.warning("chunk %d is regenerated: %s", index, problem)
        self.is_regenerated = True
        self._clock.resume()
        self._sample(attempt=1)
        made = self._frames().wait()
        problem = collapse(made.figures, self._draft.portrait_contrast)
        if problem is None:
            return made, {REGENERATED: 1.0}
        if problem == NOT_FINITE:
            raise RolloutError(
                f"chunk {index} contains {problem} with two different seeds. Either weights are damaged, a LoRA is too "
                "strong, or the data type overflows: use bfloat16 or float32"
            )
        logger.warning("chunk %d is kept, the second attempt is no better: %s", index, problem)
        return made, {REGENERATED: 1.0, COLLAPSED: 1.0}


def sample(
    denoise: Denoise,
    reference: Reference,
    sampling: SamplingConfig,
    state: ContinuityState,
    seed: int,
    on_step: OnStep | None,
    attempt: int = 0,
    run_sampling: RunSampling | None = None,
    noise_dtype: torch.dtype | None = None,
) -> Tensor:
    """Latents [1, C, T, h, w] of the chunk that ``state`` opens; another ``attempt`` draws other noise."""
    sampler = SAMPLERS[sampling.sampler]
    like = reference.latents
    callback = None if on_step is None else partial(_notify, on_step, state.chunk_index)
    noise = chunk_noise(seed, state.chunk_index, tuple(like.shape), attempt)
    draws = sampler.draws(like, (send(draw, like.device, noise_dtype).to(like.dtype) for draw in noise))
    continuity = send(state.latents, like.device).to(like.dtype)

    def loop(denoise: Denoise, levels: Tensor, start: Tensor) -> Tensor:
        return sampler.sample(denoise, levels, continuity, itertools.chain([start], draws), callback)

    levels, start = sampler.schedule(sampling.steps, sampling.shift), next(draws)
    return loop(denoise, levels, start) if run_sampling is None else run_sampling(loop, denoise, levels, start)


def _notify(on_step: OnStep, chunk_index: int, step: int, u: Tensor, x: Tensor, x0: Tensor) -> None:
    on_step(chunk_index, step, x0)


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
