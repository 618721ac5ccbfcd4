"""A chunk's frames are finished in a second thread where a CPU has a core for it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from asymtalker.tests.helpers import Import, generate

NOTHING = torch.zeros(1)


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def lane(pack: Import) -> Iterator[Any]:
    with ThreadPoolExecutor(1) as worker:
        yield pack("host.lane").SideThread(worker, pack("host.cores").CpuShare(2, cores=2))


def test_work_runs_elsewhere_with_threads_of_its_own(lane: Any, pack: Import) -> None:
    def work() -> tuple[int, int, bool, bool]:
        return (
            threading.get_ident(),
            torch.get_num_threads(),
            torch.is_inference_mode_enabled(),
            torch.is_grad_enabled(),
        )

    assert lane.is_open(pack("models.rollout").Carry.PIXELS)
    with torch.inference_mode():
        found = lane.run(work, NOTHING)()
    assert found[0] != threading.get_ident() and found[1:] == (1, True, False)
    assert lane.run(work, NOTHING)()[2] is False
    assert (torch.get_num_threads(), lane.chunks) == (1, 2)


def test_an_error_arrives_where_the_result_is_wanted(lane: Any) -> None:
    def fail() -> None:
        raise KeyError("frames")

    wait = lane.run(fail, NOTHING)
    with pytest.raises(KeyError, match="frames"):
        wait()


def test_it_closes_where_there_is_one_core_or_little_to_do(
    lane: Any, pack: Import, monkeypatch: pytest.MonkeyPatch
) -> None:
    carry = pack("models.rollout").Carry.PIXELS
    lane._share.free = 1
    assert not lane.is_open(carry)
    lane._share.free = 2
    for now, opens in ((0.0, True), (1.0, True), (2.0, False)):
        monkeypatch.setattr(pack("host.lane").time, "monotonic", lambda now=now: now)
        assert lane.is_open(carry) is opens
        lane.run(lambda: None, NOTHING)()
    lane._share.apply()
    assert torch.get_num_threads() == 2


@pytest.mark.parametrize("carry", ["pixels", "latents"])
def test_frames_are_the_same_with_one_core_and_with_two(
    carry: str, pack: Import, scene: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    continuity = pack("models.rollout").ContinuityOptions(carry)
    made = []
    for cores, chunks in ((1, 0), (2, 1)):
        monkeypatch.setattr(pack("host.cores"), "threads_beside", lambda *_, cores=cores: cores)
        video, report = generate(pack, scene, keep="never", continuity=continuity)
        assert min(report["chunks_overlapped"], 1) == chunks
        made.append([frame.copy() for frame in video.frames()])
        # Else its chunks would be used again.
        del video
    assert all((one == two).all() for one, two in zip(*made, strict=True))
