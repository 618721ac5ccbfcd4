"""Rectified-flow maths and the chunk samplers. Plain functions, independent of the architecture.

Along the flow x_u = (1 - u) * x0 + u * eps (arXiv 2209.03003), u from 1 (noise) to 0 (data); the network predicts
v = eps - x0, so that x0 = x_u - u * v.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

Denoise = Callable[[Tensor, Tensor], Tensor]
"""(x [B, C, T, h, w], u [] or [B]) -> x0."""

OnSample = Callable[[int, Tensor, Tensor, Tensor], None]
"""Called with (step, u, x, x0) after every denoising step: its input and its prediction. It may raise to stop."""


class Sampler(Protocol):
    """The signature of ``sample_chunk`` and the other samplers."""

    def __call__(
        self,
        denoise: Denoise,
        schedule: Tensor,
        continuity: Tensor,
        noise: Iterable[Tensor],
        callback: OnSample | None = None,
    ) -> Tensor: ...


def velocity_to_x0(x: Tensor, u: Tensor, velocity: Tensor) -> Tensor:
    """x0 = x_u - u * v of ``x`` [B, C, T, h, w] at level ``u`` [] or [B]."""
    return x - broadcast(u) * velocity


def broadcast(u: Tensor) -> Tensor:
    """Levels [] or [B] -> [1 or B, 1, 1, 1, 1], to go with latents."""
    return u.reshape(-1, 1, 1, 1, 1)


def shift_time(s: Tensor, shift: float) -> Tensor:
    """Spend more of the path near the noise: u = shift*s / (1 + (shift - 1)*s) (arXiv 2403.03206, eq. 23)."""
    return shift * s / (1 + (shift - 1) * s)


def schedule(steps: int, shift: float) -> Tensor:
    """Few-step noise levels [steps + 1] from 1 to 0: s = 1, 1 - 1/steps, ... shifted, then 0."""
    return shift_time(torch.linspace(1.0, 0.0, steps + 1), shift)


def euler_schedule(steps: int, shift: float) -> Tensor:
    """Undistilled checkpoints' noise levels [steps + 1]: linspace(1000, 1, steps) / 1000 shifted, then 0."""
    s = torch.linspace(1000.0, 1.0, steps) / 1000.0
    return torch.cat((shift_time(s, shift), torch.zeros(1)))


def apply_continuity(x: Tensor, continuity: Tensor) -> Tensor:
    """``x`` [B, C, T, h, w] with its first latent frames replaced by ``continuity`` [B, C, n, h, w]."""
    return torch.cat((continuity, x[:, :, continuity.shape[2] :]), dim=2)


def _predict(
    denoise: Denoise, x: Tensor, u: Tensor, continuity: Tensor, step: int, callback: OnSample | None
) -> tuple[Tensor, Tensor]:
    """``x`` with its continuity, and the x0 predicted from it. Every sampler's step begins with this."""
    x = apply_continuity(x, continuity)
    x0 = denoise(x, u)
    if callback is not None:
        callback(step, u, x, x0)
    return x, x0


def sample_chunk(
    denoise: Denoise,
    schedule: Tensor,
    continuity: Tensor,
    noise: Iterable[Tensor],
    callback: OnSample | None = None,
) -> Tensor:
    """Few-step sampling of one chunk: predict x0, re-noise it to the next level with a fresh draw, repeat.

    Args:
        denoise: (x, u) -> x0, once per step.
        schedule: noise levels [steps + 1], 1 to 0.
        continuity: clean latents [B, C, n, h, w] written over the first latent frames before every step and at the end.
        noise: draws [B, C, T, h, w]: the first is the start, the next ones re-noise.
        callback: called after every step.
    """
    draws = iter(noise)
    x = next(draws)
    for step, (u, u_next) in enumerate(itertools.pairwise(schedule)):
        x, x0 = _predict(denoise, x, u, continuity, step, callback)
        x = x0 if u_next == 0 else torch.lerp(x0, next(draws), u_next.item())
    return apply_continuity(x, continuity)


def sample_chunk_euler(
    denoise: Denoise,
    schedule: Tensor,
    continuity: Tensor,
    noise: Iterable[Tensor],
    callback: OnSample | None = None,
) -> Tensor:
    """Euler integration of the flow, for undistilled checkpoints; arguments as in ``sample_chunk`` (one draw)."""
    x = next(iter(noise))
    for step, (u, u_next) in enumerate(itertools.pairwise(schedule)):
        x, x0 = _predict(denoise, x, u, continuity, step, callback)
        # x + (u' - u) * v with v = (x - x0) / u, written as the interpolation that it is.
        x = torch.lerp(x0, x, (u_next / u).item())
    return apply_continuity(x, continuity)


BRIDGE_END = 0.001
"""A bridge ends one of 1000 timesteps beyond u = 0, and its time counts from there (LeapTalk, arXiv 2608.00079)."""


def sample_chunk_bridge(
    denoise: Denoise,
    schedule: Tensor,
    continuity: Tensor,
    noise: Iterable[Tensor],
    callback: OnSample | None = None,
) -> Tensor:
    """Brownian bridge from the reference latents to the chunk (LeapTalk, arXiv 2608.00079).

    From level u to u', x moves by (u' - u) * v and by noise of the bridge's variance (u - u') * u' / u, times counted
    from ``BRIDGE_END``: none at the end, so that one step draws none.

    Arguments as in ``sample_chunk``; of ``noise``, the first tensor is the start, the reference latents.
    """
    draws = iter(noise)
    x = next(draws)
    for step, (level, next_level) in enumerate(itertools.pairwise(schedule)):
        u, target = level.item(), next_level.item() or -BRIDGE_END
        x, x0 = _predict(denoise, x, level, continuity, step, callback)
        # x + (target - u) * v with v = (x - x0) / u.
        x = torch.lerp(x, x0, (u - target) / u)
        if target > 0:
            variance = (u - target) * (target + BRIDGE_END) / (u + BRIDGE_END)
            x = x + variance**0.5 * next(draws)
    return apply_continuity(x, continuity)


@dataclass(frozen=True)
class ChunkSampler:
    """A sampler, its noise levels by (steps, shift), and whether it starts from the reference instead of noise."""

    sample: Sampler
    schedule: Callable[[int, float], Tensor]
    from_reference: bool = False

    def draws(self, reference: Tensor, noise: Iterable[Tensor]) -> Iterator[Tensor]:
        """The noise for ``sample``: the start, then new draws."""
        return itertools.chain([reference], noise) if self.from_reference else iter(noise)


SAMPLERS: dict[str, ChunkSampler] = {
    "few_step": ChunkSampler(sample_chunk, schedule),
    "euler": ChunkSampler(sample_chunk_euler, euler_schedule),
    "bridge": ChunkSampler(sample_chunk_bridge, schedule, from_reference=True),
}
"""By the name in ``SamplingConfig``."""


def chunk_noise(seed: int, chunk_index: int, shape: tuple[int, ...], attempt: int = 0) -> Iterator[Tensor]:
    """Endless float32 CPU draws that depend on (seed, chunk_index) alone, whatever ran before and wherever it runs.

    A regenerated chunk uses a seed derived from these and the ``attempt``.
    """
    name = f"{seed}:{chunk_index}" if attempt == 0 else f"{seed}:{chunk_index}:{attempt}"
    digest = hashlib.sha256(name.encode()).digest()
    generator = torch.Generator("cpu").manual_seed(int.from_bytes(digest[:8], "little", signed=True))
    while True:
        yield torch.randn(shape, generator=generator)
