"""Lengths, windows and features of audio; Hugging Face's wav2vec2 is the oracle of the published models' features."""

from __future__ import annotations

import math
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from models.audio import (
    MEL_CHANNELS,
    SAMPLE_RATE,
    SAMPLES_PER_FRAME,
    audio_windows,
    log_mel_features,
    normalise,
    num_video_frames,
    to_mono_16k,
    wav2vec2_features,
)
from tests.models.tiny import noise

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
    waveform = normalise(3 + 0.01 * noise(5000))
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


@pytest.mark.parametrize("length", [1, 2, 3, 7, 33, 40])
def test_audio_windows(length: int) -> None:
    features = torch.arange(float(length)).view(length, 1, 1).expand(length, 2, 3)
    for start in (0, max(0, length - 5)):
        windows = audio_windows(features, start, 33)
        assert windows.shape == (1, 33, 5, 2, 3)
        for frame in (0, 1, 2, 16, 31, 32):
            expected = [min(max(start + frame + offset, 0), length - 1) for offset in (-2, -1, 0, 1, 2)]
            assert windows[0, frame, :, 0, 0].tolist() == expected


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
    pack: ModuleType, hugging_face: HuggingFaceModules, speech: Tensor, oracle: Tensor
) -> None:
    """ComfyUI's modules with Hugging Face's weights; the fixture `pack` makes ComfyUI importable."""
    from comfy.audio_encoders.wav2vec2 import Wav2Vec2Model

    core = Wav2Vec2Model(
        embed_dim=768,
        num_heads=12,
        num_layers=12,
        conv_norm=False,
        conv_bias=False,
        do_stable_layer_norm=False,
        operations=nn,
    ).eval()
    core.load_state_dict(hugging_face.model.state_dict())
    assert (wav2vec2_features(core, speech, 13) - oracle).abs().max() <= WAV2VEC2_TOLERANCE
