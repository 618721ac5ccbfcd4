"""A finished video goes on with more audio, as its help page says: two Audio Features and core's Audio Concat."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import pytest

from asymtalker.scripts._client import ComfyClient, videos
from asymtalker.tests.server.graphs import MakeGraph, node, node_id
from asymtalker.tests.server.media import probe, speech_like, write_wav

pytestmark = pytest.mark.server


def test_a_finished_video_goes_on(client: ComfyClient, make_graph: MakeGraph, tmp_path: Path) -> None:
    first = make_graph(3.0, prefix="extended")
    node(first, "AsymTalkerSampler")["keep"] = "for extending"
    client.run(first)

    both = copy.deepcopy(first)
    features, load, sampler = (
        node_id(both, kind) for kind in ("AsymTalkerAudioFeatures", "LoadAudio", "AsymTalkerSampler")
    )
    further = client.upload(write_wav(tmp_path / "further.wav", speech_like(1.5, 22050, 1), 22050))
    both["further"] = {"class_type": "LoadAudio", "inputs": {"audio": further}}
    both["more"] = copy.deepcopy(both[features])
    both["more"]["inputs"] |= {"audio": ["further", 0], "continues": [features, 0]}
    both[sampler]["inputs"]["audio_features"] = ["more", 0]
    joined = {"audio1": [load, 0], "audio2": ["further", 0], "direction": "after"}
    both["joined"] = {"class_type": "AudioConcat", "inputs": joined}
    node(both, "AsymTalkerMux")["audio"] = ["joined", 0]
    both["report"] = {"class_type": "PreviewAny", "inputs": {"source": [sampler, 1]}}
    history = client.run(both)

    report = json.loads(history["outputs"]["report"]["text"][0])
    # 75 frames are chunks of 33, 28 and 14; the last one's features included the recording's end.
    assert (report["chunks_resumed"], report["frames"]) == (2, 113)
    (file,) = videos(history)
    video = probe(client.download(file, tmp_path / "extended.mp4"))
    assert len(video.frames) == 113 and video.audio_seconds == pytest.approx(4.5, abs=0.05)
