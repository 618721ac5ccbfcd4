"""Prepared clips as training samples; which ones a step sees follows from (seed, step)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from models.audio import audio_windows, log_mel_features

from .config import TrainingError
from .latents import CONTINUITY_FRAMES, FRAMES_PER_CHUNK, clip_frames, num_chunks, read_chunk
from .synth.augment import augment


@dataclass(frozen=True)
class Batch:
    """Samples of one step.

    ``latents``, ``reference`` [B, C, T, h, w]; ``windows`` [B, F, 5, blocks, channels]; ``mask`` [B, 1, T, h, w] of the
    mouth; ``mouth`` [B, F, 3] true opening, width and rounding; ``continuity`` [B] latent frames that are given.
    """

    latents: Tensor
    reference: Tensor
    windows: Tensor
    mask: Tensor
    mouth: Tensor
    continuity: Tensor


class PreparedClips(Dataset[tuple[Tensor, ...]]):
    """Random chunks of the prepared clips in ``folder``, with speech augmented afresh each time."""

    def __init__(self, folder: Path, seed: int, length: int, stride_t: int = 4) -> None:
        self.paths = sorted(folder.glob("clip_*.safetensors"))
        if not self.paths:
            raise TrainingError(
                f"{folder} holds no encoded clips (clip_*.safetensors): run `python -m training latents`"
            )
        self.chunks = num_chunks(self.paths[0])
        self.seed, self.length, self.stride_t = seed, length, stride_t

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> tuple[Tensor, ...]:
        rng = np.random.default_rng([self.seed, index])
        chunk_index = int(rng.integers(self.chunks))
        chunk = read_chunk(self.paths[int(rng.integers(len(self.paths)))], chunk_index)
        audio = torch.from_numpy(augment(chunk.audio.numpy(), rng))
        features = log_mel_features(audio, clip_frames(audio))
        windows = audio_windows(features, chunk_index * (FRAMES_PER_CHUNK - CONTINUITY_FRAMES), FRAMES_PER_CHUNK)[0]
        latents, reference = chunk.latents, chunk.reference
        if chunk_index == 0:
            # The first chunk of a video continues the portrait itself.
            latents = torch.cat((reference[:, :1], latents[:, 1:]), dim=1)
        mask = mouth_mask(chunk.boxes, latents.shape, self.stride_t)
        return latents, reference, windows, mask, chunk.mouth, torch.tensor(1 if chunk_index == 0 else 2)


def mouth_mask(boxes: Tensor, shape: torch.Size, stride_t: int) -> Tensor:
    """Latent sites [1, T, h, w] that any of a latent frame's mouth ``boxes`` [F, 4] (fractions) touches."""
    _, num_latents, height, width = shape
    mask = torch.zeros(1, num_latents, height, width)
    for frame, (x0, y0, x1, y1) in enumerate(boxes.tolist()):
        latent = (frame + stride_t - 1) // stride_t
        rows = slice(max(0, int(y0 * height)), int(y1 * height) + 1)
        mask[:, latent, rows, max(0, int(x0 * width)) : int(x1 * width) + 1] = 1
    return mask
