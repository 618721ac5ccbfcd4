"""A face inside a larger picture, cropped, animated and pasted back by a real server."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from asymtalker.scripts._client import ComfyClient, Graph, PromptFailed, videos
from asymtalker.scripts._environment import ROOT
from asymtalker.tests.server.graphs import node, node_id
from asymtalker.tests.server.media import probe, speech_like, write_portrait, write_wav

pytestmark = pytest.mark.server

PAINTING = ROOT / "workflows" / "assets" / "asymtalker_painting.png"


@pytest.fixture
def graph(client: ComfyClient, tmp_path: Path) -> Graph:
    """The shipped graph with 0.4 s of speech."""
    shipped: Graph = json.loads((ROOT / "workflows" / "api" / "asymtalker_larger_picture.json").read_text("utf-8"))
    graph = copy.deepcopy(shipped)
    node(graph, "LoadImage")["image"] = client.upload(PAINTING)
    node(graph, "LoadAudio")["audio"] = client.upload(
        write_wav(tmp_path / "short.wav", speech_like(0.4, 16000, 1), 16000)
    )
    return graph


def test_the_picture_keeps_its_size_and_only_the_face_moves(client: ComfyClient, graph: Graph, tmp_path: Path) -> None:
    """Through Mux & Save and core's Save Video at once."""
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
