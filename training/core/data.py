"""Prepared clips as training samples; those of a step depend only on (seed, step)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from ...models.audio import audio_windows, frames_of_latents, log_mel_features
from ...models.blinks import with_channel
from ...models.reference import ReferenceKind
from ..corpus.augment import augment
from .chunks import FRAMES_PER_CHUNK, new_frames, stride_of
from .config import TrainingError
from .latents import check_lids, clip_frames, num_chunks, read_chunks


@dataclass(frozen=True)
class Batch:
    """Samples of K consecutive chunks each.

    ``latents`` [B, K, C, T, h, w]; ``reference`` [B, C, T, h, w]; ``windows`` [B, K, F, 5, blocks, channels]; ``mask``
    [B, K, 1, T, h, w] of the mouth; ``eyes`` of the same shape, where they blink; ``mouth`` [B, K, F, 8] true
    articulation (NaN where unknown);
    ``continuity`` [B] latent frames that are given to the first of the chunks (1 at the beginning of a video, else 2).
    """

    latents: Tensor
    reference: Tensor
    windows: Tensor
    mask: Tensor
    eyes: Tensor
    mouth: Tensor
    continuity: Tensor

    @property
    def watched(self) -> Tensor:
        """Sites of which losses may take more account: of the mouth, and of eyes that blink."""
        return torch.maximum(self.mask, self.eyes)

    def to(self, device: torch.device) -> Batch:
        """The same samples on ``device``."""
        return Batch(**{item.name: getattr(self, item.name).to(device) for item in fields(self)})


class PreparedClips(Dataset[tuple[Tensor, ...]]):
    """Random runs of ``chunks`` consecutive chunks of the clips in ``folder``, with speech augmented afresh each time.

    Clips that bring features of their speech (those of the published models) are taken as they are.

    Several chunks always begin with their clip, as generation does. ``reference`` "static" is the baseline without TRE:
    the latent of the portrait as one image for every latent frame. ``lids`` gives windows the channel of networks with
    ``AudioConfig.lids``. Of single chunks that are their clip's first, the share ``beginnings`` begins a video; the
    others are taken as later ones, which clips of one chunk do not have.

    Raises:
        TrainingError: no clips there, or clips shorter than ``chunks``.
    """

    def __init__(
        self,
        folder: Path,
        seed: int,
        length: int,
        *,
        chunks: int = 1,
        reference: str = ReferenceKind.TRE,
        lids: bool = False,
        beginnings: float = 1.0,
    ) -> None:
        if reference not in ReferenceKind.texts():
            raise TrainingError(f"reference must be one of {ReferenceKind.texts()}, got {reference!r}")
        self.paths = sorted(folder.glob("clip_*.safetensors"))
        if not self.paths:
            raise TrainingError(f"{folder} holds no encoded clips (clip_*.safetensors): run `latents` or `prepare`")
        self.counts = {path: num_chunks(path) for path in self.paths}
        fewest, self.most = min(self.counts.values()), max(self.counts.values())
        if chunks > fewest:
            raise TrainingError(f"{folder}: its clips have {fewest} chunks, but {chunks} are needed")
        self.seed, self.length = seed, length
        self.lids, self.beginnings = lids, beginnings
        if lids:
            check_lids(self.paths)
        self.chunks, self.static = chunks, reference == ReferenceKind.STATIC

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> tuple[Tensor, ...]:
        rng = np.random.default_rng([self.seed, index])
        first = int(rng.integers(self.most)) if self.chunks == 1 else 0
        path = self.paths[int(rng.integers(len(self.paths)))]
        # Clips may be of different lengths.
        first %= self.counts[path]
        clip = read_chunks(path, first, self.chunks)
        latents, reference, features = clip.latents, clip.reference, clip.features
        if features is None:
            audio = torch.from_numpy(augment(clip.audio.numpy(), rng))
            features = log_mel_features(audio, clip_frames(audio))
        stride_t = stride_of(latents.shape[2])
        starts = [n * new_frames(stride_t) for n in range(first, first + self.chunks)]
        windows = torch.cat([chunk_windows(features, start, clip.lids if self.lids else None) for start in starts])
        if self.static:
            reference = reference[:, :1].expand_as(reference).contiguous()
        begins = first == 0 and (self.chunks > 1 or self.beginnings == 1 or rng.random() < self.beginnings)
        if begins:
            # The first chunk of a video continues the portrait itself.
            latents = latents.clone()
            latents[0, :, :1] = reference[:, :1]
        mask = torch.stack([mouth_mask(boxes, latents.shape[1:], stride_t) for boxes in clip.boxes])
        eyes = torch.zeros_like(mask)
        if self.lids:
            spans = [clip.lids[start : start + FRAMES_PER_CHUNK] for start in starts]
            eyes = torch.stack([eye_mask(clip.eyes, span, latents.shape[1:], stride_t) for span in spans])
        return latents, reference, windows, mask, eyes, clip.mouth, torch.tensor(1 if begins else 2)


def chunk_windows(features: Tensor, start: int, lids: Tensor | None = None) -> Tensor:
    """[1, F, 5, blocks, channels] around the chunk from frame ``start`` on; with ``lids`` [frames], a channel more."""
    windows = audio_windows(features, start, FRAMES_PER_CHUNK)
    if lids is None:
        return windows
    return with_channel(windows, audio_windows(lids, start, FRAMES_PER_CHUNK))


def mouth_mask(boxes: Tensor, shape: torch.Size, stride_t: int) -> Tensor:
    """Latent sites [1, T, h, w] that any of a latent frame's mouth ``boxes`` [F, 4] (fractions) touches."""
    _, num_latents, height, width = shape
    mask = torch.zeros(1, num_latents, height, width)
    for frame, (x0, y0, x1, y1) in enumerate(boxes.tolist()):
        latent = (frame + stride_t - 1) // stride_t
        rows = slice(max(0, int(y0 * height)), int(y1 * height) + 1)
        mask[:, latent, rows, max(0, int(x0 * width)) : int(x1 * width) + 1] = 1
    return mask


def eye_mask(box: Tensor, lids: Tensor, shape: torch.Size, stride_t: int) -> Tensor:
    """Latent sites [1, T, h, w] of the eyes' ``box`` [4] (fractions), in latent frames in which ``lids`` [F] close."""
    closing = frames_of_latents(lids[None], stride_t)[0].amax(1) > 0
    # A box of zeros is unknown, and is not the site in the corner.
    return mouth_mask(box.expand(len(lids), 4), shape, stride_t) * (closing & box.any())[:, None, None]


def load_batches(
    clips: PreparedClips, size: int, step: int, workers: int, part: int = 0, parts: int = 1
) -> Iterator[Batch]:
    """All batches of ``size`` samples from number ``step`` on, or of each the ``part``-th of ``parts`` equal shares."""
    share = size // parts
    starts = range(step * size + part * share, len(clips), size)
    return load_samples(clips, [list(range(start, start + share)) for start in starts], workers)


def load_samples(clips: PreparedClips, order: Sequence[list[int]], workers: int) -> Iterator[Batch]:
    """A batch of the samples with the indices in each item of ``order``."""
    for tensors in DataLoader(clips, batch_sampler=order, num_workers=workers, prefetch_factor=4 if workers else None):
        yield Batch(*tensors)
