"""What the network must keep to, beyond the golden cases."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
import torch

from asymtalker.models.config import PREDICTIONS
from asymtalker.models.layers import AudioKeyValue, OtherAudio, TanhGELU, rotary_tables, rotate, timestep_embedding
from asymtalker.tests.models.tiny import TINY, noise, tiny_dit

FRAMES = 9
DTYPES = (torch.float32, torch.float16, torch.bfloat16)
LATENT = (1, TINY.latent_channels, TINY.latent_frames(FRAMES), 4, 6)


def windows(seed: int, frames: int = FRAMES) -> torch.Tensor:
    return noise(1, frames, TINY.audio.window, TINY.audio.blocks, TINY.audio.channels, seed=seed)


def test_prepared_audio_gives_the_same_flow() -> None:
    network = tiny_dit()
    x, reference, timestep = noise(*LATENT, seed=3), noise(*LATENT, seed=4), torch.tensor([700.0])
    tokens = network.encode_audio(windows(5))
    assert tokens.shape == (1, LATENT[2], TINY.audio.context_tokens, TINY.dim)
    flow = network(x, timestep, tokens, reference)
    assert flow.shape == x.shape and flow.abs().max() > 0
    assert torch.equal(network.velocity(x, timestep, network.audio_keys_values(tokens), reference), flow)


@pytest.mark.parametrize("prediction", PREDICTIONS)
@pytest.mark.parametrize("batch", [1, 2])
def test_some_tokens_may_follow_another_audio(prediction: str, batch: int) -> None:
    network, timestep = tiny_dit(), torch.tensor([700.0]).expand(batch)
    network.config = replace(TINY, prediction=prediction)
    x, reference = (noise(batch, *LATENT[1:], seed=seed) for seed in (3, 4))
    speech, silence = (
        network.audio_keys_values(network.encode_audio(torch.cat([windows(seed + clip) for clip in range(batch)])))
        for seed in (5, 15)
    )
    everywhere, mouth = torch.ones(1, 1, 1, *LATENT[3:]), torch.zeros(1, 1, 1, *LATENT[3:])
    mouth[..., 1, 3] = 0.1

    def flows(area: torch.Tensor, other: list[AudioKeyValue]) -> list[torch.Tensor]:
        places = network.places_of(area, LATENT[2])
        beside = [OtherAudio(places, audio_kv) for audio_kv in other]
        return list(network.velocity(x, timestep, speech, reference, other=beside).chunk(2))

    spoken, silent = (network.velocity(x, timestep, audio, reference) for audio in (speech, silence))
    first, second = flows(everywhere, silence)
    torch.testing.assert_close(first, spoken)
    torch.testing.assert_close(second, silent)
    first, second = flows(mouth, silence)
    torch.testing.assert_close(first, spoken)
    # The patch of the mouth, in every latent frame.
    changed = (second - first).abs().amax(dim=(0, 1)) > 0
    assert bool(changed[:, :2, 2:4].all()) and int(changed.sum()) == LATENT[2] * 4
    torch.testing.assert_close(*flows(mouth, speech))


@pytest.mark.parametrize(("dtype", "prediction"), itertools.product(DTYPES, PREDICTIONS))
def test_only_the_published_flow_in_bfloat16_rounds_the_timestep(dtype: torch.dtype, prediction: str) -> None:
    """As the published pipeline does, which runs in bfloat16: of the four levels, 937.5 becomes 936."""
    network = tiny_dit().to(dtype)
    network.config = replace(TINY, prediction=prediction)
    x, reference, tokens = (
        noise(*shape, seed=seed).to(dtype)
        for seed, shape in ((3, LATENT), (4, LATENT), (5, (1, LATENT[2], TINY.audio.context_tokens, TINY.dim)))
    )
    exact, rounded = (network(x, torch.tensor([t]), tokens, reference) for t in (937.5, 936.0))
    if prediction == "reference_residual":
        # These divide by the exact level.
        exact, rounded = exact * 937.5, rounded * 936.0
    assert torch.equal(exact, rounded) == (dtype == torch.bfloat16 and prediction == "flow")


def test_samples_of_a_batch_do_not_mix() -> None:
    network = tiny_dit()
    inputs = [(noise(*LATENT, seed=i), torch.tensor([t]), windows(10 + i)) for i, t in ((1, 900.0), (2, 100.0))]
    reference = noise(*LATENT, seed=7)
    alone = [network(x, t, network.encode_audio(w), reference) for x, t, w in inputs]
    x, t, w = (torch.cat(parts) for parts in zip(*inputs, strict=True))
    together = network(x, t, network.encode_audio(w), reference.expand(2, -1, -1, -1, -1))
    torch.testing.assert_close(together, torch.cat(alone), atol=2e-5, rtol=1e-4)


def test_every_input_matters() -> None:
    network = tiny_dit()
    x, reference, timestep = noise(*LATENT, seed=3), noise(*LATENT, seed=4), torch.tensor([700.0])
    tokens = network.encode_audio(windows(5))
    flow = network(x, timestep, tokens, reference)
    others = [
        network(x, timestep, network.encode_audio(windows(6)), reference),
        network(x, timestep, tokens, noise(*LATENT, seed=8)),
        network(x, torch.tensor([300.0]), tokens, reference),
    ]
    assert all((other - flow).abs().max() > 1e-4 for other in others)


@pytest.mark.parametrize("frame", range(FRAMES))
def test_audio_tokens_see_the_windows_of_their_own_frames(frame: int) -> None:
    """Of a frame's 5 window positions, its latent frame's tokens read what the family's projection takes."""
    network = tiny_dit()
    latent = 0 if frame == 0 else 1 + (frame - 1) // 4
    place = "alone" if frame == 0 else ("opening", "inner", "inner", "closing")[(frame - 1) % 4]
    read = {"alone": range(5), "opening": range(3), "inner": (2,), "closing": range(2, 5)}[place]
    base = network.encode_audio(windows(1))
    for position in range(5):
        changed = windows(1)
        changed[:, frame, position] += 1
        moved = (network.encode_audio(changed) - base).abs().amax(dim=(0, 2, 3)) > 0
        expected = [i == latent and position in read for i in range(LATENT[2])]
        assert moved.tolist() == expected, position


def test_audio_of_a_wrong_length_is_refused() -> None:
    with pytest.raises(ValueError, match="1 \\+ k x 4 frames, got audio for 8"):
        tiny_dit().encode_audio(windows(1, frames=8))


def test_rotary_embedding_is_relative() -> None:
    """Inner products of rotated vectors depend on the tokens' distance alone (RoFormer, eq. 11)."""
    grid, head_dim = (3, 4, 5), 24
    tables = rotary_tables(grid, head_dim, torch.device("cpu"))
    q, k = (noise(head_dim, seed=i).expand(1, 60, 1, head_dim) for i in (1, 2))
    products = (rotate(q, tables)[0, :, 0] @ rotate(k, tables)[0, :, 0].T).view(*grid, *grid)
    assert products[0, 0, 0, 1, 1, 1].item() == pytest.approx(products[1, 2, 3, 2, 3, 4].item(), abs=1e-4)
    assert products[0, 0, 0, 0, 0, 2].item() == pytest.approx(products[2, 3, 1, 2, 3, 3].item(), abs=1e-4)
    assert products[0, 0, 0, 0, 0, 0].item() == pytest.approx((q[0, 0, 0] @ k[0, 0, 0]).item(), abs=1e-4)


def test_rotation_keeps_lengths_and_split() -> None:
    tables = rotary_tables((2, 3, 4), 128, torch.device("cpu"))
    assert tables[0].shape == (24, 1, 64)
    x = noise(1, 24, 2, 128)
    torch.testing.assert_close(rotate(x, tables).norm(dim=-1), x.norm(dim=-1))
    # Pairs of time, height and width: 44, 42 and 42 of 128; token 1 has moved along the width alone.
    moved = (rotate(x, tables) - x)[0, 1].abs().sum(0).view(64, 2).sum(1) > 1e-6
    assert moved.tolist() == [False] * 43 + [True] * 21


def test_timestep_embedding() -> None:
    embedding = timestep_embedding(torch.tensor([0.0, 250.0]), 8)
    frequencies = 10000.0 ** -(torch.arange(4, dtype=torch.float64) / 4)
    assert embedding[0].tolist() == [1.0] * 4 + [0.0] * 4
    torch.testing.assert_close(embedding[1], torch.cat(((250 * frequencies).cos(), (250 * frequencies).sin())))


def test_rotation_is_that_of_every_pair_by_its_angle() -> None:
    """Also for x that is no contiguous tensor, and with the gradient of a rotation: that of the opposite angle."""
    cos, sin = rotary_tables((2, 3, 2), 12, torch.device("cpu"))
    x = noise(2, 3, 12, 12).transpose(1, 2).requires_grad_()
    even, odd = x[..., 0::2], x[..., 1::2]
    rotated = rotate(x, (cos, sin))
    torch.testing.assert_close(rotated[..., 0::2], even * cos - odd * sin)
    torch.testing.assert_close(rotated[..., 1::2], even * sin + odd * cos)
    upstream = noise(*rotated.shape, seed=1)
    (gradient,) = torch.autograd.grad(rotated, x, upstream)
    torch.testing.assert_close(gradient, rotate(upstream, (cos, -sin)))


def test_gelu_without_gradient_is_the_one_with() -> None:
    x = torch.cat((torch.linspace(-12, 12, 4001), torch.tensor([-1e4, -60.0, 0.0, 60.0, 1e4])))
    expected = torch.nn.functional.gelu(x.double(), approximate="tanh")
    kept = x.clone()
    for found in (TanhGELU()(x), TanhGELU()(x.clone().requires_grad_())):
        torch.testing.assert_close(found.double(), expected, atol=1e-6, rtol=1e-6)
    assert torch.equal(x, kept)
