"""A portrait moved for the network alone: its frames come back to their own place."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
import torch
from torch import Tensor

from asymtalker.models.audio import AudioFeatures
from asymtalker.models.config import SamplingConfig
from asymtalker.models.placing import ShiftedCodec, shifted
from asymtalker.models.reference import Reference, Shift, temporal_reference
from asymtalker.models.rollout import ContinuityOptions, rollout
from asymtalker.tests.models.test_rollout import Network
from asymtalker.tests.models.tiny import noise, tiny_dit, tiny_vae

SHIFTS: list[Shift] = [(3, 0), (-2, 0), (0, 4), (0, -1), (3, -4), (-5, 2)]


@dataclass
class Seen:
    """A codec whose latents are the pixels, and which keeps them."""

    encoded: list[Tensor] = field(default_factory=list)

    def encode(self, pixels: Tensor) -> Tensor:
        self.encoded.append(pixels)
        return pixels

    def decode(self, latents: Tensor) -> Tensor:
        return latents.clone()


@pytest.mark.parametrize("shift", SHIFTS)
def test_pixels_move_and_the_border_goes_on(shift: Shift) -> None:
    pixels = noise(1, 3, 2, 12, 16)
    moved = shifted(pixels, shift)
    across, down = shift
    for row, column in ((0, 0), (0, 15), (11, 0), (11, 15), (6, 7)):
        source = min(max(row - down, 0), 11), min(max(column - across, 0), 15)
        assert torch.equal(moved[..., row, column], pixels[..., source[0], source[1]])


@pytest.mark.parametrize("shift", SHIFTS)
def test_frames_are_in_their_own_place(shift: Shift) -> None:
    portrait, pixels = noise(1, 3, 1, 12, 16, seed=1), noise(1, 3, 2, 12, 16)
    seen = Seen()
    codec = ShiftedCodec(seen, shift, portrait)
    frames = codec.decode(codec.encode(pixels))
    assert torch.equal(seen.encoded[0], shifted(pixels, shift))
    across, down = shift
    lost = torch.zeros(12, 16, dtype=torch.bool)
    lost[:, 16 - across if across > 0 else 0 : 16 if across > 0 else -across] = across != 0
    lost[12 - down if down > 0 else 0 : 12 if down > 0 else -down] |= down != 0
    assert torch.equal(frames[..., ~lost], pixels[..., ~lost])
    assert torch.equal(frames[..., lost], portrait.expand(-1, -1, 2, -1, -1)[..., lost])


def test_parts_are_in_their_own_place() -> None:
    codec, latents = ShiftedCodec(tiny_vae(), (5, -3), noise(1, 3, 1, 32, 32).tanh()), noise(1, 4, 5, 2, 2)
    parts = codec.decode_parts(latents)
    assert parts is not None and torch.equal(parts(2, 4), codec.decode(latents)[:, :, 5:13])


def test_views_are_in_their_own_place() -> None:
    codec, latents = ShiftedCodec(tiny_vae(), (5, -3), noise(1, 3, 1, 32, 32).tanh()), noise(1, 4, 5, 2, 2)
    parts, pixels = codec.decode_parts(latents), codec.decode(latents)
    assert parts is not None
    for window in ((slice(1, 20), slice(12, 32)), (slice(8, 30), slice(28, 32)), (slice(0, 2), slice(0, 8))):
        part, whole = parts.views(2, 4, window, 2)
        torch.testing.assert_close(part, pixels[:, :, 5:13][(..., *window)], atol=1e-5, rtol=0)
        torch.testing.assert_close(whole, pixels[:, :, [7, 11]], atol=1e-5, rtol=0)


def test_a_rollout_decodes_and_continues_in_the_moved_place() -> None:
    vae, portrait, shift = tiny_vae(), noise(1, 3, 1, 32, 32, seed=1).tanh(), (5, -3)
    latents = temporal_reference(ShiftedCodec(vae, shift, portrait).encode, portrait, 9)
    assert torch.equal(latents, temporal_reference(vae.encode, shifted(portrait, shift), 9))
    audio = AudioFeatures(noise(14, 1, 6, seed=2), "random")
    network, sampling, options = Network(tiny_dit()), SamplingConfig(steps=2, frames_per_chunk=9), ContinuityOptions()
    reference = Reference(latents, portrait, 9, shift=shift)
    with torch.no_grad():
        chunks = [chunk for chunk, _ in rollout(network, vae, reference, audio, sampling, options, 0)]
    strip = chunks[1].frames[:, :, -5:].float() / 127.5 - 1
    still = portrait[0, :, 0, :, -5:].movedim(0, -1)
    # Their colours are matched to the portrait's with those of the rest of the frame.
    correlation = torch.corrcoef(torch.stack((strip.mean(0).flatten(), still.flatten())))[0, 1]
    assert correlation > 0.95


def test_the_shift_goes_to_the_device_with_the_reference() -> None:
    reference = Reference(noise(1, 4, 3, 2, 2), noise(1, 3, 1, 32, 32), 9, shift=(2, 1))
    assert reference.to(torch.device("cpu")).shift == (2, 1)
