"""The losses: conditional flow matching, and distribution matching with asymmetric conditions."""

from __future__ import annotations

import torch
from torch import Tensor

from ...models.flow import Denoise, apply_continuity, broadcast, shift_time

# At level 0 nothing is left to denoise, and the weight of its error divides by zero.
MIN_LEVEL = 1e-3


def draw_levels(count: int, shift: float, generator: torch.Generator) -> Tensor:
    """Noise levels u [count] in ``MIN_LEVEL``..1 along the shifted path."""
    return shift_time(torch.rand(count, generator=generator), shift).clamp_min(MIN_LEVEL)


def uncertain(reference: Tensor, noise: float, generator: torch.Generator) -> Tensor:
    """``reference`` [B, C, T, h, w] plus noise of the standard deviation ``noise``, the same on every latent frame.

    One draw says little about the person; the average over many chunks says everything.
    """
    if noise == 0:
        return reference
    return reference + noise * torch.randn_like(reference[:, :, :1], generator=generator)


def given_frames(continuity: Tensor, num_latents: int) -> Tensor:
    """1 on latent frames given by continuity, 0 on those to be generated: [B, 1, T, 1, 1]."""
    return (torch.arange(num_latents) < continuity[:, None])[:, None, :, None, None].float()


def masked_mean(values: Tensor, weight: Tensor) -> Tensor:
    """Mean of ``values`` [B, C, T, h, w] under ``weight`` [B, 1, T, h, w]."""
    return (values * weight).sum() / (weight.sum() * values.shape[1])


def flow_matching_loss(network: Denoise, x0: Tensor, given: Tensor, u: Tensor, eps: Tensor, weight: Tensor) -> Tensor:
    """Conditional flow matching (arXiv 2210.02747) with clean frames where ``given`` [B, 1, T, 1, 1] is 1.

    The squared error of the flow is that of x0 over u^2; it is weighted by 4 * min(u, 1/2)^2, so that levels near the
    data do not outweigh the noisy ones that few-step sampling lives on.
    """
    level = broadcast(u)
    x = torch.lerp(torch.lerp(x0, eps, level), x0, given)
    error = (network(x, u) - x0).square() * 4 * (level.clamp_max(0.5) / level).square()
    return masked_mean(error, weight * (1 - given))


def distribution_matching_loss(
    teacher: Denoise,
    critic: Denoise,
    xhat: Tensor,
    teacher_continuity: Tensor,
    critic_continuity: Tensor,
    u: Tensor,
    eps: Tensor,
    weight: Tensor,
) -> tuple[Tensor, Tensor]:
    """Distribution matching (arXiv 2311.18828, eq. 7 and 8) of a chunk ``xhat`` [B, C, T, h, w] that carries gradient.

    Teacher and critic see the same noisy chunk under different continuity latents [B, C, n, h, w] of the same n. That
    is the asymmetry of AKD: the clip's own frames for the teacher, those that the student generated for the critic.

    Returns:
        The loss, whose gradient with respect to xhat is g = (x0_critic - x0_teacher) / mean|xhat - x0_teacher| up to
        the mean over elements, and mean|g| for the report.
    """
    with torch.no_grad():
        x = torch.lerp(xhat, eps, broadcast(u))
        real = teacher(apply_continuity(x, teacher_continuity), u)
        fake = critic(apply_continuity(x, critic_continuity), u)
        new = torch.ones_like(weight)
        new[:, :, : teacher_continuity.shape[2]] = 0
        scale = ((xhat - real).abs() * new).sum((1, 2, 3, 4)) / (new.sum((1, 2, 3, 4)) * xhat.shape[1])
        g = (fake - real) / broadcast(scale.clamp_min(1e-6))
        target = xhat - g
    loss = 0.5 * masked_mean((xhat - target).square(), weight * new)
    return loss, masked_mean(g.abs(), new)
