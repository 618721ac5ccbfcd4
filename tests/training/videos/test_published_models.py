"""Clips for the published networks, through ComfyUI's own VAEs and wav2vec2 with random weights in their files."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from asymtalker.benchmarks.comfyui import WAN_VAE, WAV2VEC2_BASE
from asymtalker.models.audio import wav2vec2_features
from asymtalker.models.checkpoint import read_checkpoint
from asymtalker.tests.host.checkpoints.test_ltx_vae import SMALL as SMALL_LTX
from asymtalker.tests.training.videos.videos import person, speech, write_video
from asymtalker.training.__main__ import main
from asymtalker.training.core.data import PreparedClips
from asymtalker.training.core.family import GEOMETRIES
from asymtalker.training.core.host import BatchCodec, stock_codec, use_comfyui
from asymtalker.training.videos.prepare import PrepareSettings, prepare
from asymtalker.training.videos.video import look


def random_weights(network: torch.nn.Module, path: Path, metadata: dict[str, str] | None = None) -> Path:
    torch.manual_seed(1)
    tensors = {
        name: torch.randn(tensor.shape) * 0.02 if tensor.is_floating_point() else tensor
        for name, tensor in network.state_dict().items()
    }
    save_file({name: tensor.abs() if "std" in name else tensor for name, tensor in tensors.items()}, path, metadata)
    return path


@pytest.fixture(scope="module")
def files(comfyui: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A narrow Wan 2.1 VAE, a shallow LTX-Video VAE and a wav2vec2-base."""
    use_comfyui()
    folder = tmp_path_factory.mktemp("files")
    wan = importlib.import_module("comfy.ldm.wan.vae").WanVAE(dim=8, dropout=0.0, **WAN_VAE)
    ltx = importlib.import_module("comfy.ldm.lightricks.vae.causal_video_autoencoder").VideoVAE(config=SMALL_LTX)
    core = importlib.import_module("comfy.audio_encoders.wav2vec2")
    encoder = core.Wav2Vec2Model(**WAV2VEC2_BASE, operations=torch.nn)
    return {
        "pro": random_weights(wan, folder / "wan_2.1_vae.safetensors"),
        "lite": random_weights(ltx, folder / "ltx_vae.safetensors", {"config": json.dumps({"vae": SMALL_LTX})}),
        "audio": random_weights(encoder, folder / "wav2vec2.safetensors"),
    }


@pytest.mark.parametrize(("model", "frames", "shape"), [("pro", 61, (2, 16, 9, 8, 8)), ("lite", 57, (2, 128, 5, 2, 2))])
def test_latents_and_features(
    files: dict[str, Path], tmp_path: Path, model: str, frames: int, shape: tuple[int, ...]
) -> None:
    video = write_video(tmp_path / "videos" / "one.mp4", person(frames + 3), audio=speech(2.7))
    settings = PrepareSettings(model, 64, 2, False, 2.2, 32)
    prepare(video.parent, tmp_path / "clips", settings, files[model], files["audio"])
    clip, _ = read_checkpoint(tmp_path / "clips" / "clip_one_000000.safetensors")
    assert tuple(clip["latents"].shape) == shape and tuple(clip["reference"].shape) == shape[1:]
    assert torch.isfinite(clip["latents"]).all()
    assert torch.allclose(clip["latents"][0, :, 0].float(), clip["reference"][:, 0].float(), atol=2e-3)
    audio = look(video, lambda picture: None, 10.0).audio
    assert torch.allclose(clip["features"].float(), features(files["audio"], audio)[:frames], atol=2e-3, rtol=2e-3)
    clips = PreparedClips(tmp_path / "clips", seed=1, length=1, chunks=2)
    latents, _, windows, mask, *_ = clips[0]
    audio_config = GEOMETRIES[model].audio
    assert windows.shape == (2, 33, 5, audio_config.blocks, audio_config.channels)
    assert torch.equal(windows[1, :, 2], clip["features"][frames - 33 : frames].float())
    assert tuple(latents.shape) == shape and mask.shape == (2, 1, *shape[2:])


def features(file: Path, audio: torch.Tensor) -> torch.Tensor:
    network: Any = importlib.import_module("comfy.audio_encoders.wav2vec2").Wav2Vec2Model(
        **WAV2VEC2_BASE, operations=torch.nn
    )
    network.load_state_dict(read_checkpoint(file)[0])
    with torch.no_grad():
        return wav2vec2_features(network.eval(), audio, -(-audio.shape[0] // 640))


def test_from_videos_to_a_student_that_the_loader_reads(
    files: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`prepare`, `full-teacher` and `full-akd` one after the other, with ComfyUI's VAE in the rollouts."""
    write_video(tmp_path / "videos" / "one.mp4", person(64), audio=speech(2.7))
    prepare(
        tmp_path / "videos",
        tmp_path / "clips",
        PrepareSettings("pro", 64, 2, False, 2.2, 32),
        files["pro"],
        files["audio"],
    )
    audio = "{ intermediate_dim = 8, context_tokens = 2 }"
    network = f"{{ dim = 48, ffn_dim = 64, num_heads = 2, num_layers = 2, audio = {audio} }}"
    reduced = {"steps": "2", "batch": "2", "micro_batch": "1", "mixed_precision": "false", "network": network}

    def run(command: str, options: dict[str, Path], changes: dict[str, str]) -> None:
        given = [word for name, value in options.items() for word in (f"--{name}", str(value))]
        settings = [word for key, value in (reduced | changes).items() for word in ("--set", f"{key} = {value}")]
        monkeypatch.setattr(sys, "argv", ["training", command, "--workers", "0", *given, *settings])
        main()

    run("full-teacher", {"data": tmp_path / "clips", "out": tmp_path / "teacher"}, {})
    teacher = tmp_path / "teacher" / "teacher.safetensors"
    run(
        "full-akd",
        {"data": tmp_path / "clips", "out": tmp_path / "akd", "teacher": teacher, "vae": files["pro"]},
        {"chunks": "2", "critic_updates": "1", "critic_warmup": "1", "denoising_steps": "2"},
    )
    model = importlib.import_module("asymtalker.host.model")
    checkpoint = importlib.import_module("asymtalker.models.checkpoint")
    for path, sampler in ((teacher, "euler"), (tmp_path / "akd" / "student.safetensors", "few_step")):
        loaded = model.load_model(*checkpoint.read_published(path), name=path.name)
        assert loaded.model.checkpoint.sampling.sampler == sampler
        assert loaded.model.checkpoint.config.audio.blocks == 12


def test_stock_codecs_take_batches(files: dict[str, Path]) -> None:
    codec = stock_codec(GEOMETRIES["pro"], "pro", files["pro"])
    pixels = torch.rand(2, 3, 9, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
    batched = BatchCodec(codec)
    latents = batched.encode(pixels)
    assert torch.allclose(latents, torch.cat([codec.encode(pixels[:1]), codec.encode(pixels[1:])]))
    assert batched.decode(latents).shape == pixels.shape


def test_missing_files_are_named(folders: Path, tmp_path: Path) -> None:
    write_video(tmp_path / "videos" / "one.mp4", person(64), audio=speech(2.7))
    with pytest.raises(FileNotFoundError, match=r"wan_2\.1_vae\.safetensors"):
        prepare(tmp_path / "videos", tmp_path / "clips", PrepareSettings("pro", 64, 1, False, 2.2, 32))


def test_the_wrong_vae_is_refused(files: dict[str, Path], tmp_path: Path) -> None:
    write_video(tmp_path / "videos" / "one.mp4", person(64), audio=speech(2.7))
    with pytest.raises(ValueError, match="128 latent channels"):
        prepare(
            tmp_path / "videos",
            tmp_path / "clips",
            PrepareSettings("pro", 64, 1, False, 2.2, 32),
            files["lite"],
            files["audio"],
        )
