"""The live player's routes in a real aiohttp server, as hostile clients use them; what an ended generation holds."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
import struct
import threading
import weakref
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from aiohttp import web

from asymtalker.tests.helpers import ROOT, Import, moving_frames

ROUTE = "/asymtalker/live"
CHUNKS, FRAMES = 3, 8


class Client:
    """One kept-alive connection, used by hand."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=30)
        self._file = self.socket.makefile("rb")

    def send(self, method: str, path: str, headers: str = "") -> None:
        request = f"{method} {path} HTTP/1.1\r\nHost: x\r\n{headers}\r\n"
        self.socket.sendall(request.encode("utf-8", "surrogateescape"))

    def ask(self, method: str, path: str, headers: str = "") -> tuple[int, dict[str, str], bytes]:
        self.send(method, path, headers)
        status = int(self._file.readline().split()[1])
        fields = {}
        while line := self._file.readline().strip():
            name, _, value = line.decode().partition(": ")
            fields[name.lower()] = value
        body = b""
        if method != "HEAD":
            if fields.get("transfer-encoding") == "chunked":
                while size := int(self._file.readline(), 16):
                    body += self._file.read(size)
                    self._file.readline()
                self._file.readline()
            else:
                body = self._file.read(int(fields.get("content-length", 0)))
        return status, fields, body

    def leave(self) -> None:
        """Reset the connection, as a browser that is closed."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._file.close()
        self.socket.close()


@pytest.fixture
def job(pack: Import, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A running generation of which three of four chunks are there, with sound."""
    live, media = pack("live.jobs"), pack("media")
    header = media.SpoolHeader("job", 64, 48, metadata={})
    sound = pack("media.carrier").AudioTrack(np.zeros((1, 16_000), np.float32), 16_000)
    made = live.LiveJob(live.Origin("1", None, None), header, CHUNKS + 1, 4 * FRAMES, sound)
    monkeypatch.setattr(live.JOBS, "_jobs", {made.id: made})
    chunk, record = pack("models.rollout").Chunk, pack("models.record").ChunkRecord
    with media.SpoolWriter(tmp_path / "spool", header) as spool:
        made.begin(spool)
        for index in range(CHUNKS):
            frames = moving_frames(FRAMES, seed=index)
            spool.append(frames)
            about = record(index=index, first_frame=index * FRAMES, frames=FRAMES, stats={})
            made.add(chunk(about, torch.from_numpy(frames)), 25.0, 1.0)
        yield made


@pytest.fixture
def port(pack: Import, job: Any) -> Iterator[SimpleNamespace]:
    """The routes in a server, beside the pack's ``web``; ``running`` is how many requests it is answering."""
    state, routes = SimpleNamespace(running=0), web.RouteTableDef()
    pack("live.routes").add_routes(routes)
    loop, ready, stop = asyncio.new_event_loop(), threading.Event(), asyncio.Event()

    @web.middleware
    async def counted(request: web.Request, handler: Any) -> Any:
        state.running += 1
        try:
            return await handler(request)
        finally:
            state.running -= 1

    async def serve() -> None:
        app = web.Application(middlewares=[counted])
        app.add_routes(routes)
        app.router.add_static("/web", ROOT / "web")
        runner = web.AppRunner(app, shutdown_timeout=1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        state.number = runner.addresses[0][1]
        ready.set()
        await stop.wait()
        await runner.cleanup()

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
    thread.start()
    assert ready.wait(30)
    yield state
    loop.call_soon_threadsafe(stop.set)
    thread.join(30)
    loop.close()


METHODS = [
    (method, path) for method in ("POST", "PUT", "DELETE", "PATCH", "OPTIONS") for path in ("", "/JOB", "/JOB/0")
]
IDS = [
    "nothing",
    "%00",
    "..%2f..%2fspool",
    "%2fetc%2fpasswd",
    "a" * 4000,
    "%ff%fe",
    "%ed%a0%80",
    "%D9%A3",
    "{job}",
    "*",
]
NUMBERS = ["-1", "4", "3", "1e3", "0x1", "99999999", "9" * 4000, "%D9%A3", "1.0", "%201", "job.json", "..%2fjob.json"]
FIRSTS = ["-1", "4", "9999999", "1e9", "9" * 4300, "9" * 5000, "%D9%A3", "", "NaN", "%00", "0x1", "1%200"]


def test_hostile_requests_get_one_clear_answer_and_keep_the_connection_in_step(
    port: SimpleNamespace, job: Any, caplog: pytest.LogCaptureFixture
) -> None:
    cases = [(method, ROUTE + path.replace("JOB", job.id)) for method, path in METHODS]
    cases += [("GET", f"{ROUTE}/{name}{part}") for name in IDS for part in ("", "/init", "/0", "/stream")]
    cases += [("GET", f"{ROUTE}/{job.id}/{number}") for number in NUMBERS]
    cases += [(method, f"{ROUTE}/{job.id}/stream?first={first}") for first in FIRSTS for method in ("GET", "HEAD")]
    client = Client(port.number)
    for method, path in cases:
        status, _, _ = client.ask(method, path)
        assert 400 <= status < 500, (method, path[:80], status)
        assert json.loads(client.ask("GET", ROUTE)[2])[0]["id"] == job.id, (method, path[:80])
    assert not job.is_watched
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


def test_head_sends_no_body_and_is_no_viewer(port: SimpleNamespace, job: Any) -> None:
    client = Client(port.number)
    for part in ("", f"/{job.id}", f"/{job.id}/init", f"/{job.id}/0", f"/{job.id}/stream", f"/{job.id}/stream?first=2"):
        status, _, _ = client.ask("HEAD", ROUTE + part)
        assert status == 200, part
        assert json.loads(client.ask("GET", ROUTE)[2])[0]["done"] == CHUNKS, "the connection is in step"
    assert client.ask("HEAD", f"{ROUTE}/{job.id}/3")[0] == 404
    assert not job.is_watched
    assert client.ask("GET", f"{ROUTE}/{job.id}/0")[0] == 200 and job.is_watched


@pytest.mark.parametrize("header", ["Range: bytes=0-0", "Range: bytes=-99999999999999999999", "Range: lines=x"])
def test_ranges_are_not_served_and_do_no_harm(port: SimpleNamespace, job: Any, header: str) -> None:
    client = Client(port.number)
    whole = client.ask("GET", f"{ROUTE}/{job.id}/1")[2]
    assert client.ask("GET", f"{ROUTE}/{job.id}/1", f"{header}\r\n")[2] == whole


def test_viewers_who_leave_end_their_stream_without_a_traceback(
    port: SimpleNamespace, job: Any, caplog: pytest.LogCaptureFixture
) -> None:
    for first in range(CHUNKS):
        client = Client(port.number)
        client.send("GET", f"{ROUTE}/{job.id}/stream?first={first}")
        assert client.socket.recv(100).startswith(b"HTTP/1.1 200")
        client.leave()
    deadline = threading.Event()
    for _ in range(3000):
        if port.running == 0:
            break
        deadline.wait(0.01)
    assert port.running == 0, "nothing is waited for on their behalf"
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


def test_a_stream_whose_frames_are_gone_breaks_off(port: SimpleNamespace, job: Any, tmp_path: Path) -> None:
    job._recent.clear()
    (tmp_path / "spool" / "000001.segment").unlink()
    client = Client(port.number)
    with pytest.raises((OSError, ValueError)):
        client.ask("GET", f"{ROUTE}/{job.id}/stream")
    assert Client(port.number).ask("GET", f"{ROUTE}/{job.id}/1")[0] == 410


def test_an_ended_generation_holds_no_sound_and_still_serves_it(pack: Import, job: Any, folders: Path) -> None:
    live = pack("live.jobs")
    waveform = np.random.default_rng(0).normal(0, 0.1, (1, 20_000)).astype(np.float32)
    job._sound = pack("media.carrier").AudioTrack(waveform, 16_000)
    before = job.fragment(1)
    reference = weakref.ref(waveform)
    del waveform
    job._spool.flush()
    job.end(live.FINISHED)
    assert reference() is None and isinstance(job._sound.waveform, np.memmap)
    job._fragments.clear()
    assert job.fragment(1) == before


@pytest.mark.parametrize(
    "extra",
    [None, {}, [], "x", 3, {"workflow": None}, {"workflow": "a string"}, {"workflow": [1]}, {"workflow": {}}]
    + [{"workflow": {"id": value}} for value in (None, 3, ["x"], {"x": 1})],
)
def test_a_workflow_of_another_form_has_no_id(pack: Import, extra: Any) -> None:
    workflow_id = pack("live.jobs").workflow_id
    assert workflow_id(SimpleNamespace(extra_pnginfo=extra)) is None
    assert workflow_id(SimpleNamespace(extra_pnginfo={"workflow": {"id": "x"}})) == "x"
