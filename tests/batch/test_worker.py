"""One worker and a real ComfyUI: what is queued once, taken over, refused and retried."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from asymtalker.batch.files import digest_of
from asymtalker.batch.graph import file_targets, find_graph
from asymtalker.batch.server import NamedServer, OwnServer
from asymtalker.batch.shelf import Record
from asymtalker.batch.storage import SharedStorage
from asymtalker.batch.worker import Order, Renderer, Status
from asymtalker.scripts._environment import ROOT
from asymtalker.scripts._server import ComfyServer
from asymtalker.tests.batch.gate import TOKEN, Gate
from asymtalker.tests.server.media import speech_like, write_portrait, write_wav

pytestmark = pytest.mark.server

MakeOrder = Callable[..., Order]
PORTRAIT = ROOT / "workflows" / "assets" / "asymtalker_portrait.png"


@pytest.fixture
def make_order(tmp_path: Path) -> MakeOrder:
    """Make an order for a shipped graph with speech of a length of its own."""

    def make(seconds: float, graph: str = "nano", picture: Path = PORTRAIT) -> Order:
        speech = write_wav(tmp_path / f"{seconds}.wav", speech_like(seconds, 16000, 1), 16000)
        filled = find_graph(graph)
        paths = {"LoadImage": picture, "LoadAudio": speech}
        files = {target: paths[filled[target.node]["class_type"]] for target in file_targets(filled)}
        return Order(f"{graph}-{seconds}", filled, {target: (path, digest_of(path)) for target, path in files.items()})

    return make


def renderer(url: str, parts: Path, on_chunk: Callable[[str, int, int], None] = lambda *chunk: None) -> Renderer:
    parts.mkdir(exist_ok=True)
    made = Renderer(NamedServer(url, (("Authorization", TOKEN),)), SharedStorage(parts), on_chunk)
    made.ready()
    return made


def test_a_run_that_goes_on_after_its_workers_end_is_taken_over(
    server: ComfyServer, make_order: MakeOrder, tmp_path: Path
) -> None:
    order, begun = make_order(2.5), threading.Event()
    with Gate(server.url) as gate:
        first = renderer(gate.url, tmp_path / "first", lambda *chunk: begun.set())
        # Stands for the worker that is lost: nobody looks at what it delivers.
        lost = threading.Thread(target=first.render, args=(order,))
        lost.start()
        assert begun.wait(300)
        outcome = renderer(gate.url, tmp_path / "second").render(order)
        lost.join()
        assert outcome.status is Status.DONE and len(gate.queued) == 1
    record = Record.load(tmp_path / "second", order.clip)
    assert record.figures["chunks"] == 3 and record.thumbnail.startswith(b"\xff\xd8")


def test_no_face_is_refused_and_not_tried_again(server: ComfyServer, make_order: MakeOrder, tmp_path: Path) -> None:
    picture = write_portrait(tmp_path / "no_face.png")
    order = make_order(0.5, "asymtalker_larger_picture", picture)
    outcome = renderer(server.url, tmp_path / "parts").render(order)
    assert outcome.status is Status.REFUSED and "no face was found" in outcome.reason
    assert order.graph[outcome.node]["class_type"] == "AsymTalkerFaceCrop"
    assert list((tmp_path / "parts").iterdir()) == []


def test_a_server_that_is_gone_is_not_the_clips_fault(make_order: MakeOrder, tmp_path: Path) -> None:
    (tmp_path / "parts").mkdir()
    gone = Renderer(NamedServer("http://127.0.0.1:9"), SharedStorage(tmp_path / "parts"), lambda *chunk: None)
    outcome = gone.render(make_order(0.5))
    assert outcome.status is Status.LOST and not outcome.is_begun and "http://127.0.0.1:9 was lost" in outcome.reason


def test_a_cancelled_run_is_removed_from_the_queue(server: ComfyServer, make_order: MakeOrder, tmp_path: Path) -> None:
    begun = threading.Event()
    worker = renderer(server.url, tmp_path / "parts", lambda *chunk: begun.set())
    outcomes = []
    thread = threading.Thread(target=lambda: outcomes.append(worker.render(make_order(60.0))))
    thread.start()
    assert begun.wait(300)
    worker.cancel()
    thread.join()
    assert outcomes[0].status is Status.RETRY and "cancelled" in outcomes[0].reason


def test_a_video_that_was_saved_before_the_end_of_its_server_is_found(comfyui: Path, tmp_path: Path) -> None:
    own = OwnServer(tmp_path, "worker_1", cpu=True)
    saved = tmp_path / "output" / "asymtalker_batch" / "clip"
    saved.mkdir(parents=True)
    assert own.saved("clip", {"8": "AsymTalkerMux"}) is None
    (saved / "8_00001_.mp4").write_bytes(b"video")
    entry = {"filename": "8_00001_.mp4", "subfolder": "asymtalker_batch/clip", "type": "output"}
    assert own.saved("clip", {"8": "AsymTalkerMux"}) == [entry]
    # Core's node may have been stopped in the middle of the file.
    assert own.saved("clip", {"8": "SaveVideo"}) is None
    own.discard("clip")
    assert not saved.exists()
