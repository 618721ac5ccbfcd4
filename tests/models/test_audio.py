"""Lengths, windows and features of audio; Hugging Face's wav2vec2 is the oracle of the published models' features."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from asymtalker.benchmarks.comfyui import WAV2VEC2_BASE
from asymtalker.models.audio import (
    MEL_CHANNELS,
    SAMPLE_RATE,
    SAMPLES_PER_FRAME,
    Speech,
    audio_windows,
    feature_windows,
    log_mel_features,
    num_video_frames,
    to_mono_16k,
    wav2vec2_features,
)
from asymtalker.tests.helpers import Import
from asymtalker.tests.models.tiny import noise

WAV2VEC2_TOLERANCE = 1e-4


@pytest.mark.parametrize(
    ("samples", "rate", "frames"),
    [
        (1, 16000, 1),
        (640, 16000, 1),
        (641, 16000, 2),
        (1764, 44100, 1),
        (1765, 44100, 2),
        (44100, 44100, 25),
        (7, 192000, 1),
    ],
)
def test_num_video_frames(samples: int, rate: int, frames: int) -> None:
    assert num_video_frames(samples, rate) == frames


@pytest.mark.parametrize("rate", [8000, 16000, 22050, 48000, 192000])
@pytest.mark.parametrize("channels", [1, 2, 6])
def test_to_mono_16k(rate: int, channels: int) -> None:
    tone = torch.sin(2 * math.pi * 440 * torch.arange(rate // 2) / rate).expand(channels, -1)
    mono = to_mono_16k(tone, rate)
    assert mono.dtype == torch.float32 and mono.shape == (SAMPLE_RATE // 2,)
    expected = torch.sin(2 * math.pi * 440 * torch.arange(SAMPLE_RATE // 2) / SAMPLE_RATE)
    # Away from the ends, where a resampling filter has all of its taps.
    torch.testing.assert_close(mono[500:-500], expected[500:-500], atol=5e-3, rtol=0)


@pytest.mark.parametrize("shape", [(1, 0), (0, 100), (100,)])
def test_empty_audio_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="the audio is empty"):
        to_mono_16k(torch.zeros(shape), SAMPLE_RATE)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_audio_that_is_not_finite_is_refused(bad: float) -> None:
    waveform = torch.zeros(1, 100)
    waveform[0, 50] = bad
    with pytest.raises(ValueError, match="NaN or infinite"):
        to_mono_16k(waveform, SAMPLE_RATE)


def test_normalise() -> None:
    waveform = Speech(3 + 0.01 * noise(5120), num_frames=8).part(0, 5120)
    assert waveform.mean().abs() < 1e-4
    assert waveform.std(correction=0).item() == pytest.approx(1, abs=1e-2)


@pytest.mark.parametrize("samples", [1, 639, 640, 641, 16000])
def test_log_mel_of_any_length(samples: int) -> None:
    frames = num_video_frames(samples, SAMPLE_RATE)
    features = log_mel_features(noise(samples), frames)
    assert features.shape == (frames, 1, MEL_CHANNELS) and torch.isfinite(features).all()


def test_log_mel_of_silence_is_finite() -> None:
    assert torch.isfinite(log_mel_features(torch.zeros(2000), 4)).all()


def test_log_mel_frame_is_its_own_time() -> None:
    """A burst within frame 6 shows in frame 6, and in no frame but its neighbours."""
    waveform = torch.zeros(12 * SAMPLES_PER_FRAME)
    start = 6 * SAMPLES_PER_FRAME + 200
    waveform[start : start + 240] = noise(240)
    energy = log_mel_features(waveform, 12).mean(dim=(1, 2))
    assert energy.argmax() == 6
    # The very first and last frames see the edge of the padding.
    elsewhere = torch.cat((energy[1:5], energy[8:11]))
    torch.testing.assert_close(elsewhere, energy[1:2].expand(7), atol=1e-5, rtol=0)


@pytest.mark.parametrize("samples", [1, 640 * 8, 640 * 8 + 1, 640 * 25 - 3])
@pytest.mark.parametrize("block", [1, 2, 7])
def test_log_mel_in_blocks_changes_no_bit(samples: int, block: int) -> None:
    frames = num_video_frames(samples, SAMPLE_RATE)
    waveform = 0.1 + noise(samples, seed=3)
    in_blocks = log_mel_features(waveform, frames, block_frames=block)
    assert torch.equal(in_blocks, log_mel_features(waveform, frames, block_frames=frames))


@pytest.mark.parametrize("length", [1, 2, 3, 7, 33, 40])
def test_audio_windows(length: int) -> None:
    features = torch.arange(float(length)).view(length, 1, 1).expand(length, 2, 3)
    for start in (0, max(0, length - 5)):
        windows = audio_windows(features, start, 33)
        assert windows.shape == (1, 33, 5, 2, 3)
        for frame in (0, 1, 2, 16, 31, 32):
            expected = [min(max(start + frame + offset, 0), length - 1) for offset in (-2, -1, 0, 1, 2)]
            assert windows[0, frame, :, 0, 0].tolist() == expected


@pytest.mark.parametrize(("window", "context"), [(10, 0), (10, 2), (11, 5), (1500, 125)])
def test_feature_windows_keep_every_frame_once(window: int, context: int) -> None:
    for num_frames in (1, 9, 10, 11, 12, 13, 61, 1499, 1501, 4000):
        windows = feature_windows(num_frames, window, context)
        kept = 0
        for span in windows:
            assert span.keep_start == kept and 0 <= span.start <= span.keep_start < span.keep_stop <= span.stop
            assert span.stop - span.start == min(window, num_frames)
            assert span.start == 0 or span.keep_start - span.start >= context
            assert span.stop == num_frames or span.stop - span.keep_stop == context
            kept = span.keep_stop
        assert kept == num_frames


def test_windows_without_an_inner_part_are_refused() -> None:
    with pytest.raises(ValueError, match="a window of 10 frames keeps none beside 2 x 5"):
        feature_windows(100, 10, 5)


class LocalEncoder(nn.Module):
    """wav2vec2's geometry (400 samples every 320) without attention: windows of it must equal one pass."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.convolution = nn.Conv1d(1, 8, 400, stride=320)
        self.feature_projection = nn.Identity()

    def feature_extractor(self, waveform: Tensor) -> Tensor:
        return self.convolution(waveform[:, None]).transpose(1, 2)

    def encoder(self, x: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        return x, (x, x, 2 * x)


@pytest.mark.parametrize("samples", [640 * 61, 640 * 60 + 1, 640 * 20 + 639])
@torch.no_grad()
def test_windows_of_a_local_encoder_equal_one_pass(samples: int) -> None:
    model, frames = LocalEncoder(), num_video_frames(samples, SAMPLE_RATE)
    waveform = noise(samples, seed=6)
    reported: list[tuple[int, int]] = []
    found = wav2vec2_features(
        model,
        waveform,
        frames,
        window_frames=20,
        context_frames=3,
        on_window=lambda done, total: reported.append((done, total)),
    )
    whole = wav2vec2_features(model, waveform, frames, window_frames=frames)
    assert found.shape == (frames, 2, 8)
    torch.testing.assert_close(found, whole, atol=1e-5, rtol=0)
    total = len(feature_windows(frames, 20, 3))
    assert reported == [(done, total) for done in range(1, total + 1)]


class HuggingFaceModules(nn.Module):
    """Hugging Face's modules behind the interface of core's Wav2Vec2Model, layers' outputs read by hooks."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def feature_extractor(self, waveform: Tensor) -> Tensor:
        return self.model.feature_extractor(waveform).transpose(1, 2)

    def feature_projection(self, features: Tensor) -> Tensor:
        return self.model.feature_projection(features)[0]

    def encoder(self, x: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        outputs: list[Tensor] = []

        def keep(module: nn.Module, inputs: Any, output: Any) -> None:
            outputs.append(output[0] if isinstance(output, tuple) else output)

        hooks = [layer.register_forward_hook(keep) for layer in self.model.encoder.layers]
        try:
            last = self.model.encoder(x).last_hidden_state
        finally:
            for hook in hooks:
                hook.remove()
        return last, (x, *outputs)


@pytest.fixture(scope="module")
def hugging_face() -> HuggingFaceModules:
    """A random wav2vec2-base."""
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    return HuggingFaceModules(transformers.Wav2Vec2Model(transformers.Wav2Vec2Config()).eval())


@pytest.fixture(scope="module")
def speech() -> Tensor:
    return noise(13 * SAMPLES_PER_FRAME, seed=4) * torch.linspace(0.01, 0.2, 13 * SAMPLES_PER_FRAME)


@pytest.fixture(scope="module")
@torch.no_grad()
def oracle(hugging_face: HuggingFaceModules, speech: Tensor) -> Tensor:
    """Features as the published models' own pipeline makes them, by Hugging Face's and NumPy's means."""
    transformers = pytest.importorskip("transformers")
    extractor = transformers.Wav2Vec2FeatureExtractor(do_normalize=True)
    inputs = extractor(speech.numpy(), sampling_rate=SAMPLE_RATE, return_tensors="pt").input_values
    features = hugging_face.feature_extractor(inputs)[0].numpy()
    places = np.linspace(0, len(features) - 1, 13)
    columns = [np.interp(places, np.arange(len(features)), column) for column in features.T]
    frames = torch.from_numpy(np.stack(columns, axis=1)).float()[None]
    _, layers = hugging_face.encoder(hugging_face.feature_projection(frames))
    return torch.stack(layers[1:], dim=2)[0]


@torch.no_grad()
def test_wav2vec2_features_over_hugging_face(hugging_face: HuggingFaceModules, speech: Tensor, oracle: Tensor) -> None:
    features = wav2vec2_features(hugging_face, speech, 13)
    assert features.shape == oracle.shape == (13, 12, 768)
    assert (features - oracle).abs().max() <= WAV2VEC2_TOLERANCE


@torch.no_grad()
def test_wav2vec2_features_over_comfyui(
    comfy: Import, hugging_face: HuggingFaceModules, speech: Tensor, oracle: Tensor
) -> None:
    """ComfyUI's modules with Hugging Face's weights; the fixture `comfy` makes ComfyUI importable."""
    from comfy.audio_encoders.wav2vec2 import Wav2Vec2Model

    core = Wav2Vec2Model(**WAV2VEC2_BASE, operations=nn).eval()
    core.load_state_dict(hugging_face.model.state_dict())
    assert (wav2vec2_features(core, speech, 13) - oracle).abs().max() <= WAV2VEC2_TOLERANCE


@torch.no_grad()
def test_windows_of_wav2vec2_are_close_to_one_pass_and_have_no_seams() -> None:
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = transformers.Wav2Vec2Config(
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        conv_dim=[16] * 7,
        num_conv_pos_embedding_groups=4,
        num_conv_pos_embeddings=16,
    )
    model = HuggingFaceModules(transformers.Wav2Vec2Model(config).eval())
    speech = noise(203 * SAMPLES_PER_FRAME - 5, seed=8)
    whole = wav2vec2_features(model, speech, 203)
    found = wav2vec2_features(model, speech, 203, window_frames=100, context_frames=20)
    assert (found - whole).square().mean().sqrt() < 0.1 * whole.std()
    steps = (found[1:] - found[:-1]).square().mean(dim=(1, 2)).sqrt()
    seams = [window.keep_start - 1 for window in feature_windows(203, 100, 20)[1:]]
    assert steps[seams].max() < 2 * steps.median()
