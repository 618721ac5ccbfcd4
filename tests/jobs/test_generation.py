"""From portrait and audio to a VIDEO on disk with a tiny random network: resuming, ownership, core's interface."""

from __future__ import annotations

import dataclasses
import gc
import json
import re
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import av
import pytest
import torch

from asymtalker.tests.helpers import NUM_FRAMES, Import, generate


def test_video_has_every_frame_and_cores_interface(pack: Import, scene: SimpleNamespace, tmp_path: Path) -> None:
    video, report = generate(pack, scene)
    assert (report["frames"], report["width"], report["height"]) == (NUM_FRAMES, 64, 64)
    assert [chunk["frames"] for chunk in report["chunks"]] == [33, 28, 9]
    assert report["sampling"]["steps"] == 2 and report["sampling"]["shift"] == 5.0
    assert video.get_dimensions() == (64, 64) and video.get_frame_count() == NUM_FRAMES
    assert video.get_frame_rate() == Fraction(25) and video.get_duration() == NUM_FRAMES / 25
    components = video.get_components()
    assert components.images.shape == (NUM_FRAMES, 64, 64, 3)
    assert torch.equal(components.audio["waveform"], scene.audio["waveform"])
    assert components.audio["sample_rate"] == scene.audio["sample_rate"]
    video.save_to(str(tmp_path / "core.mp4"), metadata={"prompt": {"1": "x"}})
    with av.open(str(tmp_path / "core.mp4")) as container:
        assert sum(1 for _ in container.decode(video=0)) == NUM_FRAMES
        assert json.loads(container.metadata["prompt"]) == {"1": "x"}
    with pytest.raises(ValueError, match=r"format: this ComfyUI writes auto, mp4.*, not gif"):
        video.save_to(str(tmp_path / "core.gif"), format="gif")


def test_detail_of_minus_1_is_the_checkpoints_own(pack: Import) -> None:
    settings, config = pack("jobs.inputs").Settings, pack("models.config")
    own = config.SamplingConfig(detail=0.75)
    for given, used in ((-1.0, 0.75), (-0.05, 0.0), (0.0, 0.0), (0.25, 0.25)):
        chosen = settings(0, 0, "auto", 0.0, 0.0, None, detail=given).resolve(own, 33)
        assert chosen == dataclasses.replace(own, detail=used)
    with pytest.raises(config.ConfigError, match=r"detail must be a number in 0\.\.1, got 2"):
        settings(0, 0, "auto", 0.0, 0.0, None, detail=2.0).resolve(own, 33)


def test_blinks_of_minus_1_are_the_checkpoints_own(pack: Import) -> None:
    settings, config = pack("jobs.inputs").Settings, pack("models.config")
    own = config.SamplingConfig(blinks=20)
    for given, used in ((-1.0, 20), (-0.5, 0.0), (0.0, 0.0), (12.0, 12.0)):
        chosen = settings(0, 0, "auto", 0.0, 0.0, None, blinks=given).resolve(own, 33)
        assert chosen == dataclasses.replace(own, blinks=used)
    with pytest.raises(config.ConfigError, match=r"blinks must be a number in 0\.\.60, got 90"):
        settings(0, 0, "auto", 0.0, 0.0, None, blinks=90.0).resolve(own, 33)


def test_blinks_are_drawn_where_there_is_a_face(pack: Import, scene: SimpleNamespace) -> None:
    """Without one, blinks change neither frames nor the job's id."""
    face = torch.full((pack("models.face_mesh").LANDMARKS, 2), 0.5)
    for lines, left in zip(pack("models.eyelids").EYES, (0.2, 0.6), strict=True):
        for line, y in zip(lines, (0.4, 0.6, 0.2), strict=True):
            middle = torch.linspace(left, left + 0.2, len(line))
            face[list(line)] = torch.stack((middle, torch.full((len(line),), y)), dim=-1)
    make_job, inputs = pack("jobs.job").make_job, pack("jobs.inputs").Inputs

    def made(reference: Any, blinks: float) -> tuple[str, torch.Tensor]:
        scene.reference = reference
        settings = dataclasses.replace(scene.settings, blinks=blinks)
        job = make_job(inputs(scene.model, scene.vae, reference, scene.features, settings))
        return job.job_id, generate(pack, scene, blinks=blinks)[0].get_components().images

    plain = scene.reference
    seeing = dataclasses.replace(plain, face=face)
    (job, frames), (same_job, same_frames) = made(plain, 0.0), made(plain, 30.0)
    assert job == same_job and torch.equal(frames, same_frames)
    open_job, open_frames = made(seeing, 0.0)
    assert open_job == job and torch.equal(open_frames, frames)
    blinking_job, blinking = made(seeing, 60.0)
    changed = (blinking != frames).flatten(1).any(dim=1)
    assert blinking_job != job and 5 <= changed.sum() <= NUM_FRAMES / 2


def test_saving_with_audio_keeps_it(pack: Import, scene: SimpleNamespace, folders: Path) -> None:
    video, _ = generate(pack, scene)
    saved, result = pack("video.saving").save_with_audio(video, scene.audio, "video/test", 18, True, {"1": {}}, None)
    assert (folders / "output" / result.subfolder / result.filename).is_file()
    assert [path.suffix for path in (folders / "output" / "video").iterdir()] == [".mp4"]
    with av.open(saved.get_stream_source()) as container:
        track = container.streams.audio[0]
        assert (track.rate, track.codec_context.channels) == (8_000, 2)


@pytest.mark.parametrize("detail", [0.0, 1.0])
def test_interrupted_job_continues_bit_identically(
    comfy: Import, pack: Import, scene: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, detail: float
) -> None:
    whole, _ = generate(pack, scene, detail=detail)
    frames = whole.get_components().images
    del whole
    gc.collect()
    assert list(scene.spools.iterdir()) == []

    management, progress = comfy("comfy.model_management"), pack("jobs.progress").RolloutProgress
    on_chunk = progress.on_chunk

    def cancel_after_second(self: Any, chunk: Any) -> None:
        if chunk.record.index == 1:
            management.interrupt_current_processing()
        on_chunk(self, chunk)

    with monkeypatch.context() as patch, pytest.raises(management.InterruptProcessingException):
        patch.setattr(progress, "on_chunk", cancel_after_second)
        generate(pack, scene, detail=detail)
    assert len(list(scene.spools.iterdir())) == 1

    resumed, report = generate(pack, scene, detail=detail)
    assert report["chunks_resumed"] == 2
    assert torch.equal(resumed.get_components().images, frames)


def test_a_spool_lives_as_long_as_any_of_its_videos(pack: Import, scene: SimpleNamespace) -> None:
    first, _ = generate(pack, scene)
    second, report = generate(pack, scene)
    assert report["chunks_resumed"] == 3
    del first
    gc.collect()
    assert second.get_components().images.shape[0] == NUM_FRAMES
    del second
    gc.collect()
    assert list(scene.spools.iterdir()) == []


def test_every_change_of_content_is_another_job(comfy: Import, pack: Import, scene: SimpleNamespace) -> None:
    options = pack("models.rollout").ContinuityOptions
    make_job, inputs = pack("jobs.job").make_job, pack("jobs.inputs").Inputs
    base = {
        "model": scene.model,
        "vae": scene.vae,
        "reference": scene.reference,
        "audio": scene.features,
        "settings": scene.settings,
    }
    patched = scene.model.clone()
    weight = patched.model.diffusion_model.blocks[0].self_attn.q.weight
    patched.add_patches({"diffusion_model.blocks.0.self_attn.q.weight": ("diff", (torch.ones_like(weight),))}, 0.5)
    host = pack("host.audio")
    other_end = {**scene.audio, "waveform": scene.audio["waveform"].clone()}
    other_end["waveform"][..., -1] += 0.5

    def features_of(audio: Any, listening: str = "whole") -> Any:
        return host.audio_features(host.LogMelAudioEncoder(), audio, listening)

    other = dataclasses.replace(scene.reference, latents=scene.reference.latents + 1)
    changes = [
        {},
        {"settings": dataclasses.replace(scene.settings, seed=4)},
        {"model": patched},
        {"audio": features_of(other_end)},
        {"audio": features_of(scene.audio, "rolling")},
        {"reference": other},
        {"settings": dataclasses.replace(scene.settings, continuity=options(carry="latents"))},
        {"settings": dataclasses.replace(scene.settings, steps=3)},
    ]
    jobs = [make_job(inputs(**{**base, **change})) for change in changes]
    assert len({job.job_id for job in jobs}) == len(changes)
    assert make_job(inputs(**{**base, "audio": features_of(scene.audio)})) == jobs[0]


def test_features_of_another_encoder_are_refused_before_any_work(pack: Import, scene: SimpleNamespace) -> None:
    scene.features = pack("models.audio").AudioFeatures(torch.zeros(5, 12, 768), "wav2vec2")
    with pytest.raises(ValueError, match=r"audio_features: wav2vec2 gives 12 x 768.*needs 1 x 320"):
        generate(pack, scene)
    assert not scene.spools.exists()


def test_a_chunk_that_memory_cannot_hold_is_refused_with_the_numbers(pack: Import, scene: SimpleNamespace) -> None:
    # Expanded tensors: a picture of 65536 x 65536 that takes no memory itself.
    scene.reference = dataclasses.replace(
        scene.reference,
        latents=torch.zeros(1, 48, 9, 1, 1).expand(-1, -1, -1, 4096, 4096),
        portrait=torch.zeros(1, 3, 1, 1, 1).expand(-1, -1, -1, 65536, 65536),
    )
    with pytest.raises(MemoryError, match=r"33 frames of 65536x65536 takes about \d+\.\d GB, and \d+\.\d GB is free"):
        generate(pack, scene)
    assert not scene.spools.exists()


def test_each_chunk_says_speed_and_time_left(
    pack: Import, scene: SimpleNamespace, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    _, report = generate(pack, scene)
    told = [record.getMessage() for record in caplog.records if "AsymTalker: chunk" in record.getMessage()]
    assert re.search(r"chunk 0 of 3, at most [\d.]+ [kMG]B of disk and about [\d.]+ [kMG]B of memory", told[0])
    assert len(told) == 4
    assert re.search(r"chunk 1 of 3, [\d.]+ fps \([\d.]+x real time\), \d+ s left", told[1])
    assert report["chunks_regenerated"] == []
    assert all(not chunk["regenerated"] and "sharpness" in chunk["stats"] for chunk in report["chunks"])


def test_durations(pack: Import) -> None:
    duration = pack("host.progress").duration
    assert [duration(seconds) for seconds in (0.4, 59.4, 185, 7830)] == ["0 s", "59 s", "3 min 5 s", "2 h 10 min"]
