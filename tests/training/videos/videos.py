"""Small videos of a photographed person, with sound, made on the spot."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from PIL import Image

from asymtalker.scripts._environment import ROOT

PHOTO = ROOT / "tests" / "data" / "astronaut.jpg"
RATE = 48_000
TIME_BASE = Fraction(1, 90_000)

Frames = Sequence[np.ndarray]


def person(
    count: int, size: tuple[int, int] = (400, 320), travel: float = 20.0, scale: float = 1.0
) -> list[np.ndarray]:
    """The photograph moving over a canvas of ``size`` (width, height) by ``travel`` pixels from end to end."""
    with Image.open(PHOTO) as file:
        photo = np.array(file.convert("RGB").resize((round(320 * scale), round(320 * scale))))
    width, height = size
    frames = []
    for index in range(count):
        canvas = np.full((height, width, 3), 90, np.uint8)
        left = round(travel * index / max(1, count - 1))
        shown = photo[:height, : width - left]
        canvas[: shown.shape[0], left : left + shown.shape[1]] = shown
        frames.append(canvas)
    return frames


def plain(count: int, size: tuple[int, int] = (400, 320)) -> list[np.ndarray]:
    """Pictures without a face: a moving gradient."""
    ramp = np.linspace(0, 200, size[0])[None, :, None] + np.zeros((size[1], 1, 3))
    return [np.roll(ramp, index, axis=1).astype(np.uint8) for index in range(count)]


def speech(seconds: float, rate: int = RATE) -> np.ndarray:
    """A buzz with four syllables a second: float32 [N]."""
    time = np.arange(round(seconds * rate)) / rate
    buzz = sum(np.sin(2 * np.pi * 120 * harmonic * time) / harmonic for harmonic in range(1, 8))
    return (0.2 * buzz * (0.5 - 0.5 * np.cos(2 * np.pi * 4 * time))).astype(np.float32)


def write_video(
    path: Path,
    frames: Frames,
    *,
    times: Sequence[float] | None = None,
    fps: float = 25.0,
    audio: np.ndarray | None = None,
    audio_start: float = 0.0,
) -> Path:
    """An mp4 with ``frames`` shown at ``times`` in seconds (else at ``fps``) and mono ``audio`` at 48 kHz."""
    times = [index / fps for index in range(len(frames))] if times is None else times
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=round(fps))
        video.height, video.width = frames[0].shape[:2]
        video.pix_fmt = "yuv420p"
        video.codec_context.time_base = TIME_BASE
        video.options = {"crf": "12", "bf": "0", "preset": "ultrafast"}
        sound = container.add_stream("aac", rate=RATE, layout="mono") if audio is not None else None
        for time, picture in zip(times, frames, strict=True):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = round(time / TIME_BASE), TIME_BASE
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        if sound is not None and audio is not None:
            for start in range(0, len(audio), 1024):
                block = av.AudioFrame.from_ndarray(audio[None, start : start + 1024], format="fltp", layout="mono")
                block.sample_rate = RATE
                block.pts, block.time_base = start + round(audio_start * RATE), Fraction(1, RATE)
                container.mux(sound.encode(block))
            container.mux(sound.encode(None))
    return path
