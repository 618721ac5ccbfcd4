"""A face inside a larger picture, cropped, animated and pasted back by a real server."""

from __future__ import annotations

import json
from itertools import islice
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image

from asymtalker.scripts._client import ComfyClient, Graph, PromptFailed, videos
from asymtalker.scripts._environment import ROOT
from asymtalker.tests.server.graphs import node, node_id
from asymtalker.tests.server.media import probe, speech_like, write_portrait, write_wav

pytestmark = pytest.mark.server

ASSETS = ROOT / "workflows" / "assets"
PAINTING = ASSETS / "asymtalker_painting.png"


def shipped(client: ComfyClient, folder: Path, name: str, **files: Path) -> Graph:
    """A shipped graph with 0.4 s of speech; ``files`` are those of its nodes of these types."""
    graph: Graph = json.loads((ROOT / "workflows" / "api" / f"{name}.json").read_text("utf-8"))
    files["LoadAudio"] = write_wav(folder / "short.wav", speech_like(0.4, 16000, 1), 16000)
    for entry in graph.values():
        inputs, class_type = entry["inputs"], entry["class_type"]
        if class_type in files:
            inputs[{"LoadImage": "image", "LoadAudio": "audio", "LoadVideo": "file"}[class_type]] = client.upload(
                files[class_type]
            )
        if class_type == "AsymTalkerReference":
            inputs.update(width=64, height=64)
        if class_type == "AsymTalkerSampler":
            inputs["steps"] = 1
    return graph


@pytest.fixture
def graph(client: ComfyClient, tmp_path: Path) -> Graph:
    """The shipped graph of a larger picture."""
    return shipped(client, tmp_path, "asymtalker_larger_picture", LoadImage=PAINTING)


def test_the_picture_keeps_its_size_and_only_the_face_moves(client: ComfyClient, graph: Graph, tmp_path: Path) -> None:
    """Through Mux & Save and core's Save Video at once."""
    node(graph, "AsymTalkerReference").update(width=256, height=256)
    node(graph, "AsymTalkerSampler")["steps"] = 0
    paste = [node_id(graph, "AsymTalkerFacePaste"), 0]
    options = {"filename_prefix": "core", "format": "auto", "codec": "auto"}
    graph["core"] = {"class_type": "SaveVideo", "inputs": {"video": paste, **options}}
    muxed, by_core = sorted(videos(client.run(graph)), key=lambda file: file["filename"])
    picture = np.asarray(Image.open(PAINTING).convert("RGB")).astype(float)
    for file in (muxed, by_core):
        video = probe(client.download(file, tmp_path / file["filename"]))
        assert video.frames.shape == (10, 720, 1280, 3) and video.fps == 25
        assert video.audio is not None and abs(video.audio.shape[0] / video.audio_rate - 0.4) < 0.1
        assert "AI-generated" in video.metadata["comment"]
        frames = video.frames.astype(float)
        assert np.abs(frames[:, :, :400] - picture[:, :400]).mean() < 3
        # Around the mouth of the painting.
        assert np.abs(frames[:, 320:380, 580:710] - picture[320:380, 580:710]).mean() > 3


def test_without_a_face_the_remedy_is_named(client: ComfyClient, graph: Graph, tmp_path: Path) -> None:
    node(graph, "LoadImage")["image"] = client.upload(write_portrait(tmp_path / "oval.png", 640, 480))
    with pytest.raises(PromptFailed, match=r"AsymTalkerFaceCrop: image: no face was found.*on_missing to centre"):
        client.run(graph)
    node(graph, "AsymTalkerFaceCrop")["on_missing"] = "centre"
    assert client.run(graph)["status"]["completed"]


def write_clip(path: Path, fps: int = 30) -> Path:
    """12 frames of the example clip, and 3 plain ones after a cut."""
    with av.open(str(ASSETS / "asymtalker_clip.mp4")) as clip:
        frames = [frame.reformat(320, 180, "rgb24").to_ndarray() for frame in islice(clip.decode(video=0), 12)]
    frames += [np.full_like(frames[0], 20)] * 3
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=fps, options={"crf": "10"})
        stream.width, stream.height, stream.pix_fmt = 320, 180, "yuv420p"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, "rgb24")))
        container.mux(stream.encode())
    return path


def test_dubbing_changes_the_face_alone(client: ComfyClient, tmp_path: Path) -> None:
    """Frames, rate and the shot after the cut stay; the sound is the new one."""
    clip = write_clip(tmp_path / "clip.mp4")
    graph = shipped(client, tmp_path, "asymtalker_dubbing", LoadVideo=clip)
    told: dict[str, str] = {}

    def on_event(kind: str, data: dict[str, Any]) -> None:
        if kind == "progress_text":
            told[graph[data["node"]]["class_type"]] = data["text"]

    (file,) = videos(client.run(graph, on_event=on_event))
    assert "the video has cuts: shot 0 of 1 with a face, from 0.00 to 0.40 s" in told["AsymTalkerFaceTrack"]
    dubbed, own = probe(client.download(file, tmp_path / "dubbed.mp4")), probe(clip)
    assert dubbed.fps == 30 and dubbed.frames.shape == own.frames.shape == (15, 180, 320, 3)
    moved = np.abs(dubbed.frames.astype(float) - own.frames).mean(axis=(2, 3))
    assert moved[12:].max() < 4 and moved[:12, 60:140].mean() > 2
    assert np.abs(dubbed.frames[:12, :, :40].astype(float) - own.frames[:12, :, :40]).mean() < 4
    assert dubbed.audio is not None and len(dubbed.audio) >= 6400


def test_a_video_without_a_face_is_one_message(client: ComfyClient, graph: Graph, tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "late.mp4")
    dubbing = shipped(client, tmp_path, "asymtalker_dubbing", LoadVideo=clip)
    node(dubbing, "AsymTalkerFaceTrack")["face_index"] = 3
    with pytest.raises(PromptFailed, match="AsymTalkerFaceTrack: video: no face 3 was found in its 15 frames"):
        client.run(dubbing)


def test_two_people_speak_in_turn(client: ComfyClient, tmp_path: Path) -> None:
    """Both halves of the picture come from their own Sampler, over the same picture."""
    picture = ASSETS / "asymtalker_two_people.jpg"
    graph = shipped(client, tmp_path, "asymtalker_two_people", LoadImage=picture)
    node(graph, "AsymTalkerConversation")["turns"] = "0.2"
    (file,) = videos(client.run(graph))
    both, own = probe(client.download(file, tmp_path / "both.mp4")), np.asarray(Image.open(picture)).astype(float)
    assert both.frames.shape == (10, 720, 1280, 3) and both.audio is not None and len(both.audio) >= 6400
    moved = np.abs(both.frames.astype(float) - own).mean(axis=(0, 3))
    assert moved[:30].max() < 20 and moved[200:500, 200:450].mean() > 2 and moved[200:500, 830:1080].mean() > 2
