"""Speech to per-frame features: log-mel for nano, wav2vec2 for the published checkpoints, and their windows."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
import torchaudio.functional as AF
from torch import Tensor

from .config import AUDIO_WINDOW

FPS = 25
SAMPLE_RATE = 16_000
SAMPLES_PER_FRAME = SAMPLE_RATE // FPS

# nano's features: four 10 ms hops of 80 mel bands for each video frame.
MEL_BANDS = 80
MEL_HOP = 160
MEL_WINDOW = 400
MEL_FFT = 512
MEL_HOPS_PER_FRAME = SAMPLES_PER_FRAME // MEL_HOP
MEL_CHANNELS = MEL_BANDS * MEL_HOPS_PER_FRAME
# Mean and spread of natural log mel energies of speech that is normalised to unit variance.
MEL_LOG_MEAN, MEL_LOG_STD = -2.0, 4.0


@dataclass(frozen=True)
class AudioFeatures:
    """Features of a whole recording: ``features`` [num_frames, blocks, channels], one row per video frame at 25 fps.

    ``duration_s`` is the recording's own length in seconds, ``encoder`` names what made the features.
    """

    features: Tensor
    duration_s: float
    encoder: str

    @property
    def num_frames(self) -> int:
        return self.features.shape[0]


def num_video_frames(num_samples: int, sample_rate: int) -> int:
    """Video frames that cover ``num_samples`` at ``sample_rate`` Hz: ceil(seconds * 25), exactly."""
    return -(-num_samples * FPS // sample_rate)


def to_mono_16k(waveform: Tensor, sample_rate: int) -> Tensor:
    """Any waveform [channels, N] -> [M] float32 at 16 kHz.

    Raises:
        ValueError: no samples, or samples that are not finite.
    """
    if waveform.ndim != 2 or 0 in waveform.shape:
        raise ValueError(f"the audio is empty: its waveform has the shape {list(waveform.shape)}")
    mono = waveform.float().mean(dim=0)
    if not torch.isfinite(mono).all():
        raise ValueError("the audio holds NaN or infinite samples: load or export it again")
    return AF.resample(mono, sample_rate, SAMPLE_RATE)


def normalise(waveform: Tensor) -> Tensor:
    """Zero mean and unit variance over the whole span, as wav2vec2's feature extractor does."""
    variance, mean = torch.var_mean(waveform, correction=0)
    return (waveform - mean) / torch.sqrt(variance + 1e-7)


def _fit(waveform: Tensor, num_frames: int) -> Tensor:
    """Cut or zero-pad to a whole number of video frames, so that frame i is samples [640 i, 640 (i + 1))."""
    return torch.nn.functional.pad(waveform, (0, num_frames * SAMPLES_PER_FRAME - waveform.shape[-1]))


@lru_cache(maxsize=1)
def _mel_filters() -> Tensor:
    return AF.melscale_fbanks(MEL_FFT // 2 + 1, 0.0, SAMPLE_RATE / 2, MEL_BANDS, SAMPLE_RATE)


def log_mel_features(waveform: Tensor, num_frames: int) -> Tensor:
    """nano's audio encoder: [M] at 16 kHz -> [num_frames, 1, 320] log-mel energies, about zero mean and unit spread."""
    samples = _fit(normalise(waveform), num_frames)
    # Each hop's analysis window is centred on the hop's own 10 ms.
    margin = (MEL_FFT - MEL_HOP) // 2
    samples = torch.nn.functional.pad(samples, (margin, MEL_FFT - MEL_HOP - margin))
    window = torch.hann_window(MEL_WINDOW, device=samples.device)
    spectrum = torch.stft(samples, MEL_FFT, MEL_HOP, MEL_WINDOW, window, center=False, return_complex=True)
    energy = spectrum.abs().square().T @ _mel_filters().to(samples.device)
    log_mel = (torch.log(energy + 1e-4) - MEL_LOG_MEAN) / MEL_LOG_STD
    return log_mel.reshape(num_frames, 1, MEL_CHANNELS)


def wav2vec2_features(model: Any, waveform: Tensor, num_frames: int) -> Tensor:
    """The published models' audio encoder: [M] at 16 kHz -> [num_frames, layers, width].

    Convolutional features are interpolated to one vector per video frame before the transformer; the outputs of its
    layers are the features (SoulX-FlashHead, arXiv 2602.07449).

    Args:
        model: wav2vec 2.0 with ``feature_extractor`` ([B, M] -> [B, n, 512]), ``feature_projection`` and ``encoder``
            ([B, n, width] -> (last, (embedding, layer 1, ..., layer 12))), as ComfyUI's ``Wav2Vec2Model``.
    """
    samples = _fit(normalise(waveform), num_frames)
    features = model.feature_extractor(samples[None]).transpose(1, 2)
    features = torch.nn.functional.interpolate(features, size=num_frames, mode="linear", align_corners=True)
    _, layers = model.encoder(model.feature_projection(features.transpose(1, 2)))
    return torch.stack(layers[1:], dim=2)[0]


def audio_windows(features: Tensor, start: int, frames: int) -> Tensor:
    """Windows of the 5 feature frames around each of ``frames`` video frames from ``start`` on.

    ``features`` [F, blocks, channels] -> [1, frames, 5, blocks, channels]; beyond the ends the first or last row repeats.
    """
    reach = AUDIO_WINDOW // 2
    centre = torch.arange(start, start + frames, device=features.device)
    offset = torch.arange(-reach, reach + 1, device=features.device)
    index = (centre[:, None] + offset).clamp(0, features.shape[0] - 1)
    return features[index][None]
