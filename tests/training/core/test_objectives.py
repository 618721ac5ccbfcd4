"""The losses against closed forms, and which network sees which continuity."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from asymtalker.training.core.objectives import (
    MIN_LEVEL,
    distribution_matching_loss,
    draw_levels,
    flow_matching_loss,
    uncertain,
)

SHAPE = (2, 3, 4, 2, 2)


def test_gradient_of_distribution_matching_is_the_normalised_difference() -> None:
    generator = torch.Generator().manual_seed(0)
    xhat = torch.randn(SHAPE, generator=generator).requires_grad_()
    real, fake = (torch.randn(SHAPE, generator=generator) for _ in range(2))
    own = truth = torch.zeros(2, 3, 1, 2, 2)
    weight = torch.ones(2, 1, 4, 2, 2)
    u = torch.tensor([0.3, 0.8])
    loss, direction = distribution_matching_loss(
        lambda x, u: real, lambda x, u: fake, xhat, truth, own, u, torch.zeros(SHAPE), weight
    )
    loss.backward()
    scale = (xhat - real)[:, :, 1:].abs().mean((1, 2, 3, 4), keepdim=True)
    g = (fake - real) / scale
    assert xhat.grad is not None
    torch.testing.assert_close(xhat.grad[:, :, 1:], g[:, :, 1:].detach() / g[:, :, 1:].numel())
    assert not xhat.grad[:, :, :1].any()
    torch.testing.assert_close(direction, g[:, :, 1:].abs().mean())


def test_teacher_and_critic_see_the_same_noise_under_their_own_continuity() -> None:
    seen: dict[str, Tensor] = {}

    def network(name: str, x: Tensor) -> Tensor:
        seen[name] = x
        return x

    xhat, eps = torch.full(SHAPE, 4.0), torch.full(SHAPE, 8.0)
    truth, own = torch.full((2, 3, 2, 2, 2), 1.0), torch.full((2, 3, 2, 2, 2), 2.0)
    distribution_matching_loss(
        lambda x, u: network("teacher", x),
        lambda x, u: network("critic", x),
        xhat,
        truth,
        own,
        torch.tensor([0.25, 0.5]),
        eps,
        torch.ones(2, 1, 4, 2, 2),
    )
    assert (seen["teacher"][:, :, :2] == 1).all()
    assert (seen["critic"][:, :, :2] == 2).all()
    for x in seen.values():
        assert (x[0, :, 2:] == 5).all()
        assert (x[1, :, 2:] == 6).all()


def test_flow_matching_counts_new_frames_alone() -> None:
    x0 = torch.randn(SHAPE, generator=torch.Generator().manual_seed(1))
    given = torch.tensor([1.0, 0.0, 0.0, 0.0]).view(1, 1, 4, 1, 1).expand(2, 1, 4, 1, 1)

    def off_by_one_in_the_given_frame(x: Tensor, u: Tensor) -> Tensor:
        assert torch.equal(x[:, :, 0], x0[:, :, 0])
        return x0 + given

    def off_by_one(x: Tensor, u: Tensor) -> Tensor:
        return x0 + 1

    arguments = (x0, given, torch.tensor([0.25, 0.8]), torch.zeros(SHAPE), torch.ones(2, 1, 4, 2, 2))
    assert flow_matching_loss(off_by_one_in_the_given_frame, *arguments) == 0
    # 4 * min(u, 1/2)^2 / u^2 of a squared error of 1: 4 at u = 1/4, 1/0.64 at 0.8.
    torch.testing.assert_close(flow_matching_loss(off_by_one, *arguments), torch.tensor((4 + 1 / 0.64) / 2))


def test_a_drawn_level_is_never_zero(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "rand", lambda count, generator: torch.tensor([0.0, 1.0]))
    levels = draw_levels(2, 5.0, torch.Generator())
    assert levels.tolist() == pytest.approx([MIN_LEVEL, 1.0])
    x0 = torch.zeros(SHAPE)
    given = torch.zeros(2, 1, 4, 1, 1)
    loss = flow_matching_loss(lambda x, u: x, x0, given, levels, torch.ones(SHAPE), torch.ones(2, 1, 4, 2, 2))
    assert loss.isfinite()


def test_an_uncertain_reference_has_one_draw_for_all_latent_frames() -> None:
    reference, generator = torch.randn(SHAPE), torch.Generator().manual_seed(0)
    noise = uncertain(reference, 2.0, generator) - reference
    torch.testing.assert_close(noise, noise[:, :, :1].expand_as(noise))
    assert 1.0 < noise.std() < 3.0
    state = generator.get_state()
    assert uncertain(reference, 0.0, generator) is reference
    # Runs without this noise draw the same numbers as before it existed.
    assert torch.equal(generator.get_state(), state)
