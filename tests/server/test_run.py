"""The shipped nano graph, run by a real server: what comes out, and what happens when something is wrong."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from asymtalker.scripts._client import ComfyClient, Graph, PromptFailed, PromptInterrupted, PromptRefused, videos
from asymtalker.scripts._server import ComfyServer
from asymtalker.tests.server.graphs import MakeGraph, node, node_id
from asymtalker.tests.server.media import Probe, probe, speech_like, write_portrait, write_wav

pytestmark = pytest.mark.server

FPS = 25


def run_and_probe(client: ComfyClient, graph: Graph, target: Path, **options: Any) -> Probe:
    """Run a graph that saves one video and decode it."""
    (file,) = videos(client.run(graph, **options))
    return probe(client.download(file, target))


def output_files(server: ComfyServer) -> set[Path]:
    """Return the files in the output folder."""
    return {path for path in (server.workdir / "output").rglob("*") if path.is_file()}


def test_progress_history_and_metadata(client: ComfyClient, make_graph: MakeGraph, tmp_path: Path) -> None:
    graph, workflow = make_graph(1.0, as_shipped=True), {"nodes": [], "links": [], "extra": {"note": "embedded"}}
    sampler, steps, texts = node_id(graph, "AsymTalkerSampler"), [], []

    def on_event(kind: str, data: dict[str, Any]) -> None:
        if kind == "progress" and data["node"] == sampler:
            steps.append((data["value"], data["max"]))
        elif kind == "progress_text" and data["node"] == sampler:
            texts.append(data["text"])

    video = run_and_probe(client, graph, tmp_path / "video.mp4", on_event=on_event, workflow=workflow)
    values, maxima = zip(*steps, strict=True)
    assert list(values) == sorted(values) and len(set(values)) > 1 and len(set(maxima)) == 1
    assert values[-1] == maxima[-1]
    assert any(text.startswith("chunk 1 of 1") for text in texts)
    assert json.loads(video.metadata["workflow"]) == workflow
    prompt = json.loads(video.metadata["prompt"])
    for entry in prompt.values():
        # The server notes there what it found in the input files.
        entry.pop("is_changed", None)
    assert prompt == graph
    assert (video.video_codec, video.audio_codec) == ("h264", "aac")
    assert video.frames.shape == (25, 256, 256, 3)


@pytest.mark.parametrize(
    ("seconds", "rate", "channels"),
    [(0.04, 16000, 1), (0.5, 44100, 2), (1.0, 8000, 1), (1.21, 192000, 6), (2.37, 48000, 2)],
)
def test_length_and_audio_are_exact(
    client: ComfyClient, make_graph: MakeGraph, tmp_path: Path, seconds: float, rate: int, channels: int
) -> None:
    graph = make_graph(seconds, rate, channels)
    video = run_and_probe(client, graph, tmp_path / "video.mp4")
    assert video.frames.shape == (math.ceil(seconds * FPS), 64, 64, 3)
    assert video.fps == FPS
    original = speech_like(seconds, rate, channels)
    assert video.audio is not None and video.audio_rate == rate
    assert video.audio_seconds == pytest.approx(len(original) / rate, abs=0.5 / rate)
    assert video.audio.shape[1] == channels and len(video.audio) >= len(original)
    # The codec is lossy; what must hold is that it is this sound, at this place.
    decoded, said = video.audio[: len(original), 0], original[:, 0]
    if seconds >= 0.5:
        assert np.corrcoef(decoded, said)[0, 1] > 0.9
    assert abs(video.video_start_s - video.audio_start_s) < 1 / FPS


def test_same_seed_gives_the_same_frames(client: ComfyClient, make_graph: MakeGraph, tmp_path: Path) -> None:
    def frames(seed: int, name: str) -> np.ndarray[Any, Any]:
        client.free()
        graph = make_graph(0.5, prefix=name)
        node(graph, "AsymTalkerSampler")["seed"] = seed
        graph["report"] = {
            "class_type": "PreviewAny",
            "inputs": {"source": [node_id(graph, "AsymTalkerSampler"), 1]},
        }
        history = client.run(graph)
        (text,) = history["outputs"]["report"]["text"]
        # Made anew, not taken from ComfyUI's cache or from frames on disk.
        assert json.loads(text)["chunks_resumed"] == 0 and json.loads(text)["fps"] > 0
        (file,) = videos(history)
        return probe(client.download(file, tmp_path / f"{name}.mp4")).frames

    first, second, other = frames(7, "first"), frames(7, "second"), frames(8, "other")
    assert np.array_equal(first, second)
    assert not np.array_equal(first, other)


def test_core_nodes_take_the_samplers_video(client: ComfyClient, make_graph: MakeGraph, tmp_path: Path) -> None:
    graph = make_graph(0.5)
    video = [node_id(graph, "AsymTalkerSampler"), 0]
    del graph[node_id(graph, "AsymTalkerMux")]
    save = {"video": video, "filename_prefix": "core", "format": "auto", "codec": "auto"}
    graph["save"] = {"class_type": "SaveVideo", "inputs": save}
    graph["split"] = {"class_type": "GetVideoComponents", "inputs": {"video": video}}
    graph["images"] = {"class_type": "PreviewImage", "inputs": {"images": ["split", 0]}}
    graph["fps"] = {"class_type": "PreviewAny", "inputs": {"source": ["split", 2]}}
    history = client.run(graph)
    (file,) = videos(history)
    saved = probe(client.download(file, tmp_path / "core.mp4"))
    assert len(saved.frames) == 13 and saved.fps == FPS
    assert saved.audio is not None and abs(saved.audio_seconds - 0.5) < 0.1
    images = history["outputs"]["images"]["images"]
    assert len(images) == 13
    assert [float(text) for text in history["outputs"]["fps"]["text"]] == [FPS]
    with Image.open(client.download(images[-1], tmp_path / "last.png")) as last:
        difference = np.asarray(last.convert("RGB")).astype(int) - saved.frames[-1]
    assert np.abs(difference).mean() < 6


def test_cancel_takes_effect_and_leaves_the_server_usable(
    client: ComfyClient, server: ComfyServer, make_graph: MakeGraph, tmp_path: Path
) -> None:
    before, steps_after = output_files(server), -1

    def cancel_at_first_step(kind: str, data: dict[str, Any]) -> None:
        nonlocal steps_after
        if kind == "progress":
            steps_after += 1
            if steps_after == 0:
                client.interrupt()

    with pytest.raises(PromptInterrupted, match="AsymTalkerSampler"):
        client.run(make_graph(30.0, as_shipped=True), cancel_at_first_step)
    # The step under way when the message comes, and no other.
    assert steps_after <= 1
    assert output_files(server) == before
    assert len(run_and_probe(client, make_graph(0.2), tmp_path / "after.mp4").frames) == 5


def test_transparency_is_laid_over_white(client: ComfyClient, make_graph: MakeGraph, tmp_path: Path) -> None:
    graph = make_graph(0.04)
    image = node_id(graph, "LoadImage")
    graph["alpha"] = {"class_type": "JoinImageWithAlpha", "inputs": {"image": [image, 0], "alpha": [image, 1]}}
    node(graph, "AsymTalkerReference")["image"] = ["alpha", 0]
    assert len(run_and_probe(client, graph, tmp_path / "video.mp4").frames) == 1


class TestBadInput:
    """Each gives one clear error that names the input, leaves no file, and the server goes on."""

    @pytest.fixture(autouse=True)
    def nothing_left(self, server: ComfyServer) -> Any:
        before = output_files(server)
        yield
        assert output_files(server) == before

    def test_empty_audio(self, client: ComfyClient, make_graph: MakeGraph) -> None:
        graph = make_graph(0.04)
        graph[node_id(graph, "LoadAudio")] = {
            "class_type": "EmptyAudio",
            "inputs": {"duration": 0.0, "sample_rate": 16000, "channels": 1},
        }
        with pytest.raises(PromptFailed, match=r"^AsymTalkerAudioFeatures: .*audio.*empty"):
            client.run(graph)

    def test_nan_audio(self, client: ComfyClient, make_graph: MakeGraph, tmp_path: Path) -> None:
        graph, samples = make_graph(0.04), speech_like(0.2, 16000, 1)
        samples[100] = np.nan
        node(graph, "LoadAudio")["audio"] = client.upload(write_wav(tmp_path / "nan.wav", samples, 16000))
        with pytest.raises(PromptFailed, match=r"^AsymTalkerAudioFeatures: .*audio.*NaN"):
            client.run(graph)

    def test_tiny_portrait(self, client: ComfyClient, make_graph: MakeGraph, tmp_path: Path) -> None:
        graph = make_graph(0.04)
        node(graph, "LoadImage")["image"] = client.upload(write_portrait(tmp_path / "tiny.png", 1, 1))
        with pytest.raises(PromptFailed, match=r"^AsymTalkerReference: .*image.*1x1"):
            client.run(graph)

    def test_two_portraits(self, client: ComfyClient, make_graph: MakeGraph) -> None:
        graph = make_graph(0.04)
        batch = {"image": [node_id(graph, "LoadImage"), 0], "amount": 2}
        graph["batch"] = {"class_type": "RepeatImageBatch", "inputs": batch}
        node(graph, "AsymTalkerReference")["image"] = ["batch", 0]
        with pytest.raises(PromptFailed, match=r"^AsymTalkerReference: .*2 portraits"):
            client.run(graph)

    def test_checkpoint_that_is_not_installed(self, client: ComfyClient, make_graph: MakeGraph) -> None:
        graph = make_graph(0.04)
        node(graph, "AsymTalkerLoader")["model"] = "asymtalker/SoulX-FlashHead-1_3B/Model_Pro"
        with pytest.raises(PromptRefused, match=r"diffusion_pytorch_model\.safetensors.*models.asymtalker"):
            client.run(graph)

    def test_the_server_goes_on(self, client: ComfyClient, make_graph: MakeGraph) -> None:
        graph = make_graph(0.04)
        del graph[node_id(graph, "AsymTalkerMux")]
        graph["seen"] = {"class_type": "PreviewAny", "inputs": {"source": [node_id(graph, "AsymTalkerSampler"), 1]}}
        assert client.run(graph)["status"]["completed"]
