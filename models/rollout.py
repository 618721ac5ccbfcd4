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
from .chunks import Carry, ChunkSpan, ContinuityOptions, ContinuityState, continuity_frames, plan
from .clock import StageClock
from .codec import VideoCodec
from .config import SamplingConfig
from .draft import Decoded, Draft, Made, Pending
from .drift import NOT_FINITE, collapse
from .flow import SAMPLERS, Denoise, chunk_noise
from .placing import ShiftedCodec
from .record import COLLAPSED, REGENERATED, ChunkRecord
from .reference import Reference
from .transfer import send

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


class Lane(Protocol):
    """Where a chunk is finished while the network generates the next one: a GPU's second stream, or a CPU's thread."""

    def is_open(self, carry: Carry) -> bool:
        """Whether it can be used now, for chunks that continue as ``carry`` says."""
        ...

    def run(self, work: Callable[[], T], used: Tensor) -> Callable[[], T]:
        """Run ``work``, which reads ``used``, beside what follows. Returns a function that waits for its result."""
        ...


@dataclass(frozen=True)
class Chunk:
    """A finished chunk: its new frames, uint8 [n, H, W, 3] on the CPU, and its record."""

    record: ChunkRecord
    frames: Tensor


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
    mouth_alone: bool = False,
) -> Iterator[tuple[Chunk, ContinuityState]]:
    """Generate the video for ``audio`` chunk by chunk.

    Args:
        spans: the video's chunks, from ``plan``; None plans them here.
        state: where to continue (a state that an earlier run yielded); None starts at the beginning.
        run_sampling: what runs each chunk's denoising loop; None just calls it.
        noise_dtype: the type in which noise goes to the device; None leaves it in float32.
        lane: runs, beside the next chunk's network, what that chunk does not need: decoding, if it continues from
            latents; else correction, and decoding as far as the VAE decodes parts. A chunk is then yielded after the
            next one's network is queued.
        mouth_alone: whether detail transfer leaves nothing but the mouth of ``reference.face`` to the network.
        lids: when blinks are drawn over the eyes of ``reference.face``; None draws none.

    Yields:
        Each chunk with the state that the next one starts from. Chunk i depends on (inputs, state, seed, i) alone.

    Raises:
        RolloutError: a chunk is not finite, whatever the seed.
    """
    overlap = continuity_frames(continuity.latents, reference.stride_t)
    spans = spans or plan(audio.num_frames, reference.frames_per_chunk, overlap)
    state = state or initial_state(reference)
    features = audio.stream()
    if reference.shift != (0, 0):
        codec = ShiftedCodec(codec, reference.shift, reference.portrait)
    draft = Draft(codec, reference, continuity, overlap, sampling, lids, mouth_alone)

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


class _Work:
    """One chunk: made, queued, then waited for. ``attempt`` generates latents from a state."""

    def __init__(self, attempt: Callable[..., Tensor], draft: Draft, span: ChunkSpan, clock: StageClock) -> None:
        self._attempt, self._draft, self._span, self._clock = attempt, draft, span, clock
        self.is_regenerated = False

    def make(self, state: ContinuityState) -> None:
        """Generate the latents that continue from ``state``, and decode what the next chunk continues from.

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

    def _decode(self) -> Decoded:
        return self._draft.decode(self._latents, self._span.overlap, self._clock)

    def _frames(self) -> Pending:
        self._clock.resume()
        decoded, self._decoded = self._decoded or self._decode(), None
        return self._draft.frames(decoded, self._latents, self._span, self._clock)

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

    def _wait(self) -> tuple[Made, dict[str, float]]:
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
