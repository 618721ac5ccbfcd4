"""Schedules and samplers against closed forms."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from asymtalker.models.flow import (
    SAMPLERS,
    Denoise,
    Sampler,
    apply_continuity,
    chunk_noise,
    euler_schedule,
    sample_chunk,
    sample_chunk_euler,
    schedule,
    shift_time,
)
from asymtalker.tests.models.tiny import noise

SHAPE = (1, 2, 3, 4, 4)
NO_CONTINUITY = torch.zeros(1, 2, 0, 4, 4)


def test_published_levels() -> None:
    """Timesteps 1000, 750, 500, 250 under shift 5."""
    expected = torch.tensor([1.0, 3.75 / 4, 2.5 / 3, 1.25 / 2, 0.0])
    torch.testing.assert_close(schedule(4, 5.0), expected)
    torch.testing.assert_close(schedule(2, 5.0), torch.tensor([1.0, 2.5 / 3, 0.0]))


@pytest.mark.parametrize("steps", [1, 2, 7, 50])
@pytest.mark.parametrize("make", [schedule, euler_schedule])
def test_levels_fall_from_one_to_zero(steps: int, make: Callable[[int, float], Tensor]) -> None:
    levels = make(steps, 5.0)
    assert levels.shape == (steps + 1,) and levels[0] == 1 and levels[-1] == 0
    assert (levels.diff() < 0).all()


def test_shift_of_one_changes_nothing() -> None:
    s = torch.linspace(0, 1, 11)
    torch.testing.assert_close(shift_time(s, 1.0), s)
    torch.testing.assert_close(euler_schedule(20, 1.0)[:-1], torch.linspace(1, 0.001, 20))


@pytest.mark.parametrize("sampler", [sample_chunk, sample_chunk_euler])
@pytest.mark.parametrize("steps", [1, 4, 9])
def test_a_single_point_is_reached_exactly(sampler: Sampler, steps: int) -> None:
    point = noise(*SHAPE, seed=1)
    found = sampler(lambda x, u: point, schedule(steps, 5.0), NO_CONTINUITY, chunk_noise(0, 0, SHAPE))
    assert torch.equal(found, point)


def gaussian(std: float) -> Denoise:
    """The exact denoiser E[x0 | x_u] of data N(0, std^2)."""

    def denoise(x: Tensor, u: Tensor) -> Tensor:
        signal = (1 - u) * std**2
        return x * signal / ((1 - u) * signal + u**2)

    return denoise


def test_euler_solves_the_flow_of_a_gaussian() -> None:
    """Along the flow of N(0, std^2), x(u) / sqrt((1-u)^2 std^2 + u^2) is constant: x(0) = std * x(1)."""
    start = noise(*SHAPE)
    errors = []
    for steps in (100, 1000):
        found = sample_chunk_euler(gaussian(0.5), schedule(steps, 1.0), NO_CONTINUITY, [start])
        errors.append((found - 0.5 * start).abs().max().item())
    assert errors[1] < 5e-3
    # A first-order method: ten times the steps, a tenth of the error.
    assert errors[0] / errors[1] == pytest.approx(10, rel=0.2)


def test_few_step_renoises_with_the_next_draw() -> None:
    draws = [noise(*SHAPE, seed=seed) for seed in range(2)]
    found = sample_chunk(gaussian(0.5), schedule(2, 5.0), NO_CONTINUITY, draws)
    # At u = 1 the denoiser gives the mean 0, so the second step starts from u * eps.
    u = 2.5 / 3
    gain = (1 - u) * 0.25 / ((1 - u) ** 2 * 0.25 + u**2)
    torch.testing.assert_close(found, gain * u * draws[1])


@pytest.mark.parametrize("steps", [1, 2, 4])
def test_bridge_is_leaptalks(steps: int) -> None:
    """Its scheduler in timesteps t, with the velocity v held constant: x += dt v + eta noise."""
    reference, v = noise(*SHAPE, seed=1), noise(*SHAPE, seed=2)
    draws = [noise(*SHAPE, seed=3 + step) for step in range(steps)]
    timesteps = {1: [1000.0], 2: [1000.0, 2500 / 3], 4: [1000.0, 937.5, 2500 / 3, 625.0]}[steps]
    expected = reference
    for t, t_next, draw in zip(timesteps, [*timesteps[1:], -1.0], draws, strict=True):
        dt, current = (t_next - t) / 1000, (t + 1) / 1000
        expected = expected + dt * v + max(0.0, -dt * (current + dt) / current) ** 0.5 * draw
    bridge = SAMPLERS["bridge"]
    levels = bridge.schedule(steps, 5.0)
    found = bridge.sample(lambda x, u: x - u * v, levels, NO_CONTINUITY, bridge.draws(reference, draws))
    torch.testing.assert_close(found, expected, atol=2e-6, rtol=1e-5)


def test_one_step_of_the_bridge_draws_no_noise() -> None:
    bridge, reference = SAMPLERS["bridge"], noise(*SHAPE, seed=1)
    found = bridge.sample(lambda x, u: x * 0.1, bridge.schedule(1, 5.0), NO_CONTINUITY, bridge.draws(reference, []))
    torch.testing.assert_close(found, torch.lerp(reference, reference * 0.1, 1.001))


@pytest.mark.parametrize("sampler", [one.sample for one in SAMPLERS.values()])
def test_continuity_is_laid_over_every_step_and_the_end(sampler: Sampler) -> None:
    continuity = noise(1, 2, 2, 4, 4, seed=9)
    seen: list[Tensor] = []

    def denoise(x: Tensor, u: Tensor) -> Tensor:
        seen.append(x[:, :, :2])
        return x * 0.1

    found = sampler(denoise, schedule(3, 5.0), continuity, chunk_noise(0, 0, SHAPE))
    assert len(seen) == 3 and all(torch.equal(part, continuity) for part in (*seen, found[:, :, :2]))


def test_apply_continuity_leaves_its_input() -> None:
    x, continuity = noise(*SHAPE), torch.zeros(1, 2, 1, 4, 4)
    before = x.clone()
    laid = apply_continuity(x, continuity)
    assert torch.equal(x, before)
    assert torch.equal(laid[:, :, :1], continuity) and torch.equal(laid[:, :, 1:], x[:, :, 1:])


def take(seed: int, chunk: int, count: int = 2) -> list[Tensor]:
    return list(itertools.islice(chunk_noise(seed, chunk, SHAPE), count))


def test_noise_depends_on_seed_and_chunk_alone() -> None:
    expected = take(7, 3)
    torch.manual_seed(0)
    torch.randn(5)
    interleaved = [chunk_noise(7, 3, SHAPE), chunk_noise(7, 4, SHAPE)]
    found = []
    for _ in range(2):
        found.append(next(interleaved[0]))
        next(interleaved[1])
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))
    assert expected[0].dtype == torch.float32 and expected[0].device.type == "cpu"


def test_noise_differs_between_draws_chunks_and_seeds() -> None:
    again = next(chunk_noise(7, 3, SHAPE, attempt=1))
    draws = [again, *take(7, 3), *take(7, 4), *take(8, 3), *take(2**64 - 1, 0), *take(73, 0), *take(0, 73)]
    assert all(not torch.equal(a, b) for a, b in itertools.combinations(draws, 2))
