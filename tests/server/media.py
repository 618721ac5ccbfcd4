"""Small pictures and sounds made on the spot, and what PyAV finds in a video."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray
from PIL import Image

FLOAT_FORMAT = 3


def speech_like(seconds: float, rate: int, channels: int) -> NDArray[np.float32]:
    """Return [samples, channels] of a voice-like buzz with four syllables a second, different in every channel."""
    num_samples = round(seconds * rate)
    # It repeats every second; ten minutes would take seconds to compute.
    time = np.arange(min(num_samples, rate)) / rate
    pitch = 2 * np.pi * 120 * time
    buzz = np.sum([np.sin(pitch * harmonic) / harmonic for harmonic in range(1, 12)], axis=0)
    syllables = 0.5 - 0.5 * np.cos(2 * np.pi * 4 * time)
    gains = np.linspace(0.3, 0.15, channels)
    voice = np.resize((buzz * syllables).astype(np.float32), num_samples)
    return voice[:, None] * gains.astype(np.float32)


def write_wav(path: Path, samples: NDArray[np.float32], rate: int) -> Path:
    """Write [samples, channels] as a WAV of 32-bit floats, which keeps NaN."""
    channels = samples.shape[1]
    data = samples.astype("<f4").tobytes()
    header = struct.pack("<HHIIHH", FLOAT_FORMAT, channels, rate, rate * channels * 4, channels * 4, 32)
    chunks = b"WAVEfmt " + struct.pack("<I", len(header)) + header + b"data" + struct.pack("<I", len(data)) + data
    path.write_bytes(b"RIFF" + struct.pack("<I", len(chunks)) + chunks)
    return path


def write_portrait(path: Path, width: int = 256, height: int = 256) -> Path:
    """Write a picture with smooth colours and an oval in the middle."""
    rows, columns = np.mgrid[0:height, 0:width]
    x, y = (columns + 0.5) / width, (rows + 0.5) / height
    picture = np.stack([120 + 80 * x, 90 + 60 * y, 100 + 0 * x], axis=-1)
    picture[((x - 0.5) / 0.25) ** 2 + ((y - 0.5) / 0.35) ** 2 < 1] = (210, 170, 150)
    Image.fromarray(picture.astype(np.uint8)).save(path)
    return path


@dataclass(frozen=True)
class Probe:
    """What a video file holds: frames [n, H, W, 3] uint8, audio [samples, channels] as decoded, times in seconds."""

    frames: NDArray[np.uint8]
    fps: float
    video_start_s: float
    video_codec: str
    audio: NDArray[np.float32] | None
    audio_rate: int
    audio_start_s: float
    audio_seconds: float
    audio_codec: str
    metadata: dict[str, str]


def samples_of(frame: av.AudioFrame) -> NDArray[np.float32]:
    """Return a decoded audio frame as [samples, channels] in the decoder's scale."""
    values = frame.to_ndarray()
    interleaved = values.reshape(-1, frame.layout.nb_channels)
    return (values.T if frame.format.is_planar else interleaved).astype(np.float32)


def probe(path: Path) -> Probe:
    """Decode a whole video file."""
    with av.open(str(path)) as container:
        video = container.streams.video[0]
        frames = np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video)])
        rate, start = float(video.average_rate or 0), float((video.start_time or 0) * (video.time_base or 0))
        codec, metadata = video.codec_context.name, dict(container.metadata)
        if not container.streams.audio:
            return Probe(frames, rate, start, codec, None, 0, 0.0, 0.0, "", metadata)
        container.seek(0)
        audio = container.streams.audio[0]
        blocks = [samples_of(frame) for frame in container.decode(audio)]
        base = audio.time_base or 0
        return Probe(
            frames,
            rate,
            start,
            codec,
            np.concatenate(blocks),
            audio.rate,
            float((audio.start_time or 0) * base),
            float((audio.duration or 0) * base),
            audio.codec_context.name,
            metadata,
        )
