"""Chunks cover any length exactly, and a run that is taken up equals one that was not stopped."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
from torch import Tensor

from asymtalker.models import detail
from asymtalker.models.audio import AudioFeatures, num_video_frames
from asymtalker.models.chunks import Carry, ContinuityOptions, ContinuityState, continuity_frames, plan
from asymtalker.models.codec import Views
from asymtalker.models.config import ConfigError, SamplingConfig
from asymtalker.models.dit import TalkingHeadDiT
from asymtalker.models.draft import to_uint8
from asymtalker.models.eyelids import EYES
from asymtalker.models.face_mesh import LANDMARKS
from asymtalker.models.flow import Denoise, chunk_noise
from asymtalker.models.landmarks import JAW, UNDER_EYES
from asymtalker.models.nano_vae import NanoParts
from asymtalker.models.pictures import Window
from asymtalker.models.reference import Reference, temporal_reference
from asymtalker.models.rollout import Chunk, RolloutError, initial_state, rollout
from asymtalker.tests.models.tiny import noise, tiny_dit, tiny_vae

FRAMES_PER_CHUNK = 9
SAMPLING = SamplingConfig(steps=2, frames_per_chunk=FRAMES_PER_CHUNK)
DETAILED = dataclasses.replace(SAMPLING, detail=1.0)
FACE = torch.full((LANDMARKS, 2), 0.5)
for (upper, lower, brow), left in zip(EYES, (0.1, 0.6), strict=True):
    # A face of two wide eyes alone.
    places = torch.linspace(left, left + 0.3, 9)
    for line, y, arch in ((upper, 0.5, -0.15), (lower, 0.5, 0.15)):
        FACE[list(line)] = torch.stack((places, y + arch * torch.linspace(-1, 1, 9).square().neg().add(1)), dim=-1)
    FACE[list(brow)] = torch.stack((places[::2], torch.full((5,), 0.2)), dim=-1)
WITH_JAW = FACE.clone()
WITH_JAW[list(JAW)] = torch.stack((torch.linspace(0.7, 0.3, 21), 0.6 + 0.2 * torch.linspace(-1, 1, 21).cos()), dim=-1)
WITH_JAW[list(UNDER_EYES)] = torch.stack((torch.linspace(0.3, 0.7, 5), torch.full((5,), 0.6)), dim=-1)


def assert_covers(num_frames: int, frames_per_chunk: int, overlap: int) -> None:
    spans = plan(num_frames, frames_per_chunk, overlap)
    done = 0
    for index, span in enumerate(spans):
        assert span.index == index
        assert span.overlap == (overlap if index else 0)
        assert span.start + span.overlap == done and span.start >= 0
        assert 1 <= span.new_frames <= frames_per_chunk - span.overlap
        assert span is spans[-1] or span.new_frames == frames_per_chunk - span.overlap
        done += span.new_frames
    assert done == num_frames


@pytest.mark.parametrize(("seconds", "frames"), [(0.04, 1), (0.5, 13), (1, 25), (5, 125), (61.3, 1533)])
@pytest.mark.parametrize("overlap", [5, 9])
def test_plan_covers_lengths(seconds: float, frames: int, overlap: int) -> None:
    assert num_video_frames(round(seconds * 16000), 16000) == frames
    assert_covers(frames, 33, overlap)


def test_plan_covers_every_length() -> None:
    for frames_per_chunk in (2, 9, 33):
        for overlap in {0, 1, 5, 9, 13, 32} & set(range(frames_per_chunk)):
            for num_frames in (*range(1, 140), 1499, 15000):
                assert_covers(num_frames, frames_per_chunk, overlap)


def test_plan_refuses_the_impossible() -> None:
    with pytest.raises(ConfigError, match="no frames to generate: 0"):
        plan(0, 33, 5)
    with pytest.raises(ConfigError, match="33 continuity frames leave nothing new in a chunk of 33"):
        plan(10, 33, 33)


def test_continuity_frames() -> None:
    assert [continuity_frames(n, 4) for n in (1, 2, 3)] == [1, 5, 9]
    assert continuity_frames(2, 8) == 9


@pytest.mark.parametrize("wrong", [{"carry": "both"}, {"color_strength": 1.5}, {"latents": 0}, {"latents": 5}])
def test_wrong_continuity_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"must be|is not a choice"):
        ContinuityOptions(**wrong)


def test_to_uint8() -> None:
    pixels = torch.tensor([-1.5, -1.0, 0.0, 1.0, 1.5]).view(1, 1, 5, 1, 1).expand(1, 3, 5, 2, 4)
    frames = to_uint8(pixels)
    assert frames.shape == (5, 2, 4, 3) and frames.dtype == torch.uint8
    assert frames[:, 0, 0, 0].tolist() == [0, 0, 128, 255, 255]
    pixels = noise(1, 3, 2, 6, 10)
    expected = ((pixels[0].double() + 1) * 127.5).round().clamp(0, 255).permute(1, 2, 3, 0)
    assert torch.equal(to_uint8(pixels).double(), expected)


class Network:
    """The tiny network as a rollout takes it; keeps the windows that it was given."""

    def __init__(self, dit: TalkingHeadDiT) -> None:
        self.dit = dit
        self.windows: list[Tensor] = []

    def __call__(self, windows: Tensor, reference: Tensor, guidance: float) -> Denoise:
        self.windows.append(windows)
        audio_kv = self.dit.audio_keys_values(self.dit.encode_audio(windows))
        return lambda x, u: x - u * self.dit.velocity(x, 1000 * u[None], audio_kv, reference)


def run(num_frames: int, seed: int = 5, **options: Any) -> list[tuple[Chunk, ContinuityState]]:
    return list(chunk_by_chunk(num_frames, seed, **options))


def chunk_by_chunk(num_frames: int, seed: int = 5, **options: Any) -> Iterator[tuple[Chunk, ContinuityState]]:
    vae = options.pop("vae", None) or tiny_vae()
    portrait = noise(1, 3, 1, 32, 32, seed=1).tanh()
    frames_per_chunk = options.pop("frames_per_chunk", FRAMES_PER_CHUNK)
    latents = temporal_reference(vae.encode, portrait, frames_per_chunk)
    reference = Reference(
        latents, portrait, frames_per_chunk, options.pop("face", None), shift=options.pop("shift", (0, 0))
    )
    audio = AudioFeatures(noise(num_frames, 1, 6, seed=2), "random")
    network = options.pop("network", None) or Network(tiny_dit())
    continuity = options.pop("continuity", ContinuityOptions())
    sampling = options.pop("sampling", SAMPLING)
    return rollout(network, vae, reference, audio, sampling, continuity, seed, **options)


@pytest.mark.parametrize("num_frames", [1, 9, 10, 20])
@pytest.mark.parametrize("latents", [1, 2])
def test_every_frame_is_made_once(num_frames: int, latents: int) -> None:
    network = Network(tiny_dit())
    chunks = [chunk for chunk, _ in run(num_frames, network=network, continuity=ContinuityOptions(latents=latents))]
    done = 0
    for index, chunk in enumerate(chunks):
        assert (chunk.record.index, chunk.record.first_frame) == (index, done)
        assert chunk.frames.dtype == torch.uint8 and chunk.frames.shape[1:] == (32, 32, 3)
        assert chunk.record.seconds.keys() == {"audio", "network", "decode", "colour", "continuity", "statistics"}
        done += len(chunk.frames)
    assert done == num_frames
    assert len(network.windows) == len(chunks), "the audio is prepared once per chunk"
    assert all(windows.shape[1] == FRAMES_PER_CHUNK for windows in network.windows)


class Whole:
    """A VAE that decodes nothing but all latents at once."""

    def __init__(self) -> None:
        vae = tiny_vae()
        self.encode, self.decode = vae.encode, vae.decode


@pytest.mark.parametrize("latents", [1, 2, 3, 4])
@pytest.mark.parametrize("detail_strength", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("face", [None, FACE, WITH_JAW], ids=["no face", "eyes", "a face"])
@pytest.mark.parametrize("shift", [(0, 0), (6, -6)])
def test_chunks_decoded_in_parts_are_the_same(
    latents: int, detail_strength: float, face: Tensor | None, shift: tuple[int, int]
) -> None:
    options: dict[str, Any] = {
        "sampling": dataclasses.replace(SAMPLING, frames_per_chunk=17, detail=detail_strength),
        "continuity": ContinuityOptions(latents=latents),
        "frames_per_chunk": 17,
        "shift": shift,
    }
    if face is not None:
        options |= {"face": face, "lids": lambda first, frames: torch.full((frames,), 0.7), "mouth_alone": True}
    for (parted, state), (whole, other) in zip(run(45, **options), run(45, vae=Whole(), **options), strict=True):
        assert torch.equal(parted.frames, whole.frames) and torch.equal(state.latents, other.latents)
        if shift == (0, 0):
            # A difference of sums in the last bits may round to another grey level of the figures.
            assert parted.record.stats == pytest.approx(whole.record.stats, abs=0.002)


def test_only_the_lower_face_of_a_face_is_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    views = NanoParts.views

    def noted(parts: NanoParts, first: int, stop: int, window: Window, frame: int) -> Views:
        seen.append((first, stop, window))
        return views(parts, first, stop, window, frame)

    monkeypatch.setattr(NanoParts, "views", noted)
    sampling = dataclasses.replace(SAMPLING, frames_per_chunk=17, detail=1.0)
    run(45, sampling=sampling, frames_per_chunk=17, face=WITH_JAW, mouth_alone=True)
    assert [part[:2] for part in seen] == [(0, 3), (1, 3), (1, 3), (1, 3)]
    rows, columns = seen[0][2]
    assert all(window == (rows, columns) for _, _, window in seen)
    assert 8 <= rows.start < rows.stop <= 32 and 0 < columns.start < columns.stop < 32


class InOrder:
    """A lane on a CPU: everything is done at once, and its order noted."""

    def __init__(self, closed_at: int = -1) -> None:
        self.events: list[str] = []
        self._closed_at, self._asked = closed_at, -1

    def is_open(self, carry: Carry) -> bool:
        self._asked += 1
        return self._asked != self._closed_at

    def run(self, work: Callable[[], Any], used: Tensor) -> Callable[[], Any]:
        self.events.append("lane")
        result = work()
        return lambda: result


@pytest.mark.parametrize("carry", ["pixels", "latents"])
def test_a_resumed_run_equals_an_uninterrupted_one(carry: str) -> None:
    continuity = ContinuityOptions(Carry(carry))
    whole = run(22, continuity=continuity)
    assert len(whole) > 3
    for stop in (1, 3):
        state = whole[stop - 1][1]
        assert state.chunk_index == stop
        rest = run(22, continuity=continuity, state=state)
        assert len(rest) == len(whole) - stop
        for (found, found_state), (expected, expected_state) in zip(rest, whole[stop:], strict=True):
            assert (found.record.index, found.record.first_frame) == (
                expected.record.index,
                expected.record.first_frame,
            )
            assert torch.equal(found.frames, expected.frames)
            assert torch.equal(found_state.latents, expected_state.latents)


@pytest.mark.parametrize("carry", ["pixels", "latents"])
@pytest.mark.parametrize("num_frames", [22, 10])
def test_detail_changes_frames_but_not_what_follows(
    carry: str, num_frames: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor the sharpness that is reported; the last chunk of 10 frames has one of its own."""
    # Frames of a network with random weights do not look like the portrait.
    monkeypatch.setattr(detail, "TOLERANCE", 10.0)
    options: dict[str, Any] = {"continuity": ContinuityOptions(Carry(carry)), "lane": InOrder()}
    chunks = zip(run(num_frames, **options), run(num_frames, sampling=DETAILED, **options), strict=True)
    for (plain, state), (other, other_state) in chunks:
        assert plain.frames.shape == other.frames.shape and not torch.equal(plain.frames, other.frames)
        assert torch.equal(state.latents, other_state.latents)
        assert other.record.stats["sharpness"] == plain.record.stats["sharpness"]
        assert other.record.seconds.keys() - plain.record.seconds.keys() == {"detail"}


@pytest.mark.parametrize("detail", [0.0, 1.0])
@pytest.mark.parametrize("carry", ["pixels", "latents"])
def test_blinks_change_the_frames_with_closed_lids_alone(carry: str, detail: float) -> None:
    def track(start: int, frames: int) -> Tensor:
        closed = torch.zeros(22)
        closed[[6, 12, 13]] = torch.tensor((0.5, 1.0, 0.3))
        return closed[start : start + frames]

    sampling = dataclasses.replace(SAMPLING, detail=detail)
    options: dict[str, Any] = {"continuity": ContinuityOptions(Carry(carry)), "lane": InOrder(), "sampling": sampling}
    plain = run(22, face=FACE, lids=lambda start, frames: torch.zeros(frames), **options)
    blinking = run(22, face=FACE, lids=track, **options)
    for (_, state), (_, other_state) in zip(plain, blinking, strict=True):
        assert torch.equal(state.latents, other_state.latents)
    before, after = (torch.cat([chunk.frames for chunk, _ in chunks]) for chunks in (plain, blinking))
    assert (before != after).flatten(1).any(dim=1).nonzero().flatten().tolist() == [6, 12, 13]
    faceless, told = (torch.cat([chunk.frames for chunk, _ in run(22, lids=lids, **options)]) for lids in (None, track))
    assert torch.equal(faceless, told)


def test_the_seed_decides() -> None:
    first, again, other = (run(9, seed=seed)[0][0].frames for seed in (5, 5, 6))
    assert torch.equal(first, again) and not torch.equal(first, other)


@pytest.mark.parametrize("sampler", ["few_step", "euler"])
def test_latents_carried_as_they_are(sampler: str) -> None:
    sampling = dataclasses.replace(SAMPLING, sampler=sampler)
    seen: list[Tensor] = []

    def keep(chunk: int, step: int, x0: Tensor) -> None:
        seen.append(x0)

    states = [
        state for _, state in run(13, sampling=sampling, continuity=ContinuityOptions(Carry.LATENTS), on_step=keep)
    ]
    # The last step's x0 is the chunk; its tail opens the next one.
    assert torch.equal(states[0].latents, seen[1][:, :, -2:])


def test_one_step_of_the_bridge_starts_from_the_reference() -> None:
    """Whatever the seed: it draws no noise."""
    sampling = dataclasses.replace(SAMPLING, sampler="bridge", steps=1)
    one, other = (run(9, seed=seed, sampling=sampling)[0][0].frames for seed in (5, 6))
    assert torch.equal(one, other)


def test_the_last_chunk_of_a_finished_run_leaves_nothing() -> None:
    state = run(13)[-1][1]
    assert run(13, state=state) == []


def test_chunk_0_continues_the_portrait() -> None:
    reference = Reference(noise(1, 4, 3, 2, 2), noise(1, 3, 1, 32, 32), FRAMES_PER_CHUNK)
    state = initial_state(reference)
    assert state.chunk_index == 0 and torch.equal(state.latents, reference.latents[:, :, :1])


def test_steps_are_reported_and_may_stop_the_run() -> None:
    class Cancelled(Exception):
        pass

    seen: list[tuple[int, int]] = []

    def on_step(chunk: int, step: int, x0: Tensor) -> None:
        assert x0.shape == (1, 4, 3, 2, 2)
        seen.append((chunk, step))
        if (chunk, step) == (1, 0):
            raise Cancelled

    with pytest.raises(Cancelled):
        run(20, on_step=on_step)
    assert seen == [(0, 0), (0, 1), (1, 0)]


class BrokenNetwork(Network):
    """Gives NaN where the noise is that of the first attempts (or of any) at chunk 1."""

    def __init__(self, dit: TalkingHeadDiT, attempts: int) -> None:
        super().__init__(dit)
        shape = (1, 4, 3, 2, 2)
        self.bad = [next(chunk_noise(5, 1, shape, attempt))[:, :, -1] for attempt in range(attempts)]

    def __call__(self, windows: Tensor, reference: Tensor, guidance: float) -> Denoise:
        denoise = super().__call__(windows, reference, guidance)

        def broken(x: Tensor, u: Tensor) -> Tensor:
            x0 = denoise(x, u)
            return x0 * float("nan") if any(torch.equal(x[:, :, -1], bad) for bad in self.bad) else x0

        return broken


def test_a_chunk_of_nan_is_generated_anew_and_the_run_resumes_the_same() -> None:
    healthy = run(22)
    whole = run(22, network=BrokenNetwork(tiny_dit(), 1))
    assert [("regenerated" in chunk.record.stats, "collapsed" in chunk.record.stats) for chunk, _ in whole[:3]] == [
        (False, False),
        (True, False),
        (False, False),
    ]
    assert torch.equal(whole[0][0].frames, healthy[0][0].frames)
    assert not torch.equal(whole[1][0].frames, healthy[1][0].frames)
    rest = run(22, network=BrokenNetwork(tiny_dit(), 1), state=whole[0][1])
    assert [torch.equal(found.frames, made.frames) for (found, _), (made, _) in zip(rest, whole[1:], strict=True)] == [
        True
    ] * len(rest)


def test_nan_in_both_attempts_ends_the_run() -> None:
    with pytest.raises(RolloutError, match="chunk 1 contains NaN"):
        run(22, network=BrokenNetwork(tiny_dit(), 2))


def test_flat_frames_are_reported_when_another_seed_does_not_help() -> None:
    class FlatVAE:
        encode = staticmethod(tiny_vae().encode)

        def decode(self, latents: Tensor) -> Tensor:
            return torch.zeros(1, 3, FRAMES_PER_CHUNK, 32, 32)

    chunks = [chunk for chunk, _ in run(20, vae=FlatVAE())]
    assert all(chunk.record.stats["regenerated"] == chunk.record.stats["collapsed"] == 1 for chunk in chunks)


def test_statistics_of_every_chunk() -> None:
    chunks = [chunk for chunk, _ in run(20)]
    names = {"reference_distance", "color_distance", "sharpness", "motion"}
    assert chunks[0].record.stats.keys() == names
    assert all(chunk.record.stats.keys() == names | {"seam"} for chunk in chunks[1:])


LATENTS = ContinuityOptions(Carry.LATENTS)


def assert_same(found: Sequence[Any], expected: Sequence[Any]) -> None:
    assert len(found) == len(expected)
    for (chunk, state), (true_chunk, true_state) in zip(found, expected, strict=True):
        assert torch.equal(chunk.frames, true_chunk.frames)
        assert chunk.record.stats == true_chunk.record.stats
        assert state.chunk_index == true_state.chunk_index and torch.equal(state.latents, true_state.latents)


PIXELS = ContinuityOptions(Carry.PIXELS)
both_carries = pytest.mark.parametrize("continuity", [PIXELS, LATENTS], ids=["pixels", "latents"])


@both_carries
@pytest.mark.parametrize("closed_at", [-1, 0, 2])
def test_a_chunk_finished_beside_the_next_network_is_the_same(closed_at: int, continuity: ContinuityOptions) -> None:
    lane = InOrder(closed_at)
    assert_same(run(22, continuity=continuity, lane=lane), run(22, continuity=continuity))
    assert lane.events.count("lane") == (4 if closed_at == -1 else 3)


@both_carries
def test_a_chunk_finished_in_another_thread_is_the_same(continuity: ContinuityOptions) -> None:
    class Thread(InOrder):
        def run(self, work: Callable[[], Any], used: Tensor) -> Callable[[], Any]:
            self.events.append("lane")
            return worker.submit(torch.no_grad()(work)).result

    lane, options = Thread(), {"continuity": continuity, "sampling": DETAILED}
    with ThreadPoolExecutor(1) as worker:
        assert_same(run(22, lane=lane, **options), run(22, **options))
    assert lane.events == ["lane"] * 4


@both_carries
def test_a_chunk_is_waited_for_when_the_next_network_is_queued(continuity: ContinuityOptions) -> None:
    lane = InOrder()
    on_step = lambda *step: lane.events.append("step")  # noqa: E731
    for chunk, _ in chunk_by_chunk(14, continuity=continuity, lane=lane, on_step=on_step):
        lane.events.append(f"chunk {chunk.record.index}")
    steps = ["step"] * SAMPLING.steps
    assert lane.events == [*steps, "lane", *steps, "chunk 0", "lane", *steps, "chunk 1", "chunk 2"]


@pytest.mark.parametrize(("carry", "decoded"), [("pixels", 0), ("latents", 4)])
def test_frames_that_open_the_next_chunk_are_decoded_first(carry: str, decoded: int) -> None:
    """With ``latents``, nothing of the chunk is needed, and all of it is left to the lane."""
    vae = tiny_vae()
    in_lane: list[str] = []

    class Noting(InOrder):
        def run(self, work: Callable[[], Any], used: Tensor) -> Callable[[], Any]:
            before = vae.decode

            def decode(latents: Tensor) -> Tensor:
                in_lane.append("decode")
                return before(latents)

            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(vae, "decode", decode)
                return super().run(work, used)

    run(22, vae=vae, continuity=ContinuityOptions(Carry(carry)), lane=Noting())
    assert len(in_lane) == decoded


@both_carries
def test_a_regenerated_chunk_is_followed_by_its_own_continuation(continuity: ContinuityOptions) -> None:
    expected = run(22, continuity=continuity, network=BrokenNetwork(tiny_dit(), 1))
    assert "regenerated" in expected[1][0].record.stats
    assert_same(run(22, continuity=continuity, network=BrokenNetwork(tiny_dit(), 1), lane=InOrder()), expected)


@both_carries
def test_an_error_in_a_chunk_does_not_lose_the_one_before(continuity: ContinuityOptions) -> None:
    def on_step(chunk: int, step: int, x0: Tensor) -> None:
        if chunk == 1:
            raise KeyboardInterrupt

    made: list[int] = []
    with pytest.raises(KeyboardInterrupt):
        for chunk, _ in chunk_by_chunk(22, continuity=continuity, lane=InOrder(), on_step=on_step):
            made.append(chunk.record.index)
    assert made == [0]
