"""Stock VAE and AUDIO_ENCODER objects, and the checks on what is connected."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from asymtalker.benchmarks.comfyui import WAV2VEC2_BASE
from asymtalker.tests.helpers import ROOT, Import


@pytest.fixture(params=[torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
def nano_vae(request: pytest.FixtureRequest, pack: Import, monkeypatch: pytest.MonkeyPatch) -> Any:
    """As on a CPU with and without products of bfloat16."""
    torch.manual_seed(0)
    module = pack("models.nano_vae")
    monkeypatch.setattr(pack("host.precision"), "multiplies_bf16", lambda: request.param == torch.bfloat16)
    network = module.NanoVAE(module.NanoVAEConfig(width=16))
    vae = pack("host.vae").load_nano_vae(network.state_dict(), network.config.to_metadata())
    assert vae.vae_dtype == request.param
    return vae


@pytest.fixture
def images() -> torch.Tensor:
    return torch.rand(9, 32, 48, 3, generator=torch.Generator().manual_seed(2))


def test_core_vae_nodes_work_on_nanos_vae(comfy: Import, nano_vae: Any, images: torch.Tensor) -> None:
    nodes = comfy("nodes")
    (latent,) = nodes.VAEEncode().encode(nano_vae, images)
    assert latent["samples"].shape == (1, 48, 3, 2, 3)
    (decoded,) = nodes.VAEDecode().decode(nano_vae, latent)
    assert decoded.shape == images.shape

    network, dtype = nano_vae.first_stage_model, nano_vae.vae_dtype
    pixels = (images * 2 - 1).movedim(-1, 0)[None].to(dtype)
    torch.testing.assert_close(latent["samples"], network.encode(pixels).float())
    by_hand = ((network.decode(latent["samples"].to(dtype)).float() + 1) / 2).clamp(0, 1)
    torch.testing.assert_close(decoded, by_hand[0].movedim(0, -1))


@pytest.mark.parametrize("flag", ["fp32_vae", "force_fp32"])
def test_float32_can_be_asked_for(
    flag: str, comfy: Import, nano_vae: Any, pack: Import, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(comfy("comfy.cli_args").args, flag, True)
    network = nano_vae.first_stage_model
    again = pack("host.vae").load_nano_vae(network.state_dict(), network.config.to_metadata())
    assert again.vae_dtype == torch.float32


def test_core_tiled_nodes_work_on_nanos_vae(comfy: Import, nano_vae: Any) -> None:
    nodes = comfy("nodes")
    images = torch.rand(9, 96, 128, 3, generator=torch.Generator().manual_seed(3))
    (latent,) = nodes.VAEEncodeTiled().encode(nano_vae, images, 64, 32)
    assert latent["samples"].shape == (1, 48, 3, 6, 8)
    (decoded,) = nodes.VAEDecodeTiled().decode(nano_vae, latent, 64, 32)
    assert decoded.shape == images.shape


def test_nanos_vae_answers_compression_queries(nano_vae: Any) -> None:
    assert nano_vae.spacial_compression_encode() == nano_vae.spacial_compression_decode() == 16
    assert nano_vae.temporal_compression_decode() == 4
    assert nano_vae.get_sd().keys() == nano_vae.first_stage_model.state_dict().keys()


def test_nanos_vae_leaves_out_frames_beyond_whole_groups(nano_vae: Any, images: torch.Tensor) -> None:
    torch.testing.assert_close(nano_vae.encode(images[:7]), nano_vae.encode(images[:5]))
    assert nano_vae.encode(images[:1]).shape[2] == 1


def test_log_mel_encoder_has_cores_interface(comfy: Import, pack: Import) -> None:
    encoder = pack("host.audio").LogMelAudioEncoder()
    audio = {"waveform": torch.randn(1, 2, 44_100), "sample_rate": 44_100}
    node = comfy("comfy_extras.nodes_audio_encoder").AudioEncoderEncode
    output = node.execute(encoder, audio).result[0]
    assert output["encoded_audio"].shape == (1, 25, 320)
    assert output["audio_samples"] == 16_000
    features = pack("host.audio").audio_features(encoder, audio)
    torch.testing.assert_close(features.features[:, 0], output["encoded_audio"][0])


def test_wav2vec2_is_loaded_and_run_in_float32(comfy: Import, pack: Import) -> None:
    core = comfy("comfy.audio_encoders.wav2vec2")
    torch.manual_seed(0)
    network = core.Wav2Vec2Model(
        **WAV2VEC2_BASE,
        do_normalize=False,
        dtype=torch.float32,
        operations=comfy("comfy.ops").manual_cast,
    )
    weights = {name: torch.randn(tensor.shape) * 0.02 for name, tensor in network.state_dict().items()}
    encoder = pack("host.checkpoints.wav2vec2").load_wav2vec2({f"wav2vec2.{k}": v for k, v in weights.items()}, "test")
    assert {parameter.dtype for parameter in encoder.model.parameters()} == {torch.float32}
    stored = encoder.model.state_dict()
    assert all(torch.equal(stored[name], tensor) for name, tensor in weights.items())
    features = pack("host.audio").audio_features(encoder, {"waveform": torch.randn(1, 1, 8_000), "sample_rate": 16_000})
    assert features.features.shape == (13, 12, 768) and features.features.dtype == torch.float32
    # What 16 kHz can hold is kept, and what it cannot does not fold back into it.
    for frequency, amplitude in ((7_000, 1.0), (9_000, 0.0)):
        tone = torch.sin(2 * math.pi * frequency * torch.arange(48_000) / 48_000)
        features = pack("host.audio").audio_features(encoder, {"waveform": tone[None, None], "sample_rate": 48_000})
        middle = features.speech.waveform[800:-800]
        assert 2**0.5 * middle.square().mean().sqrt().item() == pytest.approx(amplitude, abs=1e-3)


@pytest.mark.parametrize(
    ("audio", "message"),
    [
        ({"waveform": torch.zeros(1, 1, 0), "sample_rate": 16_000}, "audio: the clip is empty"),
        ({"waveform": torch.full((1, 1, 100), float("nan")), "sample_rate": 16_000}, "audio: .*NaN"),
        ({"waveform": torch.zeros(2, 1, 100), "sample_rate": 16_000}, "audio: one clip is needed"),
        ({"waveform": torch.zeros(1, 9, 100), "sample_rate": 16_000}, "audio: 9 channels"),
        ({"waveform": torch.zeros(1, 1, 100), "sample_rate": 4_000}, "audio: 4000 Hz"),
    ],
)
def test_bad_audio_is_refused_by_name(pack: Import, audio: dict[str, Any], message: str) -> None:
    host = pack("host.audio")
    with pytest.raises(ValueError, match=message):
        host.audio_features(host.LogMelAudioEncoder(), audio)


@pytest.mark.parametrize(("samples", "rate", "frames"), [(10, 48_000, 1), (1, 8_000, 1), (8_001, 8_000, 26)])
def test_every_length_gives_whole_frames(pack: Import, samples: int, rate: int, frames: int) -> None:
    host = pack("host.audio")
    audio = {"waveform": torch.randn(1, 6, samples), "sample_rate": rate}
    assert host.audio_features(host.LogMelAudioEncoder(), audio).num_frames == frames


def test_portraits_are_checked(pack: Import) -> None:
    checked = pack("host.portrait").checked_portrait
    with pytest.raises(ValueError, match=r"image: 2 portraits in a batch.*one video per portrait"):
        checked(torch.zeros(2, 64, 64, 3))
    with pytest.raises(ValueError, match="image: 1x1 is too small"):
        checked(torch.zeros(1, 1, 1, 3))
    with pytest.raises(ValueError, match="NaN"):
        checked(torch.full((1, 64, 64, 3), float("nan")))
    transparent = torch.cat((torch.zeros(1, 64, 64, 3), torch.zeros(1, 64, 64, 1)), dim=-1)
    rgb, notes = checked(transparent)
    assert rgb.shape == (1, 64, 64, 3) and bool((rgb == 1).all()) and "transparency" in notes[0]


def test_sizes_are_rounded_to_what_the_model_makes(pack: Import, golden: Path) -> None:
    tensors, metadata = pack("models.checkpoint").read_checkpoint(golden / "dit_pro_open.weights.safetensors")
    config = pack("models.config").DiTConfig.from_state_dict(tensors, metadata)
    step_y, step_x = config.pixel_multiple
    width, height, notes = pack("host.portrait").rounded_size(10 * step_x + 1, 1, config)
    assert (width, height) == (10 * step_x, step_y) and str(width) in notes[0]
    assert pack("host.portrait").rounded_size(4 * step_x, 4 * step_y, config)[2] == []


@pytest.mark.parametrize(("mode", "is_told"), [("temporal", False), ("static", True)])
def test_nano_says_which_reference_it_knows(
    pack: Import, nano_vae: Any, images: torch.Tensor, caplog: pytest.LogCaptureFixture, mode: str, is_told: bool
) -> None:
    tensors, metadata = pack("models.checkpoint").read_checkpoint(ROOT / "models/nano/asymtalker_nano.safetensors")
    model = pack("host.model").load_model(tensors, metadata, name="nano")
    with caplog.at_level("INFO"):
        pack("host.portrait").encode_reference(model, nano_vae, images[:1], 64, 64, mode, None)
    assert ("nano was trained with mode temporal; with static, the video will look wrong" in caplog.text) == is_told


def test_vae_of_another_model_is_refused(pack: Import, golden: Path, nano_vae: Any) -> None:
    tensors, metadata = pack("models.checkpoint").read_checkpoint(golden / "dit_pro_open.weights.safetensors")
    model = pack("host.model").load_model(tensors, metadata, name="pro")
    with pytest.raises(ValueError, match=r"vae: the VAE has 48 latent channels.*pro needs"):
        pack("host.vae").StockVideoCodec(nano_vae, model.model)
    with pytest.raises(ValueError, match="model: this MODEL is a"):
        pack("host.model").talking_head(nano_vae.patcher)


def test_missing_files_name_the_folder_and_the_file(pack: Import, folders: Path) -> None:
    host = pack("host.checkpoints.folders")
    published = next(iter(host.NETWORK_CHOICES))
    assert list(host.model_states())[:3] == [host.NANO, *host.NETWORK_CHOICES]
    companions = pack("host.checkpoints.companions")
    message = companions.missing_model(published)
    assert "Model_Pro/diffusion_pytorch_model.safetensors" in message
    assert str(folders / "models" / "asymtalker") in message
    assert not (folders / "models" / "asymtalker").exists()
    with pytest.raises(FileNotFoundError, match=r"vae: 'gone.safetensors' is not in .*models/vae"):
        companions.locate_vae("gone.safetensors", host.Located(folders / "dit.safetensors", None), 16)


def test_published_folders_are_found_with_what_belongs_to_them(pack: Import, folders: Path) -> None:
    host = pack("host.checkpoints.folders")
    home = folders / "models" / "asymtalker" / "SoulX-FlashHead-1_3B"
    for part in ("Model_Pro/diffusion_pytorch_model", "VAE_Wan/Wan2.1_VAE", "wav2vec2-base-960h/model"):
        file = home / f"{part}.safetensors"
        file.parent.mkdir(parents=True)
        save_file({"x": torch.zeros(1)}, file)
    choices = list(host.model_states())
    assert choices.count(next(iter(host.NETWORK_CHOICES))) == 1
    assert not any("VAE_Wan" in choice or "wav2vec2" in choice for choice in choices)
    located = host.locate_model(next(iter(host.NETWORK_CHOICES)))
    assert located.file == home / "Model_Pro" / "diffusion_pytorch_model.safetensors"
    companions = pack("host.checkpoints.companions")
    assert companions.locate_vae("default", located, 16).file == home / "VAE_Wan" / "Wan2.1_VAE.safetensors"
    wav2vec2 = companions.locate_audio_encoder("default", located).file
    assert wav2vec2 == home / "wav2vec2-base-960h" / "model.safetensors"
    with pytest.raises(FileNotFoundError, match="VAE_LTX"):
        companions.locate_vae("default", located, 128)


def test_states_of_the_loaders_choices(pack: Import, folders: Path) -> None:
    host = pack("host.checkpoints.folders")
    pro, lite = host.NETWORK_CHOICES
    part = folders / "models" / pro
    part.mkdir(parents=True)
    save_file({"x": torch.zeros(1)}, part / "diffusion_pytorch_model.safetensors")
    save_file({"x": torch.zeros(1)}, folders / "models" / "diffusion_models" / "mine.safetensors")
    assert host.model_states() == {
        host.NANO: "bundled",
        pro: "found",
        lite: f"missing: models/{lite}",
        "asymtalker/leaptalk": "missing: models/asymtalker/leaptalk",
        "mine.safetensors": "found",
    }
