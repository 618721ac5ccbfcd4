"""AUDIO_ENCODER objects and the features that the network takes from them."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from contextlib import suppress
from fractions import Fraction
from typing import Any

import torch
from comfy import model_management
from comfy.audio_encoders.wav2vec2 import Wav2Vec2Model
from torch import Tensor
from torch.nn import functional

from ..media.audio_track import MAX_CHANNELS, AudioTrack
from ..models.audio import (
    SAMPLE_RATE,
    WAV2VEC2_CONTEXT_FRAMES,
    WAV2VEC2_TAIL_FRAMES,
    WAV2VEC2_WINDOW_FRAMES,
    RecordingFeatures,
    Speech,
    encode_wav2vec2,
    is_silent,
    log_mel_features,
    num_video_frames,
    to_mono_16k,
)
from ..models.mixing import to_mono
from ..models.resampling import LONG, resample
from ..models.streaming import (
    AS_TRAINED,
    LOG_MEL,
    ROLLING_FRAMES,
    AudioContext,
    FeatureEncoder,
    MouthOptions,
    Recording,
    SpeechFeatures,
    stream_features,
)
from .checkpoints.sources import file_of
from .messages import expected, quoted
from .model import loaded_fingerprint
from .progress import notify
from .tensors import finite_range, plain_tensor, sound_values

MIN_SAMPLE_RATE, MAX_SAMPLE_RATE = 8_000, 192_000
MAX_SAMPLE = 2.0**31
"""Beyond full scale, but what some nodes give: 16 or 32 bits as floats."""

NO_SOUND = "audio: the video has no sound: connect the AUDIO output of Load Audio, or of a video with sound"


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


def audio_features(
    encoder: Any,
    audio: Mapping[str, Any],
    listening: str = AudioContext.WHOLE,
    continues: SpeechFeatures | None = None,
    node_id: str | None = None,
    mouth: MouthOptions = AS_TRAINED,
) -> SpeechFeatures:
    """The network's audio condition for an AUDIO value, which continues the recordings of ``continues``.

    No features are computed yet; the Sampler computes them when a chunk needs them. The node shows which channel is
    used, if it is not the mix, and whether the audio is silent.

    Raises:
        ValueError: names what is wrong with the audio or the encoder.
    """
    waveform, sample_rate = checked_audio(audio)
    duration = Fraction(waveform.shape[-1], sample_rate)
    feature_encoder = _feature_encoder(encoder)
    mono = to_mono(waveform)
    speech = resample(mono.samples, sample_rate, SAMPLE_RATE, feature_encoder.sinc)
    notes = [] if mono.note is None else [mono.note]
    if is_silent(speech):
        notes.append("audio: it is silent or nearly silent, so the mouth will hardly move")
    features = stream_features(
        feature_encoder,
        speech,
        duration,
        listening=listening,
        earlier=continues,
        mouth=mouth,
        recording=Recording(waveform, sample_rate),
    )
    if (gate := features.speech.gate) is not None:
        notes.append(f"quiet_in_silence: {gate.open_share:.0%} of the recording is speech")
    notify(node_id, *notes)
    return features


def sound_of(audio: RecordingFeatures) -> AudioTrack | None:
    """The network's input, mono at 16 kHz, to play with a video that has no audio yet."""
    if not isinstance(audio, SpeechFeatures):
        return None
    return AudioTrack(audio.speech.waveform[None].cpu().numpy(), SAMPLE_RATE)


def recordings_of(audio: RecordingFeatures) -> tuple[Recording, ...]:
    """The recordings from which a video was made, as given by the user; empty if they are not known."""
    return audio.recordings if isinstance(audio, SpeechFeatures) else ()


def joined(recordings: Sequence[Recording]) -> AudioTrack | None:
    """Recordings joined one after another, at the first one's sample rate and with the largest number of channels.

    A single one is not copied. None if there are no recordings.
    """
    if not recordings:
        return None
    rate, channels = recordings[0].sample_rate, max(recording.waveform.shape[0] for recording in recordings)
    parts = [_converted(recording, rate, channels) for recording in recordings]
    return AudioTrack((parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)).numpy(), rate)


def overlaid(recordings: Sequence[Recording]) -> AudioTrack | None:
    """Recordings mixed, as long as the longest, at the first one's sample rate and with the largest number of channels.

    A single one is not copied. None if there are no recordings.
    """
    if len(recordings) < 2:
        return joined(recordings)
    rate, channels = recordings[0].sample_rate, max(recording.waveform.shape[0] for recording in recordings)
    parts = [_converted(recording, rate, channels) for recording in recordings]
    together = torch.zeros(channels, max(part.shape[1] for part in parts))
    for part in parts:
        together[:, : part.shape[1]] += part
    return AudioTrack(together.numpy(), rate)


def _converted(recording: Recording, rate: int, channels: int) -> Tensor:
    waveform = recording.waveform
    if recording.sample_rate != rate:
        waveform = torch.stack([resample(channel, recording.sample_rate, rate) for channel in waveform])
    if waveform.shape[0] == channels:
        return waveform
    # Mono is copied to every channel; missing channels of other layouts are silent.
    if waveform.shape[0] == 1:
        return waveform.expand(channels, -1)
    return functional.pad(waveform, (0, 0, 0, channels - waveform.shape[0]))


def checked_audio(audio: Any) -> tuple[Tensor, int]:
    """The waveform [channels, N] float32 on the CPU and sample rate of an AUDIO value.

    Raises:
        ValueError: it is none, empty, NaN, batched, or outside 1..8 channels and 8..192 kHz.
    """
    waveform, sample_rate = _parts(audio)
    if waveform.ndim != 3 or waveform.shape[0] != 1:
        raise ValueError(
            f"audio: one clip is needed, got a batch of shape {tuple(waveform.shape)} instead of [1, channels, "
            "samples]; queue the graph once per clip, or split the batch first"
        )
    channels, samples = waveform.shape[1:]
    if samples == 0:
        raise ValueError("audio: the clip is empty (0 samples): connect audio with sound in it")
    if not 1 <= channels <= MAX_CHANNELS:
        raise ValueError(f"audio: {channels} channels; 1 to {MAX_CHANNELS} are supported. Mix it down first")
    if not MIN_SAMPLE_RATE <= sample_rate <= MAX_SAMPLE_RATE:
        raise ValueError(
            f"audio: {quoted(sample_rate)} Hz; {MIN_SAMPLE_RATE} to {MAX_SAMPLE_RATE} Hz are supported. "
            "Resample it first"
        )
    waveform = sound_values("audio", waveform[0])
    loudest = max(map(abs, finite_range("audio: the clip", waveform)))
    if loudest > MAX_SAMPLE:
        raise ValueError(
            f"audio: samples reach {loudest:.3g}, but an AUDIO holds -1 to 1; its file is damaged, or the node that "
            "made it returns invalid data"
        )
    return waveform, sample_rate


def _parts(audio: Any) -> tuple[Tensor, int]:
    """Waveform and sample rate of an AUDIO value, whatever their shape and range."""
    if audio is None:
        raise ValueError(NO_SOUND)
    if not isinstance(audio, Mapping):
        raise ValueError(f"{expected('audio', 'AUDIO', audio)}; connect the AUDIO output of Load Audio")
    missing = [key for key in ("waveform", "sample_rate") if key not in audio]
    if missing:
        raise ValueError(
            f"audio: the AUDIO has no {' and no '.join(missing)}; the node that made it returns invalid data. "
            "Connect the AUDIO output of Load Audio"
        )
    waveform, sample_rate = audio["waveform"], audio["sample_rate"]
    if waveform is None:
        raise ValueError(NO_SOUND)
    return plain_tensor("audio", waveform), _whole(sample_rate)


def _whole(sample_rate: Any) -> int:
    """A sample rate as an integer, also from a whole float or an integer of numpy or PyTorch."""
    if not isinstance(sample_rate, (bool, Tensor)):
        with suppress(TypeError, ValueError, OverflowError):
            if (whole := int(sample_rate)) == sample_rate:
                return whole
    elif isinstance(sample_rate, Tensor) and sample_rate.numel() == 1:
        return _whole(sample_rate.item())
    raise ValueError(f"audio: the sample rate is {quoted(sample_rate)}; it must be a whole number of Hz, such as 44100")


def _feature_encoder(encoder: Any) -> FeatureEncoder:
    """The features of an AUDIO_ENCODER. Raises ValueError for one whose features the network cannot use."""
    if isinstance(encoder, LogMelAudioEncoder):
        return LOG_MEL
    model = getattr(encoder, "model", None)
    if not isinstance(model, Wav2Vec2Model):
        raise ValueError(
            f"audio_encoder: {type(encoder).__name__} gives no features that the network can use; connect the "
            "AUDIO_ENCODER output of Load AsymTalker, or a wav2vec2-base-960h from Audio Encoder Loader"
        )
    weights = next(model.feature_extractor.parameters())
    if weights.dtype != torch.float32:
        logging.info(
            "AsymTalker: this wav2vec2 is stored in %s; the one from Load AsymTalker is exact (float32)", weights.dtype
        )

    def encode(speech: Speech, start: int, stop: int) -> Tensor:
        model_management.throw_exception_if_processing_interrupted()
        model_management.load_models_gpu([encoder.patcher])
        return encode_wav2vec2(model, speech, start, stop, encoder.load_device)

    return FeatureEncoder(
        name=f"wav2vec2 ({file})" if (file := file_of(encoder)) else "wav2vec2",
        identity=f"wav2vec2 {encoder.load_device.type} {loaded_fingerprint(encoder)}",
        shape=(len(model.encoder.layers), model.masked_spec_embed.shape[0]),
        encode=encode,
        window_frames=WAV2VEC2_WINDOW_FRAMES,
        context_frames=WAV2VEC2_CONTEXT_FRAMES,
        lead_frames=ROLLING_FRAMES,
        tail_frames=WAV2VEC2_TAIL_FRAMES,
        sinc=LONG,
    )
