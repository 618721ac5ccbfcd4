"""The Sampler's VIDEO in a running ComfyUI: saved by core in every form, trimmed, made again where frames are gone."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from asymtalker.scripts._client import ComfyClient, Graph, PromptFailed, videos
from asymtalker.scripts._server import ComfyServer
from asymtalker.tests.server.graphs import MakeGraph, node, node_id
from asymtalker.tests.server.media import probe

pytestmark = pytest.mark.server

FPS = 25


def silent(make_graph: MakeGraph, save: dict[str, Any]) -> Graph:
    """The nano graph with core's Save Video in place of Mux & Save."""
    graph = make_graph(0.5)
    video = [node_id(graph, "AsymTalkerSampler"), 0]
    del graph[node_id(graph, "AsymTalkerMux")]
    graph["save"] = {"class_type": "SaveVideo", "inputs": {"video": video, "filename_prefix": "core", **save}}
    return graph


@pytest.mark.parametrize(
    ("options", "suffix", "codec"),
    [
        ({"format": "webm", "format.codec": "av1"}, ".webm", "av1"),
        (
            {
                "format": "mkv",
                "format.codec": "h264",
                "format.codec.encoding": "re-encode",
                "format.codec.encoding.crf": 30.0,
                "format.codec.encoding.color_space": "auto",
            },
            ".mkv",
            "h264",
        ),
        ({"format": "mp4", "format.codec": "av1"}, ".mp4", "av1"),
    ],
)
def test_core_saves_it_in_every_form_that_it_offers(
    client: ComfyClient,
    object_info: dict[str, Any],
    make_graph: MakeGraph,
    tmp_path: Path,
    options: dict[str, Any],
    suffix: str,
    codec: str,
) -> None:
    if "webm" not in str(object_info["SaveVideo"]["input"]):
        pytest.skip("this ComfyUI writes mp4 alone")
    (file,) = videos(client.run(silent(make_graph, options)))
    assert file["filename"].endswith(suffix)
    saved = probe(client.download(file, tmp_path / file["filename"]))
    assert saved.video_codec.removeprefix("lib").startswith(codec) or saved.video_codec == "libdav1d"
    assert len(saved.frames) == 13 and saved.fps == FPS


def test_what_core_cannot_save_is_refused_before_the_video_is_made(
    client: ComfyClient, object_info: dict[str, Any], make_graph: MakeGraph
) -> None:
    if "HDR" not in str(object_info["SaveVideo"]["input"]):
        pytest.skip("this ComfyUI has no choice of colours")
    encoding = {
        "format.codec.encoding": "re-encode",
        "format.codec.encoding.crf": 23.0,
        "format.codec.encoding.color_space": "HDR",
    }
    graph = silent(make_graph, {"format": "mp4", "format.codec": "h264", **encoding})
    node(graph, "AsymTalkerSampler")["seed"] = 17
    video = node(graph, "SaveVideo")["video"]
    trim = {"video": video, "start_time": 0.0, "duration": 0.2, "strict_duration": False}
    graph["trim"] = {"class_type": "Video Slice", "inputs": trim}
    node(graph, "SaveVideo")["video"] = ["trim", 0]
    with pytest.raises(PromptFailed, match=r"AsymTalkerSampler: Save Video \(node save\): color_space: "):
        client.run(graph)


def test_cores_trim_goes_into_mux(
    client: ComfyClient, object_info: dict[str, Any], make_graph: MakeGraph, tmp_path: Path
) -> None:
    if "Video Slice" not in object_info:
        pytest.skip("this ComfyUI cannot trim videos")
    graph = make_graph(0.5)
    mux = node(graph, "AsymTalkerMux")
    trim = {"video": mux["video"], "start_time": 0.2, "duration": 0.2, "strict_duration": True}
    graph["trim"] = {"class_type": "Video Slice", "inputs": trim}
    mux["video"] = ["trim", 0]
    (file,) = videos(client.run(graph))
    assert len(probe(client.download(file, tmp_path / "trimmed.mp4")).frames) == 5


def lose(spool: Path, gone: str) -> None:
    """Remove the frames, the first chunk of them, or change a byte in it."""
    if gone == "the folder":
        shutil.rmtree(spool)
        return
    chunk = next(spool.glob("*.segment"))
    content = chunk.read_bytes()
    chunk.unlink()
    if gone == "a byte":
        chunk.write_bytes(bytes([content[0] ^ 1]) + content[1:])


@pytest.mark.parametrize("gone", ["the folder", "a chunk", "a byte"])
def test_frames_that_are_gone_are_made_when_the_job_is_queued_again(
    client: ComfyClient, server: ComfyServer, make_graph: MakeGraph, tmp_path: Path, gone: str
) -> None:
    """Although ComfyUI has the video in its cache."""
    graph = make_graph(0.5, prefix="first")
    node(graph, "AsymTalkerSampler")["seed"] = 91 + len(gone)
    sampler = node_id(graph, "AsymTalkerSampler")
    spools = server.workdir / "user" / "asymtalker" / "spool"
    others = set(spools.glob("*"))
    cached: list[str] = []

    def run(prefix: str) -> Any:
        node(graph, "AsymTalkerMux")["filename_prefix"] = prefix
        cached.clear()
        return client.run(
            graph, lambda kind, data: cached.extend(data["nodes"]) if kind == "execution_cached" else None
        )

    run("first")
    (spool,) = set(spools.glob("*")) - others
    run("second")
    assert sampler in cached
    lose(spool, gone)
    with pytest.raises(PromptFailed, match="AsymTalkerMux"):
        run("third")
    (file,) = videos(run("third"))
    assert sampler not in cached
    assert len(probe(client.download(file, tmp_path / "again.mp4")).frames) == 13
    run("fourth")
    assert sampler in cached, "an unchanged job stays in the cache"
