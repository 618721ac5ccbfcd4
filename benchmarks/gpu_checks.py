"""Whether a CUDA device computes what the CPU does, and the same each time. No ComfyUI is needed.

Each check returns what it found, and raises AssertionError where that is not good enough.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from ..models.audio import AudioFeatures
from ..models.blinks import with_blinks
from ..models.checkpoint import read_checkpoint
from ..models.chunks import ContinuityOptions, ContinuityState
from ..models.color import match_color
from ..models.config import DiTConfig, SamplingConfig
from ..models.dit import TalkingHeadDiT
from ..models.family import NANO_NETWORK, NANO_VAE, PRO
from ..models.flow import Denoise
from ..models.layers import rotary_tables, rotate
from ..models.nano_vae import NanoVAE
from ..models.reference import Reference, temporal_reference
from ..models.rollout import Chunk, rollout
from ..scripts._environment import ROOT
from .geometries import random_weights

GOLDEN = ROOT / "tests" / "data" / "golden"
SIZES = {"cuda": 256, "cpu": 64}
FRAMES = 89
"""Three whole chunks of nano."""
GIB = 1 << 30

Check = Callable[[torch.device], str]


@torch.inference_mode()
def golden_forward(device: torch.device) -> str:
    """The golden forward passes in float32, without TF32, and in bfloat16."""
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    worst = {torch.float32: 0.0, torch.bfloat16: 0.0}
    for family in ("pro", "lite"):
        weights, metadata = read_checkpoint(GOLDEN / f"dit_{family}_open.weights.safetensors")
        case = {name: tensor.to(device) for name, tensor in _first_case(family).items()}
        for dtype in worst:
            network = TalkingHeadDiT(DiTConfig.from_state_dict(weights, metadata))
            network.load_state_dict(weights)
            network.to(device, dtype)
            audio, x, reference = (case[name].to(dtype) for name in ("audio", "x", "reference"))
            flow = network(x, case["timestep"], network.encode_audio(audio), reference).float()
            error = (flow - case["flow"]).square().mean().sqrt() / case["flow"].square().mean().sqrt()
            worst[dtype] = max(worst[dtype], error.item())
    assert worst[torch.float32] < 1e-5, f"float32 is {worst[torch.float32]:.1e} off"
    assert worst[torch.bfloat16] < 0.03, f"bfloat16 is {worst[torch.bfloat16]:.1e} off"
    return f"relative error {worst[torch.float32]:.1e} in float32, {worst[torch.bfloat16]:.1e} in bfloat16"


def _first_case(family: str) -> dict[str, Tensor]:
    cases = load_file(GOLDEN / f"dit_{family}_open.cases.safetensors")
    return {name.removeprefix("case0."): tensor for name, tensor in cases.items() if name.startswith("case0.")}


@torch.inference_mode()
def rotation(device: torch.device) -> str:
    """Rotary embedding at Pro's size."""
    x = _random(1, 9 * 32 * 32, 2, 128)
    tables = [rotary_tables((9, 32, 32), 128, where) for where in (torch.device("cpu"), device)]
    error = (rotate(x, tables[0]) - rotate(x.to(device), tables[1]).cpu()).abs().max().item()
    assert error < 1e-5, f"{error:.1e} off"
    return f"{error:.1e} off"


@torch.inference_mode()
def color(device: torch.device) -> str:
    """Colour correction with TF32 allowed, in levels of 255."""
    torch.backends.cuda.matmul.allow_tf32 = True
    frames, portrait = _random(1, 3, 8, 128, 128).tanh(), _random(1, 3, 1, 128, 128, seed=1).tanh()
    here = match_color(frames, portrait, 1.0)
    there = match_color(frames.to(device), portrait.to(device), 1.0).cpu()
    error = 127.5 * (here - there).abs().max().item()
    assert error < 0.05, f"{error:.3f} levels off"
    return f"{error:.4f} of 255 levels off"


@torch.inference_mode()
def resume(device: torch.device) -> str:
    """nano: a run that is resumed after its first chunk gives the same bits, and so does a second whole run."""
    nano = _Nano(device, torch.bfloat16, SIZES[device.type])
    whole, again = nano.run(), nano.run()
    rest = nano.run(whole[0][1])
    same = [torch.equal(first.frames, second.frames) for (first, _), (second, _) in zip(whole, again, strict=True)]
    assert all(same), f"two runs differ in chunks {[index for index, equal in enumerate(same) if not equal]}"
    same = [torch.equal(first.frames, second.frames) for (first, _), (second, _) in zip(whole[1:], rest, strict=True)]
    assert all(same), "a resumed run differs from a whole one"
    return f"{len(whole)} chunks twice and resumed, bit by bit"


@torch.inference_mode()
def same_frames(device: torch.device) -> str:
    """nano's first chunk against the CPU's, in float32, in levels of 255."""
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    devices = torch.device("cpu"), device
    frames = [_Nano(where, torch.float32, SIZES[device.type]).run(chunks=1)[0][0].frames for where in devices]
    error = (frames[0].float() - frames[1].float()).abs().mean().item()
    assert error < 1, f"{error:.2f} levels off"
    return f"{error:.4f} of 255 levels off on average"


@torch.inference_mode()
def timing(device: torch.device) -> str:
    """The stages' seconds add up to a chunk's, although the host runs ahead."""
    stages = _Nano(device, torch.bfloat16, SIZES[device.type]).run(chunks=2)[1][0].record.seconds
    assert all(seconds >= 0 for seconds in stages.values()) and sum(stages.values()) > 0
    return ", ".join(f"{name} {1000 * seconds:.1f} ms" for name, seconds in stages.items())


@torch.inference_mode()
def memory(device: torch.device) -> str:
    """The activations of a step of Pro, compared with the memory that ComfyUI reserves for them."""
    network = TalkingHeadDiT(PRO.config, dtype=torch.bfloat16, device=device)
    random_weights(network)
    shape = (1, 16, 9, 64, 64)
    x = torch.randn(shape, device=device, dtype=torch.bfloat16)
    windows = torch.randn(1, 33, 5, 12, 768, device=device, dtype=torch.bfloat16)
    audio_kv = network.audio_keys_values(network.encode_audio(windows))
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    network.velocity(x, torch.full((1,), 800.0, device=device), audio_kv, x)
    used = torch.cuda.max_memory_allocated(device) - before
    told = 9 * 32 * 32 * (2 * PRO.config.ffn_dim + 12 * PRO.config.dim) * 2
    assert used < told, f"{used / GIB:.2f} GiB, ComfyUI reserves {told / GIB:.2f}"
    return f"{used / GIB:.2f} GiB, ComfyUI reserves {told / GIB:.2f}"


@torch.inference_mode()
def compiled(device: torch.device) -> str:
    """A block of Pro, compiled, gives what it gives otherwise."""
    network = TalkingHeadDiT(PRO.config, dtype=torch.bfloat16, device="meta")
    block = network.blocks[0].to_empty(device=device)
    random_weights(block)
    tables = rotary_tables((9, 32, 32), PRO.config.head_dim, device)
    x = torch.randn(1, 9 * 32 * 32, PRO.config.dim, device=device, dtype=torch.bfloat16)
    modulation = torch.randn(1, 6, PRO.config.dim, device=device, dtype=torch.bfloat16)
    audio_kv = tuple(torch.randn(9, 32, 12, 128, device=device, dtype=torch.bfloat16) for _ in range(2))
    eager = block(x, modulation, audio_kv, tables, 9).float()
    found = torch.compile(block, fullgraph=True)(x, modulation, audio_kv, tables, 9).float()
    error = ((found - eager).square().mean().sqrt() / eager.square().mean().sqrt()).item()
    assert error < 0.02, f"relative error {error:.1e}"
    return f"relative error {error:.1e}"


CHECKS: dict[str, Check] = {
    check.__name__: check for check in (golden_forward, rotation, color, same_frames, resume, timing, memory, compiled)
}

ONLY_ON_GPUS = {"memory", "compiled"}
"""The first reads CUDA's memory statistics; the second takes minutes on a CPU."""


class _Nano:
    """The bundled networks on a device, without ComfyUI."""

    def __init__(self, device: torch.device, dtype: torch.dtype, size: int) -> None:
        weights, metadata = read_checkpoint(NANO_NETWORK)
        self._network = TalkingHeadDiT(DiTConfig.from_state_dict(weights, metadata))
        self._network.load_state_dict(weights)
        self._network.to(device, dtype).eval().requires_grad_(False)
        self._vae = NanoVAE.from_checkpoint(*read_checkpoint(NANO_VAE)).to(device)
        self._sampling, self._device, self._dtype = SamplingConfig.from_metadata(metadata), device, dtype
        frames = self._sampling.frames_per_chunk
        portrait = torch.nn.functional.interpolate(_random(1, 3, 8, 8), (size, size), mode="bicubic")
        portrait = portrait.tanh()[:, :, None].to(device)
        self._reference = Reference(temporal_reference(self._vae.encode, portrait, frames), portrait, frames)

    def run(self, state: ContinuityState | None = None, chunks: int = 3) -> list[tuple[Chunk, ContinuityState]]:
        """``chunks`` chunks from ``state`` on."""
        features = _random(FRAMES if chunks > 1 else 20, 1, 320, seed=2)
        audio = with_blinks(AudioFeatures(features, "random"), self._network.config.audio, 7, 20)
        found: list[tuple[Chunk, ContinuityState]] = []
        options: dict[str, Any] = {"seed": 7, "state": state}
        made = rollout(self._prepare, self._vae, self._reference, audio, self._sampling, ContinuityOptions(), **options)
        for pair in made:
            found.append(pair)
            if len(found) == chunks:
                break
        return found

    def _prepare(self, windows: Tensor, reference: Tensor, guidance: float) -> Denoise:
        network, dtype = self._network, self._dtype
        audio_kv = network.audio_keys_values(network.encode_audio(windows.to(self._device, dtype)))

        def denoise(x: Tensor, u: Tensor) -> Tensor:
            timestep = torch.full((1,), 1000 * float(u), device=self._device)
            return x - float(u) * network.velocity(x.to(dtype), timestep, audio_kv, reference.to(dtype)).float()

        return denoise


def _random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))
