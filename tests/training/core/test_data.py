"""Prepared clips as samples."""

from pathlib import Path

import pytest
import torch

from asymtalker.models.checkpoint import read_checkpoint, write_checkpoint
from asymtalker.training.core.config import TrainingError
from asymtalker.training.core.data import PreparedClips, load_batches


def write_clip(path: Path, chunks: int) -> None:
    """An encoded clip whose latents are the number of its chunks."""
    frames = 33 + 28 * (chunks - 1)
    tensors = {
        "latents": torch.full((chunks, 48, 9, 4, 4), chunks).half(),
        "reference": torch.zeros(48, 9, 4, 4).half(),
        "audio": torch.zeros(frames * 640, dtype=torch.int16),
        "boxes": torch.tensor([0.4, 0.6, 0.6, 0.8]).repeat(frames, 1),
        "mouth": torch.zeros(frames, 8),
    }
    write_checkpoint(path, tensors, {})


def test_clips_may_be_of_different_lengths(tmp_path: Path) -> None:
    # The first file decides nothing: a later one may be longer.
    write_clip(tmp_path / "clip_a.safetensors", 1)
    write_clip(tmp_path / "clip_b.safetensors", 3)
    clips = PreparedClips(tmp_path, seed=0, length=24)
    samples = [clips[index] for index in range(len(clips))]
    seen = {(int(latents[0, 0, -1, 0, 0]), int(continuity)) for latents, *_, continuity in samples}
    assert seen == {(3, 1), (3, 2), (1, 1)}


def test_first_chunks_may_be_taken_as_later_ones(tmp_path: Path) -> None:
    write_clip(tmp_path / "clip_a.safetensors", 1)
    clips = PreparedClips(tmp_path, seed=0, length=100, beginnings=0.4)
    given = [int(clips[index][-1]) for index in range(len(clips))]
    assert 25 < given.count(1) < 55 and set(given) == {1, 2}


def test_windows_and_losses_know_of_blinks(tmp_path: Path) -> None:
    path = tmp_path / "clip_a.safetensors"
    write_clip(path, 1)
    with pytest.raises(TrainingError, match="does not say when its person blinks"):
        PreparedClips(tmp_path, seed=0, length=1, lids=True)
    tensors, _ = read_checkpoint(path)
    closed = torch.zeros(33)
    closed[10:13] = 1
    write_checkpoint(path, tensors | {"lids": closed, "eyes": torch.tensor([0.1, 0.1, 0.4, 0.2])}, {})
    (batch,) = load_batches(PreparedClips(tmp_path, seed=0, length=1, lids=True), 1, 0, 0)
    assert batch.windows.shape[-1] == 321 and torch.equal(batch.windows[0, 0, :, 2, 0, -1], closed)
    # Frames 10 to 12 are in the latent frame of frames 9 to 12.
    assert batch.eyes.amax((0, 1, 2, 4, 5)).nonzero().flatten().tolist() == [3]
    assert torch.equal(batch.watched, (batch.mask + batch.eyes).clamp(max=1))


def test_shares_of_a_batch_make_the_whole(tmp_path: Path) -> None:
    for chunks in (1, 2, 3):
        write_clip(tmp_path / f"clip_{chunks}.safetensors", chunks)
    clips = PreparedClips(tmp_path, seed=0, length=18)
    whole = list(load_batches(clips, 6, 1, 0))
    parts = [list(load_batches(clips, 6, 1, 0, part, 2)) for part in range(2)]
    assert len(whole) == 2
    for batch, *shares in zip(whole, *parts, strict=True):
        assert torch.equal(batch.latents, torch.cat([share.latents for share in shares]))
