"""The live player's routes in a real aiohttp server, as hostile clients use them; what an ended generation holds."""

from __future__ import annotations

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

from asymtalker.tests.helpers import Import
from asymtalker.tests.live_jobs import MadeJob, Routes, live_routes, made_job

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
def made(pack: Import, tmp_path: Path) -> Iterator[MadeJob]:
    """A running generation of which three of four chunks are there."""
    with made_job(pack, tmp_path / "spool", CHUNKS + 1, FRAMES) as made:
        made.add(CHUNKS)
        yield made


@pytest.fixture
def job(made: MadeJob) -> Any:
    return made.job


@pytest.fixture(scope="module")
def port(pack: Import) -> Iterator[Routes]:
    with live_routes(pack) as routes:
        yield routes


METHODS = [
    (method, path) for method in ("POST", "PUT", "DELETE", "PATCH", "OPTIONS") for path in ("", "/JOB", "/JOB/0")
] + [("GET", "/JOB/watch"), ("POST", "/nothing/watch")]
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
    port: Routes, job: Any, caplog: pytest.LogCaptureFixture
) -> None:
    cases = [(method, ROUTE + path.replace("JOB", job.id)) for method, path in METHODS]
    cases += [("GET", f"{ROUTE}/{name}{part}") for name in IDS for part in ("", "/init", "/0", "/stream")]
    cases += [("GET", f"{ROUTE}/{job.id}/{number}") for number in NUMBERS]
    cases += [(method, f"{ROUTE}/{job.id}/stream?first={first}") for first in FIRSTS for method in ("GET", "HEAD")]
    client = Client(port.port)
    for method, path in cases:
        status, _, _ = client.ask(method, path)
        assert 400 <= status < 500, (method, path[:80], status)
        assert json.loads(client.ask("GET", ROUTE)[2])[0]["id"] == job.id, (method, path[:80])
    assert not job.is_watched
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


def test_head_sends_no_body_and_is_no_viewer(port: Routes, job: Any) -> None:
    client = Client(port.port)
    for part in ("", f"/{job.id}", f"/{job.id}/init", f"/{job.id}/0", f"/{job.id}/stream", f"/{job.id}/stream?first=2"):
        status, _, _ = client.ask("HEAD", ROUTE + part)
        assert status == 200, part
        assert json.loads(client.ask("GET", ROUTE)[2])[0]["done"] == CHUNKS, "the connection is in step"
    assert client.ask("HEAD", f"{ROUTE}/{job.id}/3")[0] == 404
    assert not job.is_watched
    assert client.ask("GET", f"{ROUTE}/{job.id}/0")[0] == 200 and job.is_watched


def test_a_player_says_that_it_is_seen(port: Routes, job: Any) -> None:
    assert Client(port.port).ask("POST", f"{ROUTE}/{job.id}/watch")[0] == 204 and job.is_watched


@pytest.mark.parametrize("header", ["Range: bytes=0-0", "Range: bytes=-99999999999999999999", "Range: lines=x"])
def test_ranges_are_not_served_and_do_no_harm(port: Routes, job: Any, header: str) -> None:
    client = Client(port.port)
    whole = client.ask("GET", f"{ROUTE}/{job.id}/1")[2]
    assert client.ask("GET", f"{ROUTE}/{job.id}/1", f"{header}\r\n")[2] == whole


def test_viewers_who_leave_end_their_stream_without_a_traceback(
    port: Routes, job: Any, caplog: pytest.LogCaptureFixture
) -> None:
    for first in range(CHUNKS):
        client = Client(port.port)
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


def test_a_stream_whose_frames_are_gone_breaks_off(port: Routes, job: Any, tmp_path: Path) -> None:
    job._recent.clear()
    (tmp_path / "spool" / "000001.segment").unlink()
    client = Client(port.port)
    with pytest.raises((OSError, ValueError)):
        client.ask("GET", f"{ROUTE}/{job.id}/stream")
    assert Client(port.port).ask("GET", f"{ROUTE}/{job.id}/1")[0] == 410


def test_an_ended_generation_holds_no_sound_and_still_serves_it(pack: Import, job: Any, folders: Path) -> None:
    live = pack("live.jobs")
    waveform = np.random.default_rng(0).normal(0, 0.1, (1, 20_000)).astype(np.float32)
    job._sound = pack("media.audio_track").AudioTrack(waveform, 16_000)
    before = job.fragment(1)
    reference = weakref.ref(waveform)
    del waveform
    job._spool.flush()
    job.end(live.JobState.FINISHED)
    assert reference() is None and isinstance(job._sound.waveform, np.memmap)
    job._fragments.clear()
    assert job.fragment(1) == before


@pytest.mark.parametrize(
    "extra",
    [None, {}, [], "x", 3, {"workflow": None}, {"workflow": "a string"}, {"workflow": [1]}, {"workflow": {}}]
    + [{"workflow": {"id": value}} for value in (None, 3, ["x"], {"x": 1})],
)
def test_a_workflow_of_another_form_has_no_id(pack: Import, extra: Any) -> None:
    workflow_id = pack("live.origin").workflow_id
    assert workflow_id(extra) is None
    assert workflow_id({"workflow": {"id": "x"}}) == "x"


@pytest.mark.parametrize("prompt", [None, [], "x", {}, {"9": None}, {"9": {"class_type": "SaveVideo", "inputs": 3}}])
def test_a_prompt_of_another_form_has_no_savers(pack: Import, prompt: Any) -> None:
    assert list(pack("live.origin").savers_of(prompt, "5:7")) == []


def test_savers_are_found_through_subgraphs_and_other_nodes(pack: Import) -> None:
    prompt = {
        "5:7": {"class_type": "AsymTalkerSampler", "inputs": {"seed": 1}},
        "8": {"class_type": "AsymTalkerFacePaste", "inputs": {"face": ["5:7", 0], "picture": ["2", 0]}},
        "9": {"class_type": "AsymTalkerMux", "inputs": {"video": ["8", 0]}},
        "6:3": {"class_type": "SaveVideo", "inputs": {"video": ["5:7", 0]}},
        "10": {"class_type": "AsymTalkerMux", "inputs": {"video": ["2", 0]}},
        "11": {"class_type": "PreviewAny", "inputs": {"source": ["5:7", 1]}},
        "2": {"class_type": "LoadImage", "inputs": {"image": "x.png"}},
    }
    assert list(pack("live.origin").savers_of(prompt, "5:7")) == ["9", "6:3"]
    hidden = SimpleNamespace(prompt=prompt, unique_id="5:7", extra_pnginfo=None)
    assert pack("live.origin").Origin.of_this_run(hidden).own_savers == ("6:3",), "a pasted face is not the file"


def test_how_a_generation_ends_is_told(pack: Import, job: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    live, shown = pack("live.jobs"), []
    monkeypatch.setattr(live, "show", lambda node_id, text: shown.append((node_id, text)))
    stopped = live.InterruptProcessingException()
    for error, state, text in (
        (stopped, live.JobState.STOPPED, None),
        (ValueError("no\udc80 face"), live.JobState.FAILED, "no\\udc80 face"),
    ):
        with pytest.raises(type(error)), live.watchable(job):
            raise error
        assert (job.summary()["state"], job.summary()["error"]) == (state, text)
        assert job.summary()["resumes"] and job.summary()["seconds_left"] == 0
        assert shown[-1] == ("1", f"{state} after chunk 3 of 4; Run resumes from chunk 4")


def test_a_viewer_counts_for_a_few_seconds(pack: Import, job: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    live, now = pack("live.jobs"), [100.0]
    monkeypatch.setattr(live.time, "monotonic", lambda: now[0])
    assert not job.is_watched
    job.watch()
    now[0] += live.WATCHED_S - 0.1
    assert job.is_watched
    now[0] += 0.2
    assert not job.is_watched
