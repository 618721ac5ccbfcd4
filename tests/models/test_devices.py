"""Devices that this machine does not have: no 64-bit floats where there are none, and one graph for compilers."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from asymtalker.models.color import match_color
from asymtalker.models.dit import TalkingHeadDiT
from asymtalker.models.draft import to_uint8
from asymtalker.models.flow import schedule
from asymtalker.models.layers import rotary_tables, timestep_embedding
from asymtalker.models.nano_vae import NanoVAE, NanoVAEConfig
from asymtalker.tests.models.tiny import TINY, noise, tiny_dit

LATENTS = (1, 4, 3, 2, 2)


class Without64Bits(TorchDispatchMode):
    """Refuses what Apple's, Intel's and DirectML's devices refuse."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for made in tree_leaves(out):
            if isinstance(made, torch.Tensor) and made.device.type != "cpu":
                assert made.dtype not in (torch.float64, torch.complex128), f"{func} on {made.device}"
        return out


@torch.no_grad()
def test_a_chunk_needs_no_64_bits() -> None:
    """The device `meta` stands for all that are neither a CPU nor a CUDA device."""
    with Without64Bits(), torch.device("meta"):
        network, vae = TalkingHeadDiT(TINY), NanoVAE(NanoVAEConfig(latent_channels=4, width=16))
        reference, x, timestep = torch.empty(LATENTS), torch.empty(LATENTS), torch.empty(1)
        audio_kv = network.audio_keys_values(network.encode_audio(torch.empty(1, 9, 5, 1, 6)))
        latents = torch.lerp(x - network.velocity(x, timestep, audio_kv, reference), x, 0.8)
        pixels = match_color(vae.decode(latents), torch.empty(1, 3, 1, 32, 32), 0.5)
        assert to_uint8(pixels).shape == (9, 32, 32, 3)
        assert vae.encode(pixels[:, :, -5:]).shape == (1, 4, 2, 2, 2)


def test_timesteps_in_32_bits_are_as_exact_as_the_networks_types(monkeypatch: pytest.MonkeyPatch) -> None:
    timesteps = schedule(20, 5.0) * 1000
    exact = timestep_embedding(timesteps, 256)
    assert exact.dtype == torch.float64
    monkeypatch.setattr("asymtalker.models.layers.FLOAT64_DEVICES", ())
    assert (timestep_embedding(timesteps, 256) - exact).abs().max() < 3e-4


@torch.no_grad()
def test_the_network_is_one_graph() -> None:
    network = tiny_dit()
    x, reference, timestep = noise(*LATENTS), noise(*LATENTS, seed=1), torch.tensor([800.0])
    audio_kv = network.audio_keys_values(network.encode_audio(noise(1, 9, 5, 1, 6, seed=2)))
    tables = network.rotary_tables(x.shape, x.device)
    torch.compiler.reset()
    compiled = torch.compile(network.velocity, fullgraph=True, backend="eager")
    found = compiled(x, timestep, audio_kv, reference, tables)
    torch.testing.assert_close(found, network.velocity(x, timestep, audio_kv, reference), atol=1e-5, rtol=0)


@torch.no_grad()
def test_nothing_reads_tokens_with_strides() -> None:
    network = tiny_dit()
    seen: list[bool] = []
    for block in network.blocks:
        block.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].is_contiguous()))
    network(noise(*LATENTS), torch.tensor([800.0]), network.encode_audio(noise(1, 9, 5, 1, 6)), noise(*LATENTS))
    assert seen and all(seen)


@torch.no_grad()
def test_a_compiled_step_takes_nothing_from_the_host() -> None:
    """A CUDA graph could not be recorded otherwise. The device `meta` stands for the GPU."""
    with torch.device("meta"):
        network = TalkingHeadDiT(TINY)
        x, timestep = torch.empty(LATENTS), torch.empty(1)
        audio_kv = network.audio_keys_values(network.encode_audio(torch.empty(1, 9, 5, 1, 6)))
        tables = network.rotary_tables(LATENTS, torch.device("meta"))
    places: set[str] = set()

    def backend(graph: torch.fx.GraphModule, inputs: Any) -> Any:
        values = tree_leaves([node.meta.get("example_value") for node in graph.graph.nodes])
        places.update(value.device.type for value in values if isinstance(value, torch.Tensor))
        return graph.forward

    torch.compiler.reset()
    torch.compile(network.velocity, fullgraph=True, backend=backend)(x, timestep, audio_kv, x, tables)
    assert places == {"meta"}


def test_rotation_tables_are_kept() -> None:
    cpu = torch.device("cpu")
    with torch.inference_mode():
        first = rotary_tables((3, 2, 2), 24, cpu)
    assert rotary_tables((3, 2, 2), 24, cpu)[0] is first[0]
    assert not first[0].is_inference()
