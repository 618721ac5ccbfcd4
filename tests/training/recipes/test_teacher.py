"""The teacher's batches: windows of the picture, and people who take some of another one's appearance."""

import torch

from asymtalker.training.core.data import Batch
from asymtalker.training.recipes.teacher import blended, cropped


def batch(people: int = 4) -> Batch:
    generator = torch.Generator().manual_seed(0)
    reference = torch.randn(people, 6, 9, 16, 16, generator=generator)
    mask = torch.zeros(people, 1, 1, 9, 16, 16)
    mask[..., 10:12, 6:10] = 1
    return Batch(
        latents=reference[:, None] + 0.1 * torch.randn(people, 1, 6, 9, 16, 16, generator=generator),
        reference=reference,
        windows=torch.zeros(people, 1, 33, 5, 1, 320),
        mask=mask,
        eyes=torch.zeros_like(mask),
        mouth=torch.zeros(people, 1, 33, 8),
        continuity=torch.ones(people),
    )


def test_blended_people_keep_their_motion() -> None:
    before = batch(64)
    after = blended(before, 0.4, torch.Generator().manual_seed(1))
    motion, kept = (b.latents[:, 0] - b.reference for b in (before, after))
    torch.testing.assert_close(kept, motion)
    shift = (after.reference - before.reference).flatten(1)
    towards = (before.reference.roll(1, 0) - before.reference).flatten(1)
    share = (shift * towards).sum(1) / towards.square().sum(1)
    torch.testing.assert_close(shift, share[:, None] * towards)
    assert share.min() == 0 and 0.3 < share.max() <= 0.4
    assert 0.3 < (share == 0).float().mean() < 0.7


def test_windows_show_the_eyes_that_blink() -> None:
    seen = batch()
    seen.eyes[:1, ..., 6:8, 4:12] = 1
    for seed in range(8):
        window = cropped(seen, 8, torch.Generator().manual_seed(seed))
        assert window.latents.shape[-2:] == window.mask.shape[-2:] == (8, 8)
        assert window.mask.sum() == seen.mask.sum() and window.eyes.sum() == seen.eyes.sum()
