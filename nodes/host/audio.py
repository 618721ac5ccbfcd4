"""AUDIO_ENCODER objects and the features that the network takes from them."""

from __future__ import annotations

import logging
from typing import Any

import comfy.utils
import torch
from comfy import model_management
from comfy.audio_encoders.audio_encoders import load_audio_encoder_from_sd
from comfy.audio_encoders.wav2vec2 import Wav2Vec2Model
from comfy.utils import ProgressBar
from torch import Tensor

from ...models.audio import (
    SAMPLE_RATE,
    AudioFeatures,
    log_mel_features,
    num_video_frames,
    to_mono_16k,
    wav2vec2_features,
)
from ...models.checkpoint import CheckpointError

MIN_SAMPLE_RATE, MAX_SAMPLE_RATE = 8_000, 192_000
MAX_CHANNELS = 6


class LogMelAudioEncoder:
    """nano's audio encoder with the interface of core's ``AudioEncoderModel``; it has no weights."""

    model_sample_rate = SAMPLE_RATE

    def load_sd(self, sd: dict[str, Tensor]) -> tuple[list[str], list[str]]:
        """Nothing is missing; everything in ``sd`` is unexpected."""
        return [], list(sd)

    def get_sd(self) -> dict[str, Tensor]:
        """No weights."""
        return {}

    def encode_audio(self, audio: Tensor, sample_rate: int) -> dict[str, Any]:
        """``audio`` [B, channels, N] -> features [B, F, channels] at 25 per second, as core's encoders return them."""
        waveforms = [to_mono_16k(waveform, sample_rate) for waveform in audio]
        num_frames = num_video_frames(audio.shape[-1], sample_rate)
        features = torch.stack([log_mel_features(waveform, num_frames)[:, 0] for waveform in waveforms])
        return {
            "encoded_audio": features,
            "encoded_audio_all_layers": (features,),
            "audio_samples": waveforms[0].shape[-1],
        }


def load_wav2vec2(state_dict: dict[str, Tensor], name: str) -> Any:
    """A wav2vec2 checkpoint as core's AudioEncoderModel with its weights kept in float32.

    Core stores them in float16 on most machines, which costs about 3e-3 in the features.

    Raises:
        CheckpointError: core does not know the checkpoint, or it is not a wav2vec2.
    """
    state_dict = comfy.utils.state_dict_prefix_replace(dict(state_dict), {"wav2vec2.": ""})
    weights = {key: tensor for key, tensor in state_dict.items() if not key.startswith("lm_head.")}
    try:
        encoder = load_audio_encoder_from_sd(dict(weights))
    except RuntimeError as error:
        raise CheckpointError(f"{name}: not a wav2vec2 checkpoint that ComfyUI can load ({error})") from error
    if not isinstance(encoder.model, Wav2Vec2Model):
        raise CheckpointError(
            f"{name}: a {type(encoder.model).__name__} is not a wav2vec2, which the network listens with"
        )
    encoder.model.float()
    encoder.load_sd(weights)
    encoder.dtype = torch.float32
    return encoder


def audio_features(encoder: Any, audio: dict[str, Any]) -> AudioFeatures:
    """The network's audio condition for an AUDIO value.

    Raises:
        ValueError: names what is wrong with the audio or the encoder.
    """
    waveform, sample_rate = checked_audio(audio)
    mono = to_mono_16k(waveform, sample_rate)
    num_frames = num_video_frames(waveform.shape[-1], sample_rate)
    if isinstance(encoder, LogMelAudioEncoder):
        features, name = log_mel_features(mono, num_frames), "log-mel (nano)"
    elif isinstance(getattr(encoder, "model", None), Wav2Vec2Model):
        features, name = _wav2vec2(encoder, mono, num_frames), "wav2vec2"
    else:
        raise ValueError(
            f"audio_encoder: {type(encoder).__name__} gives no features that the network knows; connect the "
            "AUDIO_ENCODER output of Load AsymTalker, or a wav2vec2-base-960h from Audio Encoder Loader"
        )
    return AudioFeatures(features.cpu(), waveform.shape[-1] / sample_rate, name)


def checked_audio(audio: dict[str, Any]) -> tuple[Tensor, int]:
    """The waveform [channels, N] and sample rate of an AUDIO value.

    Raises:
        ValueError: empty, NaN, batched, or outside 1..6 channels and 8..192 kHz.
    """
    waveform, sample_rate = audio["waveform"], int(audio["sample_rate"])
    if waveform.ndim != 3 or waveform.shape[0] != 1:
        raise ValueError(
            f"audio: one clip is needed, got a batch of shape {tuple(waveform.shape)}; "
            "queue the graph once per clip, or split the batch first"
        )
    channels, samples = waveform.shape[1:]
    if samples == 0:
        raise ValueError("audio: the clip is empty (0 samples)")
    if not 1 <= channels <= MAX_CHANNELS:
        raise ValueError(f"audio: {channels} channels; mono to {MAX_CHANNELS} channels can be used")
    if not MIN_SAMPLE_RATE <= sample_rate <= MAX_SAMPLE_RATE:
        raise ValueError(f"audio: {sample_rate} Hz; {MIN_SAMPLE_RATE} to {MAX_SAMPLE_RATE} Hz can be used")
    if not bool(torch.isfinite(waveform).all()):
        raise ValueError("audio: the clip contains NaN or infinite samples; re-export or repair it")
    return waveform[0].float(), sample_rate


@torch.no_grad()
def _wav2vec2(encoder: Any, mono: Tensor, num_frames: int) -> Tensor:
    model_management.load_models_gpu([encoder.patcher])
    weights = next(encoder.model.feature_extractor.parameters())
    if weights.dtype != torch.float32:
        logging.info(
            "AsymTalker: this wav2vec2 is stored in %s; the one from Load AsymTalker is exact (float32)", weights.dtype
        )
    bar = ProgressBar(1)

    def on_window(done: int, total: int) -> None:
        model_management.throw_exception_if_processing_interrupted()
        bar.update_absolute(done, total)

    return wav2vec2_features(encoder.model, mono, num_frames, device=encoder.load_device, on_window=on_window)
