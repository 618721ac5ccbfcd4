"""Speech to per-frame features: log-mel for nano, wav2vec2 for the published checkpoints, and their windows."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Protocol

import torch
import torchaudio.functional as AF
from torch import Tensor

from .config import AUDIO_WINDOW
from .gate import SpeechGate
from .mixing import to_mono
from .rates import FPS, SAMPLE_RATE, SAMPLES_PER_FRAME
from .resampling import resample

# nano's features: four 10 ms hops of 80 mel bands for each video frame.
MEL_BANDS = 80
MEL_HOP = 160
MEL_WINDOW = 400
MEL_FFT = 512
MEL_HOPS_PER_FRAME = SAMPLES_PER_FRAME // MEL_HOP
MEL_CHANNELS = MEL_BANDS * MEL_HOPS_PER_FRAME
# Each hop's analysis window is centred on the hop's own 10 ms: these samples before and after it belong to it too.
MEL_BEFORE = (MEL_FFT - MEL_HOP) // 2
MEL_AFTER = MEL_FFT - MEL_HOP - MEL_BEFORE

SILENT_POWER = 1e-7
"""What is added to a recording's power (1 for a square wave at full scale) before it is normalised: -70 dB."""

# Mean and spread of natural log mel energies of speech that is normalised to unit variance.
MEL_LOG_MEAN, MEL_LOG_STD = -2.0, 4.0
# Spectra are computed for a minute at a time: 12 MB of them, whatever the length.
MEL_BLOCK_FRAMES = 60 * FPS

# wav2vec2 encodes a minute at a time, of which 5 s on either side are context for the 50 s in the middle. With
# random weights that changed the features of 90 s of speech by 0.9 % of their spread, 30 s windows by 2.0 %; those of
# 100 s whose loudness changed sixfold by 8 % and 30 %. `python -m asymtalker.benchmarks.audio_windows` measures it.
WAV2VEC2_WINDOW_FRAMES = 60 * FPS
WAV2VEC2_CONTEXT_FRAMES = 5 * FPS
# Silence after the end, for the last chunk: more than a published chunk of 33 frames reaches beyond the recording.
WAV2VEC2_TAIL_FRAMES = 35

OnWindow = Callable[[int, int], None]
"""(windows done, windows in all) after each window; may raise to stop."""


class FeatureStream(Protocol):
    """The features of a recording, as one generation reads them."""

    def windows(self, start: int, frames: int) -> Tensor:
        """[1, frames, 5, blocks, channels] around ``frames`` video frames from ``start`` on."""
        ...

    def identity(self, start: int, frames: int) -> bytes:
        """A hash of everything that ``windows(start, frames)`` depends on: equal hashes, equal windows."""
        ...


class RecordingFeatures(Protocol):
    """The audio condition of a video: ``num_frames`` frames at 25 fps, each ``shape`` (blocks, channels) values.

    ``encoder`` names what makes the features. ``strength`` is that of the audio: 1 as the network was trained, 0 as if
    the recording were silent.
    """

    @property
    def num_frames(self) -> int: ...

    @property
    def shape(self) -> tuple[int, int]: ...

    @property
    def encoder(self) -> str: ...

    @property
    def strength(self) -> float: ...

    def silence(self) -> Tensor:
        """[blocks, channels]: the features of a silent frame."""
        ...

    def stream(self) -> FeatureStream:
        """A stream for one generation; its memory use does not grow with the recording."""
        ...


@dataclass(frozen=True)
class AudioFeatures:
    """RecordingFeatures in memory: ``features`` [num_frames, blocks, channels], one row per video frame."""

    features: Tensor
    encoder: str
    strength: float = 1.0

    @property
    def num_frames(self) -> int:
        return self.features.shape[0]

    @property
    def shape(self) -> tuple[int, int]:
        return self.features.shape[1], self.features.shape[2]

    def silence(self) -> Tensor:
        """Zeros, because the audio encoder is not available here."""
        return self.features.new_zeros(self.shape)

    def stream(self) -> FeatureStream:
        return _TensorStream(self.features)


class _TensorStream:
    def __init__(self, features: Tensor) -> None:
        self._features = features

    def windows(self, start: int, frames: int) -> Tensor:
        return audio_windows(self._features, start, frames)

    def identity(self, start: int, frames: int) -> bytes:
        windows = self.windows(start, frames).cpu().contiguous()
        return hashlib.blake2b(windows.view(torch.uint8).numpy().data, digest_size=16).digest()


def frames_of_latents(values: Tensor, stride_t: int) -> Tensor:
    """``values`` [B, 1 + k * stride_t, ...] of frames as those of latent frames, [B, 1 + k, stride_t, ...].

    The first latent frame holds one frame, which is repeated.
    """
    first = values[:, :1].repeat_interleave(stride_t, dim=1)
    return torch.cat((first, values[:, 1:]), dim=1).unflatten(1, (-1, stride_t))


def num_video_frames(num_samples: int, sample_rate: int) -> int:
    """Video frames that cover ``num_samples`` at ``sample_rate`` Hz: ceil(seconds * 25), exactly."""
    return -(-num_samples * FPS // sample_rate)


def to_mono_16k(waveform: Tensor, sample_rate: int) -> Tensor:
    """Any waveform [channels, N] -> [M] float32 at 16 kHz; see ``mixing`` for what several channels become.

    Raises:
        ValueError: no samples, or samples that are not finite.
    """
    if waveform.ndim != 2 or 0 in waveform.shape:
        raise ValueError(f"the audio is empty: its waveform has the shape {list(waveform.shape)}")
    mono = to_mono(waveform).samples
    if not is_finite(mono):
        raise ValueError("the audio holds NaN or infinite samples: load or export it again")
    return resample(mono, sample_rate, SAMPLE_RATE)


def is_finite(waveform: Tensor) -> bool:
    """Whether all samples are finite.

    By the extremes, which NaN becomes: ``isfinite`` of an hour would take 400 MB for what it returns and holds.
    """
    return all(extreme.isfinite() for extreme in torch.aminmax(waveform))


def _mean_and_scale(waveform: Tensor) -> tuple[Tensor, Tensor]:
    variance, mean = torch.var_mean(waveform, correction=0)
    return mean, torch.sqrt(variance + SILENT_POWER)


def is_silent(waveform: Tensor) -> bool:
    """Whether [M] is too quiet for normalising to raise it to the loudness of speech."""
    return bool(waveform.var(correction=0) < SILENT_POWER)


class Speech:
    """``waveform`` [M] with zero mean and unit variance, as wav2vec2's feature extractor does.

    It is cut or zero-padded to whole video frames, frame i being samples [640 i, 640 (i + 1)). Any part of it can be
    had without the whole being made. ``statistics`` are the mean and scale to normalise by, where they are not the
    waveform's own. Where the ``gate`` is closed, the speech is silent; the waveform stays.
    """

    def __init__(
        self,
        waveform: Tensor,
        num_frames: int,
        statistics: tuple[Tensor, Tensor] | None = None,
        gate: SpeechGate | None = None,
    ) -> None:
        self.statistics = statistics or _mean_and_scale(waveform)
        self.waveform = waveform[: num_frames * SAMPLES_PER_FRAME]
        self.gate = gate

    def part(self, start: int, stop: int) -> Tensor:
        """Samples [start, stop) normalised; those before the beginning and after the end are zero."""
        mean, scale = self.statistics
        first = max(start, 0)
        inner = self._gated((self.waveform[first : max(stop, 0)] - mean) / scale, first)
        return torch.nn.functional.pad(inner, (first - start, stop - first - inner.shape[0]))

    def recorded(self, start: int, stop: int) -> Tensor:
        """Samples [start, stop) at the level at which they were recorded, zero outside of the recording."""
        first = max(start, 0)
        inner = self._gated(self.waveform[first : max(stop, 0)], first)
        return torch.nn.functional.pad(inner, (first - start, stop - first - inner.shape[0]))

    def _gated(self, samples: Tensor, start: int) -> Tensor:
        return samples if self.gate is None else self.gate.apply(samples, start)


@lru_cache(maxsize=1)
def _mel_filters() -> Tensor:
    return AF.melscale_fbanks(MEL_FFT // 2 + 1, 0.0, SAMPLE_RATE / 2, MEL_BANDS, SAMPLE_RATE)


def log_mel_features(waveform: Tensor, num_frames: int, *, block_frames: int = MEL_BLOCK_FRAMES) -> Tensor:
    """nano's audio encoder: [M] at 16 kHz -> [num_frames, 1, 320] log-mel energies, about zero mean and unit spread.

    Spectra are local: computing ``block_frames`` at a time bounds the memory and changes no bit.
    """
    speech = Speech(waveform, num_frames)
    features = waveform.new_empty((num_frames, 1, MEL_CHANNELS))
    for start in range(0, num_frames, block_frames):
        stop = min(start + block_frames, num_frames)
        features[start:stop] = encode_log_mel(speech, start, stop)
    return features


def encode_log_mel(speech: Speech, start: int, stop: int) -> Tensor:
    """Log-mel features of frames [start, stop): [stop - start, 1, 320]."""
    samples = speech.part(start * SAMPLES_PER_FRAME - MEL_BEFORE, stop * SAMPLES_PER_FRAME + MEL_AFTER)
    window = torch.hann_window(MEL_WINDOW, device=samples.device)
    spectrum = torch.stft(samples, MEL_FFT, MEL_HOP, MEL_WINDOW, window, center=False, return_complex=True)
    energy = spectrum.abs().square().T @ _mel_filters().to(samples.device)
    log_mel = (torch.log(energy + 1e-4) - MEL_LOG_MEAN) / MEL_LOG_STD
    return log_mel.reshape(stop - start, 1, MEL_CHANNELS)


@dataclass(frozen=True)
class FeatureWindow:
    """Video frames [start, stop) are encoded; features of [keep_start, keep_stop) are kept."""

    start: int
    stop: int
    keep_start: int
    keep_stop: int


def feature_windows(num_frames: int, window_frames: int, context_frames: int) -> list[FeatureWindow]:
    """Windows that keep each of ``num_frames`` frames once, with ``context_frames`` on either side but at the ends.

    All are ``window_frames`` long (the last one begins earlier instead of being shorter); a shorter clip is one window.

    Raises:
        ValueError: the context leaves nothing of a window.
    """
    if num_frames <= window_frames:
        return [FeatureWindow(0, num_frames, 0, num_frames)]
    if window_frames <= 2 * context_frames:
        raise ValueError(f"a window of {window_frames} frames keeps none beside 2 x {context_frames} of context")
    windows: list[FeatureWindow] = []
    kept = 0
    while kept < num_frames:
        start = min(max(kept - context_frames, 0), num_frames - window_frames)
        stop = start + window_frames
        keep_stop = num_frames if stop == num_frames else stop - context_frames
        windows.append(FeatureWindow(start, stop, kept, keep_stop))
        kept = keep_stop
    return windows


def wav2vec2_features(
    model: Any,
    waveform: Tensor,
    num_frames: int,
    *,
    device: torch.device | None = None,
    window_frames: int = WAV2VEC2_WINDOW_FRAMES,
    context_frames: int = WAV2VEC2_CONTEXT_FRAMES,
    on_window: OnWindow | None = None,
) -> Tensor:
    """The published models' audio encoder: [M] at 16 kHz -> [num_frames, layers, width] on ``waveform``'s device.

    Convolutional features are interpolated to one vector per video frame before the transformer; the outputs of its
    layers are the features (SoulX-FlashHead, arXiv 2602.07449). Audio longer than ``window_frames`` is encoded in
    overlapping windows, so that memory and the time per second stay bounded; its loudness is normalised as a whole.
    wav2vec2 attends to the whole window at once, so features of windows are close to those of one pass, not equal.

    Args:
        model: wav2vec 2.0 with ``feature_extractor`` ([B, M] -> [B, n, 512]), ``feature_projection`` and ``encoder``
            ([B, n, width] -> (last, (embedding, layer 1, ..., layer 12))), as ComfyUI's ``Wav2Vec2Model``.
        device: where ``model`` is; None: where ``waveform`` is.
        on_window: progress, see ``OnWindow``.
    """
    speech = Speech(waveform, num_frames)
    windows = feature_windows(num_frames, window_frames, context_frames)
    features = waveform.new_empty(0)
    for done, window in enumerate(windows, start=1):
        part = encode_wav2vec2(model, speech, window.start, window.stop, device)
        if window.start == 0:
            # Only now the encoder's layers and width are known.
            features = part.new_empty((num_frames, *part.shape[1:]), device=waveform.device)
        kept = part[window.keep_start - window.start : window.keep_stop - window.start]
        features[window.keep_start : window.keep_stop] = kept.to(features.device)
        if on_window is not None:
            on_window(done, len(windows))
    return features


def encode_wav2vec2(model: Any, speech: Speech, start: int, stop: int, device: torch.device | None = None) -> Tensor:
    """wav2vec2's features of frames [start, stop), encoded at once: [stop - start, layers, width] on ``device``."""
    samples = speech.part(start * SAMPLES_PER_FRAME, stop * SAMPLES_PER_FRAME)
    features = model.feature_extractor(samples.to(device or samples.device)[None]).transpose(1, 2)
    # n = 2 num_frames - 1 vectors come out, so this takes every other one, and windows fall on the one pass' grid.
    features = torch.nn.functional.interpolate(features, size=stop - start, mode="linear", align_corners=True)
    _, layers = model.encoder(model.feature_projection(features.transpose(1, 2)))
    return torch.stack(layers[1:], dim=2)[0]


def audio_windows(features: Tensor, start: int, frames: int) -> Tensor:
    """Windows of the 5 feature frames around each of ``frames`` video frames from ``start`` on.

    ``features`` [F, blocks, channels] -> [1, frames, 5, blocks, channels]; beyond the ends the outermost row repeats.
    """
    return features[window_index(start, frames, features.shape[0]).to(features.device)][None]


def frames_of_windows(windows: Tensor) -> Tensor:
    """The feature frames [B, F + size - 1, ...] that ``windows`` [B, F, size, ...] of consecutive frames share."""
    middle = windows.shape[2] // 2
    return torch.cat((windows[:, 0, :middle], windows[:, :, middle], windows[:, -1, middle + 1 :]), dim=1)


def windows_of_frames(frames: Tensor, size: int) -> Tensor:
    """Windows [B, F, size, ...] of ``frames`` [B, F + size - 1, ...], as views of them."""
    return frames.unfold(1, size, 1).movedim(-1, 2)


def window_index(start: int, frames: int, num_frames: int) -> Tensor:
    """Rows [frames, 5] of the feature frames around each video frame, within the recording's ``num_frames``."""
    reach = AUDIO_WINDOW // 2
    centre = torch.arange(start, start + frames)
    return (centre[:, None] + torch.arange(-reach, reach + 1)).clamp(0, num_frames - 1)
