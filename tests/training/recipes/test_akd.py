"""The rollout that is distilled: what continues what, and where the gradient is."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from asymtalker.models.blinks import with_channel
from asymtalker.models.color import match_color
from asymtalker.models.config import AudioConfig, DiTConfig
from asymtalker.models.dit import TalkingHeadDiT
from asymtalker.models.flow import Denoise, schedule
from asymtalker.models.nano_vae import NanoVAE, NanoVAEConfig
from asymtalker.training.core import distillation
from asymtalker.training.core.config import TrainingError, read_config
from asymtalker.training.core.data import Batch
from asymtalker.training.core.distillation import AKDTraining, RolledChunk, carry, roll_out
from asymtalker.training.core.inference import condition
from asymtalker.training.core.paths import CONFIGS
from asymtalker.training.recipes.akd import Distillation

CONFIG = CONFIGS / "nano_akd.toml"
DIT = DiTConfig(
    dim=32, ffn_dim=64, num_heads=1, num_layers=1, in_dim=96, out_dim=48, text_dim=8, vae_stride=(4, 16, 16),
    prediction="reference_residual", audio=AudioConfig(blocks=1, channels=320, intermediate_dim=16, context_tokens=2),
)  # fmt: skip


@pytest.fixture(scope="module")
def vae() -> NanoVAE:
    torch.manual_seed(0)
    return NanoVAE(NanoVAEConfig(width=16, encoder_blocks=1, decoder_blocks=3)).requires_grad_(False)


def network(seed: int, *, told: bool = False) -> TalkingHeadDiT:
    """``told`` says whether the network is told of blinks."""
    torch.manual_seed(seed)
    audio = dataclasses.replace(DIT.audio, lids=told)
    made = TalkingHeadDiT(dataclasses.replace(DIT, audio=audio))
    made.initialise()
    torch.nn.init.normal_(made.head.head.weight, std=0.02)
    return made


@pytest.fixture(scope="module")
def batch() -> Batch:
    torch.manual_seed(1)
    latents = torch.randn(2, 3, 48, 9, 4, 4)
    reference = torch.randn(2, 48, 9, 4, 4)
    latents[:, 0, :, :1] = reference[:, :, :1]
    windows, mask = torch.randn(2, 3, 33, 5, 1, 320), torch.zeros(2, 3, 1, 9, 4, 4)
    return Batch(latents, reference, windows, mask, torch.zeros_like(mask), torch.zeros(2, 3, 33, 3), torch.ones(2))


def config(**changes: object) -> AKDTraining:
    return dataclasses.replace(read_config(AKDTraining, CONFIG, []), **changes)  # type: ignore[arg-type]


def test_carry_is_the_tail_as_at_inference(vae: NanoVAE) -> None:
    torch.manual_seed(2)
    latents, portrait = torch.randn(2, 48, 9, 4, 4), torch.rand(2, 3, 1, 64, 64) * 2 - 1
    whole = torch.cat([vae.decode(one[None]) for one in latents])
    expected = vae.encode(match_color(whole, portrait, 1.0)[:, :, -5:])
    torch.testing.assert_close(carry(vae, latents, portrait), expected, atol=1e-4, rtol=1e-4)


class PixelCodec:
    """A codec whose latents are its pixels."""

    def encode(self, pixels: torch.Tensor) -> torch.Tensor:
        return pixels

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        return latents


def test_colour_correction_is_exact_in_mixed_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(3)
    frames = torch.rand(1, 3, 9, 16, 16, generator=generator) * 2 - 1
    portrait = torch.rand(1, 3, 1, 16, 16, generator=generator) * 0.5
    expected = carry(PixelCodec(), frames, portrait)
    precisions = []

    def observed(*args: torch.Tensor | float) -> torch.Tensor:
        precisions.append(torch.get_float32_matmul_precision())
        return match_color(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(distillation, "match_color", observed)
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")
    try:
        with torch.autocast("cpu", torch.bfloat16):
            corrected = carry(PixelCodec(), frames, portrait)
        assert torch.get_float32_matmul_precision() == "high"
    finally:
        torch.set_float32_matmul_precision(before)
    assert torch.equal(corrected, expected)
    assert precisions == ["highest"]


@pytest.mark.parametrize("continuity", ["asymmetric", "symmetric-self", "symmetric-gt"])
def test_every_chunk_continues_what_it_should(vae: NanoVAE, batch: Batch, continuity: str) -> None:
    settings = config(chunks=3, continuity=continuity)
    chunks = list(roll_out(network(0), vae, batch, settings, None, torch.Generator().manual_seed(0)))
    portrait = vae.decode(batch.reference[:, :, :1])
    assert torch.equal(chunks[0].student_continuity, batch.reference[:, :, :1])
    for before, chunk, truth in zip(chunks, chunks[1:], batch.latents.unbind(1)[1:], strict=False):
        assert torch.equal(chunk.clip_continuity, truth[:, :, :2])
        own = truth[:, :, :2] if continuity == "symmetric-gt" else carry(vae, before.sample, portrait)
        assert torch.equal(chunk.student_continuity, own)
        assert torch.equal(chunk.sample[:, :, :2], own)
        assert not chunk.sample.requires_grad


def test_every_chunk_has_its_own_draw_of_an_uncertain_reference(vae: NanoVAE, batch: Batch) -> None:
    settings = config(chunks=2, reference_noise=1.0)
    first, second = roll_out(network(0), vae, batch, settings, None, torch.Generator().manual_seed(0))
    assert not torch.equal(first.reference, second.reference)
    assert not torch.equal(first.reference, batch.reference)
    # The video begins with the portrait itself.
    assert torch.equal(first.student_continuity, batch.reference[:, :, :1])


def test_gradient_belongs_to_one_step_and_changes_no_sample(vae: NanoVAE, batch: Batch) -> None:
    student, settings = network(0), config(chunks=2)
    with torch.no_grad():
        quiet = list(roll_out(student, vae, batch, settings, None, torch.Generator().manual_seed(0)))
    for step in range(settings.denoising_steps):
        rolled = list(roll_out(student, vae, batch, settings, step, torch.Generator().manual_seed(0)))
        for a, b in zip(rolled, quiet, strict=True):
            torch.testing.assert_close(a.sample, b.sample)
            assert a.xhat.requires_grad
            assert not a.sample.requires_grad
    # The last step's x0 is the sample itself.
    assert schedule(settings.denoising_steps, settings.shift)[-1] == 0
    torch.testing.assert_close(rolled[1].xhat.detach(), quiet[1].sample)


def test_student_moves_towards_the_teacher(vae: NanoVAE, batch: Batch) -> None:
    """With a critic that knows the student, following the gradient brings the student's x0 to the teacher's."""
    student, teacher = network(0), network(1)
    critic = network(0)
    settings = config(chunks=1, critic_updates=2, critic_warmup=0, mouth_weight=0.0)
    optimizers: dict[str, torch.optim.Optimizer] = {
        "student": torch.optim.Adam(student.parameters(), 5e-4, betas=(0.0, 0.99)),
        "critic": torch.optim.Adam(critic.parameters(), 1e-3, betas=(0.0, 0.99)),
    }
    distillation = Distillation(student, teacher.requires_grad_(False), critic, vae, optimizers, settings)

    def distance() -> float:
        with torch.no_grad():
            samples = [
                next(roll_out(n, vae, batch, settings, None, torch.Generator().manual_seed(9))).sample
                for n in (student, teacher)
            ]
        return (samples[0] - samples[1]).square().mean().item()

    before = distance()
    for step in range(25):
        distillation.step(batch, True, torch.Generator().manual_seed(step))
    assert distance() < 0.75 * before


def test_unknown_continuity_is_named() -> None:
    with pytest.raises(TrainingError, match="symmetric-gt"):
        config(continuity="sideways")


def test_guidance_for_each_site_moves_away_from_the_silence_given(batch: Batch) -> None:
    dit, windows, reference = network(3), batch.windows[:, 0], batch.reference
    x, u, other = torch.randn(reference.shape), torch.tensor(0.8), torch.ones_like(windows)
    speech, silence = (condition(dit, w, reference)(x, u) for w in (windows, other))
    guidance = torch.ones_like(batch.mask[:, 0])
    guidance[..., 2:] = 3.0
    guided = condition(dit, windows, reference, guidance, other)(x, u)
    torch.testing.assert_close(guided[..., :2], speech[..., :2])
    wanted = silence + 3 * (speech - silence)
    torch.testing.assert_close(guided[..., 2:], wanted[..., 2:], atol=1e-4, rtol=1e-4)


def test_mouth_and_blinking_eyes_have_their_own_guidance(batch: Batch, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[torch.Tensor] = []

    def spy(dit: TalkingHeadDiT, windows: torch.Tensor, reference: torch.Tensor, *guided: torch.Tensor) -> Denoise:
        seen.extend(guided)
        return condition(dit, windows, reference, *guided)

    monkeypatch.setattr(distillation, "condition", spy)
    mask, eyes = batch.mask[:, 0].clone(), batch.mask[:, 0].clone()
    mask[:, :, :, 3, 3], eyes[:, :, 4, 1, 1] = 1, 1
    x, continuity = batch.latents[:, 0], batch.reference[:, :, :1]
    windows = with_channel(batch.windows[:, 0], torch.ones(2, 33, 5))
    rolled = RolledChunk(x, x, batch.reference, windows, continuity, continuity, mask, torch.maximum(mask, eyes))
    settings = config(guide_mouth=True, guidance=4.0, blink_guidance=2.0)
    teacher, critic = (network(seed, told=True) for seed in (1, 2))
    distillation.student_loss(teacher, critic, rolled, settings, torch.Generator().manual_seed(0))
    (guidance, silence) = seen
    # Without speech, and with open eyes.
    assert windows[..., -1].all() and not silence.any()
    assert (guidance[0, 0, 4, :2, :2] == 2).all() and (guidance[0, 0, 3, :2, :2] == 1).all()
    # Where both are near, the larger one.
    assert (guidance[0, 0, :, 2:, 2:] == 4).all() and (guidance[0, 0, :, 0, 3] == 1).all()


def test_blink_guidance_needs_a_mouth_that_is_guided() -> None:
    with pytest.raises(TrainingError, match="blink_guidance needs guide_mouth"):
        config(blink_guidance=2.0)
