"""SyncNet (Chung and Zisserman, "Out of time", 2016): how well lips and sound fit, as Sync-C and Sync-D.

Layer names are those of the published weights (syncnet_v2.model). Windows, offsets and both numbers follow the authors'
evaluation program, to which published tables refer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from python_speech_features import mfcc
from torch import Tensor, nn

from ...models.rates import SAMPLE_RATE, SAMPLES_PER_FRAME

WINDOW_FRAMES = 5
WINDOW_STEPS = 20
"""A window of 0.2 s: five frames of 25 a second, twenty steps of 100 a second."""

STEPS_PER_FRAME = 4
MAX_OFFSET = 15
EMBEDDING = 1024
SIZE = 224
BATCH = 20


def _stack(
    convolution: type[nn.Conv2d] | type[nn.Conv3d],
    norm: type[nn.Module],
    layers: Sequence[tuple[int, int, tuple[int, ...], tuple[int, ...], tuple[int, ...]] | nn.Module],
) -> nn.Sequential:
    """Convolutions (inputs, outputs, kernel, stride, padding) with their norm and ReLU, and the pools between them."""
    modules: list[nn.Module] = []
    for layer in layers:
        if isinstance(layer, nn.Module):
            modules.append(layer)
            continue
        inputs, outputs, kernel, stride, padding = layer
        # One class or the other, with as many dimensions as its numbers have.
        modules += [convolution(inputs, outputs, kernel, stride, padding), norm(outputs), nn.ReLU()]  # pyright: ignore[reportArgumentType, reportCallIssue]
    return nn.Sequential(*modules)


def _head() -> nn.Sequential:
    return nn.Sequential(nn.Linear(512, 512), nn.BatchNorm1d(512), nn.ReLU(), nn.Linear(512, EMBEDDING))


class SyncNet(nn.Module):
    """Embeds 0.2 s of a face and of its sound into one space."""

    def __init__(self) -> None:
        super().__init__()
        one, same = (1, 1), (1, 1)
        self.netcnnaud = _stack(
            nn.Conv2d,
            nn.BatchNorm2d,
            [
                (1, 64, (3, 3), one, same),
                nn.MaxPool2d((1, 1), (1, 1)),
                (64, 192, (3, 3), one, same),
                nn.MaxPool2d((3, 3), (1, 2)),
                (192, 384, (3, 3), one, same),
                (384, 256, (3, 3), one, same),
                (256, 256, (3, 3), one, same),
                nn.MaxPool2d((3, 3), (2, 2)),
                (256, 512, (5, 4), one, (0, 0)),
            ],
        )
        half, plane = (1, 2, 2), (0, 1, 1)
        self.netcnnlip = _stack(
            nn.Conv3d,
            nn.BatchNorm3d,
            [
                (3, 96, (WINDOW_FRAMES, 7, 7), half, (0, 0, 0)),
                nn.MaxPool3d((1, 3, 3), half),
                (96, 256, (1, 5, 5), half, plane),
                nn.MaxPool3d((1, 3, 3), half, plane),
                (256, 256, (1, 3, 3), (1, 1, 1), plane),
                (256, 256, (1, 3, 3), (1, 1, 1), plane),
                (256, 256, (1, 3, 3), (1, 1, 1), plane),
                nn.MaxPool3d((1, 3, 3), half),
                (256, 512, (1, 6, 6), (1, 1, 1), (0, 0, 0)),
            ],
        )
        self.netfcaud, self.netfclip = _head(), _head()

    def embed_audio(self, windows: Tensor) -> Tensor:
        """Cepstra [N, 1, 13, 20] -> [N, 1024]."""
        return self.netfcaud(self.netcnnaud(windows).flatten(1))

    def embed_video(self, windows: Tensor) -> Tensor:
        """Faces [N, 3, 5, 224, 224], BGR in 0..255 -> [N, 1024]."""
        return self.netfclip(self.netcnnlip(windows).flatten(1))


@dataclass(frozen=True)
class Sync:
    """``confidence`` is Sync-C, ``distance`` Sync-D; ``offset`` in frames is positive where the sound comes early.

    ``distances`` [31] are the means at the offsets from ``MAX_OFFSET`` down to -``MAX_OFFSET``.
    """

    confidence: float
    distance: float
    offset: int
    distances: np.ndarray


@torch.no_grad()
def measure_sync(network: SyncNet, faces: Tensor, audio: Tensor) -> Sync:
    """Sync of ``faces`` uint8 [F, 224, 224, 3] of RGB, cropped as SyncNet expects, with ``audio`` [N] at 16 kHz.

    Raises:
        ValueError: fewer than 6 frames.
    """
    count = min(len(faces), len(audio) // SAMPLES_PER_FRAME) - WINDOW_FRAMES
    if count < 1:
        raise ValueError(f"sync takes at least {WINDOW_FRAMES + 1} frames, got {len(faces)}")
    samples = (audio.clamp(-1, 1) * 32767).round().to(torch.int16).numpy()
    cepstra = torch.from_numpy(mfcc(samples, SAMPLE_RATE)).float().T
    device = next(network.parameters()).device
    faces_embedded, sounds_embedded = [], []
    for start in range(0, count, BATCH):
        frames = range(start, min(start + BATCH, count))
        pictures = torch.stack([faces[i : i + WINDOW_FRAMES].flip(-1).permute(3, 0, 1, 2) for i in frames])
        steps = [i * STEPS_PER_FRAME for i in frames]
        sounds = torch.stack([cepstra[None, :, step : step + WINDOW_STEPS] for step in steps])
        faces_embedded.append(network.embed_video(pictures.to(device).float()).cpu())
        sounds_embedded.append(network.embed_audio(sounds.to(device)).cpu())
    return _compare(torch.cat(faces_embedded), torch.cat(sounds_embedded))


def _compare(video: Tensor, audio: Tensor) -> Sync:
    """Distances of every frame to the sounds within the largest offset; zeros stand for those beyond the ends."""
    padded = nn.functional.pad(audio, (0, 0, MAX_OFFSET, MAX_OFFSET))
    shifts = range(2 * MAX_OFFSET + 1)
    distances = torch.stack([nn.functional.pairwise_distance(video, padded[s : s + len(video)]).mean() for s in shifts])
    best = int(distances.argmin())
    nearest = distances[best].item()
    return Sync(distances.median().item() - nearest, nearest, MAX_OFFSET - best, distances.numpy())
