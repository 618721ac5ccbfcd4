"""Mux & Save and Save Video on a real server: what a user sees while a file is written, and what cancelling leaves."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from asymtalker.media import encode_video
from asymtalker.scripts._client import ComfyClient, Graph, PromptFailed, PromptInterrupted, PromptRefused, videos
from asymtalker.scripts._server import ComfyServer
from asymtalker.tests.server.graphs import MakeGraph, node_id
from asymtalker.tests.server.media import probe

pytestmark = pytest.mark.server

NUM_FRAMES = 120
SIZE = 320


@pytest.fixture(scope="module")
def noise(client: ComfyClient, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Name of a video in the input folder that takes seconds to encode: noise."""
    rng = np.random.default_rng(0)
    path = tmp_path_factory.mktemp("noise") / "noise.mp4"
    frames = (rng.integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8) for _ in range(NUM_FRAMES))
    encode_video(frames, path, width=SIZE, height=SIZE, preset="ultrafast")
    return client.upload(path)


def saving(video: str, **inputs: Any) -> Graph:
    # A prefix of its own each time: the server makes nothing again that it has cached.
    prefix = f"saving/{uuid.uuid4().hex}"
    return {
        "load": {"class_type": "LoadVideo", "inputs": {"file": video}},
        "mux": {
            "class_type": "AsymTalkerMux",
            "inputs": {"video": ["load", 0], "filename_prefix": prefix, "crf": 0, **inputs},
        },
    }


def files(server: ComfyServer) -> set[Path]:
    """Files and working folders in the output folder."""
    found = (server.workdir / "output").rglob("*")
    return {path for path in found if path.is_file() or path.name.startswith(".")}


def ffmpegs(server: ComfyServer) -> list[int]:
    """Process ids of the server's running ffmpegs (Linux)."""
    assert server.process is not None
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            pid, rest = stat.read_text().split(" (", 1)
            name, fields = rest.rsplit(") ", 1)
            if name.startswith("ffmpeg") and int(fields.split()[1]) == server.process.pid:
                found.append(int(pid))
    return found


def test_progress_and_a_silent_save(client: ComfyClient, noise: str, tmp_path: Path) -> None:
    bar: list[tuple[int, int]] = []
    texts: list[str] = []

    def on_event(kind: str, data: dict[str, Any]) -> None:
        if kind == "progress" and data["node"] == "mux":
            bar.append((data["value"], data["max"]))
        elif kind == "progress_text" and data["node"] == "mux":
            texts.append(data["text"])

    (file,) = videos(client.run(saving(noise), on_event))
    assert file["subfolder"] == "saving"
    video = probe(client.download(file, tmp_path / "v.mp4"))
    assert len(video.frames) == NUM_FRAMES and video.audio is None
    assert bar == sorted(bar) and bar[0] == (0, NUM_FRAMES) and bar[-1] == (NUM_FRAMES, NUM_FRAMES) and len(bar) > 2
    assert any(text.startswith("saving: ") and f" of {NUM_FRAMES} frames, " in text for text in texts)
    note, saved = texts[-1].splitlines()
    assert "the video is saved silent" in note and saved.startswith(f"saved {file['filename']}: {NUM_FRAMES} frames")


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="finds ffmpeg in /proc")
@pytest.mark.parametrize("stopped", [False, True])
def test_cancelled_while_saving_nothing_is_left(
    client: ComfyClient, server: ComfyServer, noise: str, stopped: bool
) -> None:
    before, events_since, texts = files(server), -1, []

    def on_event(kind: str, data: dict[str, Any]) -> None:
        nonlocal events_since
        if kind == "progress_text":
            texts.append(data["text"])
        if kind != "progress" or data["node"] != "mux" or data["value"] == 0:
            return
        events_since += 1
        if events_since == 0:
            (ffmpeg,) = ffmpegs(server)
            if stopped:
                os.kill(ffmpeg, signal.SIGSTOP)
            client.interrupt()

    with pytest.raises(PromptInterrupted, match="AsymTalkerMux"):
        client.run(saving(noise), on_event)
    assert events_since <= 1 and texts[-1] == "cancelled, no file is left"
    assert files(server) == before and ffmpegs(server) == []


def test_cancelled_while_core_saves_the_samplers_video(
    client: ComfyClient, server: ComfyServer, make_graph: MakeGraph
) -> None:
    graph = make_graph(3.0, as_shipped=True)
    video = [node_id(graph, "AsymTalkerSampler"), 0]
    del graph[node_id(graph, "AsymTalkerMux")]
    graph["save"] = {
        "class_type": "SaveVideo",
        "inputs": {"video": video, "filename_prefix": "core/x", "format": "auto", "codec": "auto"},
    }
    before = files(server)

    def on_event(kind: str, data: dict[str, Any]) -> None:
        if kind == "progress" and data["node"] == "save":
            client.interrupt()

    with pytest.raises(PromptInterrupted, match="SaveVideo"):
        client.run(graph, on_event)
    assert files(server) == before
    # The frames are kept: only the saving is repeated.
    resumed: list[str] = []
    client.run(graph, lambda kind, data: resumed.append(data["text"]) if kind == "progress_text" else None)
    assert not any(text.startswith("chunk") for text in resumed)
    assert len(files(server) - before) == 1


@pytest.mark.parametrize(
    ("prefix", "message"),
    [
        ("../x", "leads out of the output folder"),
        ("a\0b", "NUL"),
        ("a\ud800b", "no file name"),
        ("n" * 300, "too long"),
    ],
)
def test_a_prefix_that_cannot_be_is_refused_when_queued(
    client: ComfyClient, server: ComfyServer, noise: str, prefix: str, message: str
) -> None:
    before = files(server)
    with pytest.raises(PromptRefused, match=f"^AsymTalkerMux .*filename_prefix: .*{message}") as refusal:
        client.run(saving(noise, filename_prefix=prefix))
    assert len(str(refusal.value).splitlines()) == 1
    assert files(server) == before


def test_a_prefix_that_comes_through_a_link_is_refused_when_saved(
    client: ComfyClient, server: ComfyServer, noise: str
) -> None:
    before = files(server)
    graph = saving(noise, filename_prefix=["text", 0])
    graph["text"] = {"class_type": "PrimitiveString", "inputs": {"value": "../x"}}
    with pytest.raises(PromptFailed, match=r"^AsymTalkerMux: filename_prefix: '\.\./x' leads out"):
        client.run(graph)
    assert files(server) == before


@pytest.mark.parametrize("workflow", ["text", ["a", 1], {"nodes": "none"}, None])
def test_a_workflow_of_any_form_does_not_stop_a_save(
    client: ComfyClient, noise: str, tmp_path: Path, workflow: Any
) -> None:
    graph = saving(noise, crf=51)
    (file,) = videos(client.run(graph, workflow=workflow))
    tags = probe(client.download(file, tmp_path / "v.mp4")).metadata
    assert ("workflow" in tags) == (workflow is not None) and "prompt" in tags


@pytest.mark.parametrize("extra", ["text", ["a"], {"comment": "mine", "software": "mine"}, {"a": "b" * 3_000_000}])
def test_extra_data_of_any_form_does_not_stop_a_save(
    client: ComfyClient, noise: str, tmp_path: Path, extra: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    post: Callable[..., Any] = client.post

    def with_extra(path: str, body: dict[str, Any]) -> Any:
        if path == "/prompt":
            body["extra_data"] = {"extra_pnginfo": extra}
        return post(path, body)

    monkeypatch.setattr(client, "post", with_extra)
    (file,) = videos(client.run(saving(noise, crf=51)))
    tags = probe(client.download(file, tmp_path / "v.mp4")).metadata
    assert tags["software"] == "ComfyUI-AsymTalker" and "AI-generated" in tags["comment"]


def test_a_video_without_sound_through_get_video_components(client: ComfyClient, noise: str, tmp_path: Path) -> None:
    graph = saving(noise, audio=["parts", 1], crf=51)
    graph["parts"] = {"class_type": "GetVideoComponents", "inputs": {"video": ["load", 0]}}
    (file,) = videos(client.run(graph))
    assert probe(client.download(file, tmp_path / "v.mp4")).audio is None
