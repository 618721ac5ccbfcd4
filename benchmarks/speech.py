"""The example: its speech, said over and over, and its portrait."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..models.rates import SAMPLE_RATE

ASSETS = Path(__file__).resolve().parents[1] / "workflows" / "assets"
SPEECH, PORTRAIT = ASSETS / "asymtalker_speech.wav", ASSETS / "asymtalker_portrait.png"


def repeated_speech(seconds: float, path: Path = SPEECH) -> Tensor:
    """``seconds`` of the speech in ``path``, repeated: mono float32 [M] at 16 kHz."""
    resampler = av.AudioResampler("flt", "mono", SAMPLE_RATE)
    with av.open(str(path)) as container:
        parts = [part.to_ndarray() for frame in container.decode(audio=0) for part in resampler.resample(frame)]
    speech = torch.from_numpy(np.concatenate(parts, axis=1)[0])
    num_samples = round(seconds * SAMPLE_RATE)
    return speech.repeat(-(-num_samples // len(speech)))[:num_samples]


def read_portrait(path: Path = PORTRAIT) -> Tensor:
    """A picture as IMAGE [1, H, W, 3] in 0..1."""
    with Image.open(path) as image:
        return torch.from_numpy(np.asarray(image.convert("RGB"), dtype=np.float32) / 255.0)[None]
