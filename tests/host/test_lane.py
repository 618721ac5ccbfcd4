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
        yield pack("host.lane").SideThread(worker, pack("host.cores").CpuShare(2, cores=2), decodes=False)


def test_work_runs_elsewhere_with_threads_of_its_own(lane: Any, pack: Import) -> None:
    def work() -> tuple[int, int, bool, bool]:
        modes = torch.is_inference_mode_enabled(), torch.is_grad_enabled()
        return threading.get_ident(), torch.get_num_threads(), *modes

    assert lane.is_open(pack("models.rollout").Carry.PIXELS)
    with torch.inference_mode():
        found = lane.run(work, NOTHING)()
    assert found[0] != threading.get_ident() and found[1:] == (1, True, False)
    assert lane.run(work, NOTHING)()[2:] == (False, False)
    assert lane.chunks == 2


def test_the_network_leaves_cores_only_while_work_runs_that_is_worth_it(lane: Any) -> None:
    used = []
    for _ in range(2):
        wait = lane.run(lambda: None, NOTHING)
        used.append(torch.get_num_threads())
        wait()
        used.append(torch.get_num_threads())
    assert used == [2, 2, 1, 2]


def test_the_network_leaves_cores_at_once_to_a_thread_that_decodes(pack: Import) -> None:
    with ThreadPoolExecutor(1) as worker:
        lane = pack("host.lane").SideThread(worker, pack("host.cores").CpuShare(2, cores=2), decodes=True)
        wait = lane.run(lambda: None, NOTHING)
        assert torch.get_num_threads() == 1
        wait()
    assert torch.get_num_threads() == 2


def test_an_error_arrives_where_the_result_is_wanted(lane: Any) -> None:
    def fail() -> None:
        raise KeyError("frames")

    wait = lane.run(fail, NOTHING)
    with pytest.raises(KeyError, match="frames"):
        wait()
    assert torch.get_num_threads() == 2


def test_it_is_for_pixels_where_there_is_a_second_core(lane: Any, pack: Import) -> None:
    carry = pack("models.rollout").Carry
    assert lane.is_open(carry.PIXELS) and not lane.is_open(carry.LATENTS)
    lane._share.free = 1
    assert not lane.is_open(carry.PIXELS)
    lane._share.free = 2
    assert lane.is_open(carry.PIXELS)


@pytest.mark.parametrize(("busy_s", "stays"), [(0.1, False), (0.5, True)])
def test_it_closes_where_there_is_little_to_do(
    busy_s: float, stays: bool, lane: Any, pack: Import, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second passes with each chunk; what passes while it is closed does not count."""
    now = 0.0

    def work() -> None:
        nonlocal now
        now += busy_s

    monkeypatch.setattr(pack("host.lane"), "clock", lambda: now)
    carry = pack("models.rollout").Carry.PIXELS
    wait = lane.run(work, NOTHING)
    lane._worker.submit(lambda: None).result()
    now = 1.0
    wait()
    assert lane.is_open(carry) is stays
    now = 100.0
    assert lane.is_open(carry) is stays


def test_frames_are_the_same_with_one_core_and_with_two(
    pack: Import, scene: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = []
    for cores in (1, 2):
        monkeypatch.setattr(pack("host.cores"), "threads_beside", lambda *_, cores=cores: cores)
        video, report = generate(pack, scene, keep="never")
        assert bool(report["chunks_overlapped"]) is (cores > 1)
        made.append([frame.copy() for frame in video.frames()])
        # Else its chunks would be used again.
        del video
    assert all((one == two).all() for one, two in zip(*made, strict=True))


def test_the_progress_bar_never_goes_back(
    comfy: Import, pack: Import, scene: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A chunk is finished when the next one has taken its steps."""
    monkeypatch.setattr(pack("host.cores"), "threads_beside", lambda *_: 2)
    shown: list[int] = []
    bar = comfy("comfy.utils").ProgressBar
    update = bar.update_absolute

    def note(self: Any, value: int, *rest: Any, **options: Any) -> None:
        shown.append(value)
        update(self, value, *rest, **options)

    monkeypatch.setattr(bar, "update_absolute", note)
    _, report = generate(pack, scene, keep="never")
    assert report["chunks_overlapped"] and shown == sorted(shown)
