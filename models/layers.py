"""Layers of the talking-head DiT; ``operations`` (torch.nn or comfy.ops) supplies Linear, Conv3d and the norms."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from einops import rearrange
from torch import Tensor, nn

from .audio import frames_of_latents, frames_of_windows, windows_of_frames
from .config import AudioConfig, DiTConfig

Attention = Callable[[Tensor, Tensor, Tensor], Tensor]
"""(q, k, v), each [B, S, heads, head_dim], to [B, S, heads, head_dim]."""

COMPLEX_DEVICES = ("cpu", "cuda")
FLOAT64_DEVICES = ("cpu", "cuda")
"""Apple devices (MPS) do not support float64, nor do many Intel (XPU) and DirectML devices."""

RotaryTables = tuple[Tensor, ...]
"""Cosines and sines, each [S, 1, head_dim / 2]; a host's ``Rotation`` may append a form of its own."""

Rotation = Callable[[Tensor, Tensor, RotaryTables], tuple[Tensor, Tensor]]
"""(q, k, tables) to q and k rotated, each [B, S, heads, head_dim]."""

ModulatedNorm = Callable[[Tensor, nn.Module, Tensor, Tensor], Tensor]
"""(x [B, S, dim], layer norm without weights, shift, scale) to the norm of x times 1 + scale, plus shift."""

AudioKeyValue = tuple[Tensor, Tensor]
"""One block's cross-attention keys and values, each [B*T, tokens, heads, head_dim]."""


@dataclass(frozen=True)
class OtherAudio:
    """Some tokens that are computed a second time, with another audio; they are appended to the chunk's tokens.

    They attend to one another, and to the tokens elsewhere, which are computed with the chunk's own audio. ``places``
    [T*m] are the places of ``m`` tokens of each latent frame, ``audio_kv`` one block's keys and values.
    """

    places: Tensor
    audio_kv: AudioKeyValue

    def attend(self, attention: Attention, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Self-attention [B, S + T*m, heads, head_dim]: the chunk's tokens, then these."""
        count = q.shape[1] - len(self.places)
        k_own, v_own = (x[:, :count].index_copy(1, self.places, x[:, count:]) for x in (k, v))
        whole = attention(q[:, :count], k[:, :count], v[:, :count])
        return torch.cat((whole, attention(q[:, count:], k_own, v_own)), dim=1)


def scaled_dot_product(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """PyTorch's attention on [B, S, heads, head_dim] tensors."""
    q, k, v = (tensor.transpose(1, 2) for tensor in (q, k, v))
    return nn.functional.scaled_dot_product_attention(q, k, v).transpose(1, 2)


def rotary_tables(grid: tuple[int, int, int], head_dim: int, device: torch.device) -> RotaryTables:
    """Cosines and sines of 3D rotary embedding (RoFormer, arXiv 2104.09864) for tokens in (t, h, w) order.

    ``head_dim`` is split into time d - 2*(d//3), height d//3 and width d//3; positions count from 0 on each axis.
    Returns two float32 tensors [t*h*w, 1, head_dim // 2], one value for each interleaved pair. They are computed on the
    CPU in float64, which not every device has.
    """
    # torch.compile cannot trace a cached function, but takes what it computes into its graph.
    compute = _rotary_tables if torch.compiler.is_compiling() else _cached_rotary_tables
    return compute(grid, head_dim, device)


def _rotary_tables(grid: tuple[int, int, int], head_dim: int, device: torch.device) -> RotaryTables:
    third = head_dim // 3
    angles = []
    for axis, (length, width) in enumerate(zip(grid, (head_dim - 2 * third, third, third), strict=True)):
        frequencies = 1.0 / 10000.0 ** (torch.arange(0, width, 2, dtype=torch.float64, device="cpu") / width)
        angle = torch.arange(length, dtype=torch.float64, device="cpu")[:, None] * frequencies
        shape = [1, 1, 1, width // 2]
        shape[axis] = length
        angles.append(angle.view(shape).expand(*grid, width // 2))
    angle = torch.cat(angles, dim=-1).flatten(0, 2)[:, None]
    return angle.cos().float().to(device), angle.sin().float().to(device)


@lru_cache(maxsize=16)
# Tensors created in inference mode could not be used with gradients.
@torch.inference_mode(False)
def _cached_rotary_tables(grid: tuple[int, int, int], head_dim: int, device: torch.device) -> RotaryTables:
    return _rotary_tables(grid, head_dim, device)


def rotate(x: Tensor, tables: RotaryTables) -> Tensor:
    """Rotate interleaved pairs of ``x`` [B, S, heads, head_dim] by ``rotary_tables``."""
    cos, sin = tables[:2]
    if x.device.type in COMPLEX_DEVICES and not torch.compiler.is_compiling():
        # The same as a product of complex numbers: one pass instead of eight.
        pairs = torch.view_as_complex(x.float().unflatten(-1, (-1, 2)))
        return torch.view_as_real(pairs * torch.complex(cos, sin)).flatten(-2).to(x.dtype)
    even, odd = x.float().unflatten(-1, (-1, 2)).unbind(-1)
    return torch.stack((even * cos - odd * sin, even * sin + odd * cos), dim=-1).flatten(-2).to(x.dtype)


def rotate_both(q: Tensor, k: Tensor, tables: RotaryTables) -> tuple[Tensor, Tensor]:
    """``rotate`` of ``q`` and ``k``."""
    return rotate(q, tables), rotate(k, tables)


def timestep_embedding(timestep: Tensor, width: int) -> Tensor:
    """Sinusoid of ``timestep`` [B] (0..1000), cosines first: [B, width], in float64 where the device has it."""
    half = width // 2
    real = torch.float64 if timestep.device.type in FLOAT64_DEVICES else torch.float32
    exponent = torch.arange(half, dtype=real, device=timestep.device) / half
    angle = timestep.to(real)[:, None] * torch.pow(10000.0, -exponent)
    return torch.cat((angle.cos(), angle.sin()), dim=-1)


def modulate(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """Adaptive layer norm's affine part: x * (1 + scale) + shift."""
    return torch.addcmul(shift, x, 1 + scale)


def modulated_norm(x: Tensor, norm: nn.Module, shift: Tensor, scale: Tensor) -> Tensor:
    """Adaptive layer norm of ``x`` [B, S, dim]."""
    return modulate(norm(x), shift, scale)


@dataclass(frozen=True)
class Kernels:
    """Operations of a block between its matrix products, for which a host may have faster functions."""

    attention: Attention = scaled_dot_product
    rotate: Rotation = rotate_both
    modulated_norm: ModulatedNorm = modulated_norm


class AttentionProjections(nn.Module):
    """q, k, v, o projections with RMSNorm of q and k over the full width, shared by self- and cross-attention."""

    def __init__(self, config: DiTConfig, kernels: Kernels, operations: Any, **factory: Any) -> None:
        super().__init__()
        self.heads = config.num_heads
        self.kernels = kernels
        self.q, self.k, self.v, self.o = (operations.Linear(config.dim, config.dim, **factory) for _ in range(4))
        self.norm_q = operations.RMSNorm(config.dim, eps=config.eps, **factory)
        self.norm_k = operations.RMSNorm(config.dim, eps=config.eps, **factory)

    def split(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, -1))

    def query(self, x: Tensor) -> Tensor:
        return self.split(self.norm_q(self.q(x)))

    def key_value(self, x: Tensor) -> AudioKeyValue:
        return self.split(self.norm_k(self.k(x))), self.split(self.v(x))


class SelfAttention(AttentionProjections):
    """Attention among all tokens of a chunk, with 3D rotary embedding."""

    def forward(self, x: Tensor, tables: RotaryTables, other: OtherAudio | None = None) -> Tensor:
        k, v = self.key_value(x)
        q, k = self.kernels.rotate(self.query(x), k, tables)
        attention = self.kernels.attention
        x = attention(q, k, v) if other is None else other.attend(attention, q, k, v)
        return self.o(x.flatten(-2))


class CrossAttention(AttentionProjections):
    """Tokens of latent frame i attend to the audio tokens of latent frame i only."""

    def forward(self, x: Tensor, audio_kv: AudioKeyValue, num_latents: int, other: OtherAudio | None = None) -> Tensor:
        if other is not None:
            count = x.shape[1] - len(other.places)
            sides = (x[:, :count], audio_kv), (x[:, count:], other.audio_kv)
            return torch.cat([self(tokens, kv, num_latents) for tokens, kv in sides], dim=1)
        per_frame = rearrange(self.query(x), "b (t s) h d -> (b t) s h d", t=num_latents)
        out = rearrange(self.kernels.attention(per_frame, *audio_kv), "(b t) s h d -> b (t s) (h d)", t=num_latents)
        return self.o(out)


class TanhGELU(nn.Module):
    """GELU by its tanh approximation (arXiv 1606.08415)."""

    def forward(self, x: Tensor) -> Tensor:
        plain = x.device.type == "cpu" and x.dtype == torch.float32
        if not plain or x.requires_grad or torch.compiler.is_compiling():
            return nn.functional.gelu(x, approximate="tanh")
        # 0.5 (1 + tanh z) = 1 / (1 + exp(-2 z)), in powers of two: a CPU evaluates tanh three times as slowly.
        factor = -2 * math.sqrt(2 / math.pi) / math.log(2)
        z = x.square().mul_(0.044715 * factor).add_(factor).mul_(x)
        return torch.div(x, z.exp2_().add_(1), out=z)


class Block(nn.Module):
    """Self-attention and feed-forward under adaptive layer norm; audio cross-attention on a plain residual."""

    def __init__(self, config: DiTConfig, kernels: Kernels, operations: Any, **factory: Any) -> None:
        super().__init__()
        self.kernels = kernels
        dim, eps = config.dim, config.eps
        self.norm1 = operations.LayerNorm(dim, eps=eps, elementwise_affine=False, **factory)
        self.self_attn = SelfAttention(config, kernels, operations, **factory)
        self.norm3 = operations.LayerNorm(dim, eps=eps, **factory)
        self.cross_attn = CrossAttention(config, kernels, operations, **factory)
        self.norm2 = operations.LayerNorm(dim, eps=eps, elementwise_affine=False, **factory)
        self.ffn = nn.Sequential(
            operations.Linear(dim, config.ffn_dim, **factory),
            TanhGELU(),
            operations.Linear(config.ffn_dim, dim, **factory),
        )
        self.modulation = nn.Parameter(torch.empty(1, 6, dim, **factory))

    def forward(
        self,
        x: Tensor,
        modulation: Tensor,
        audio_kv: AudioKeyValue,
        tables: RotaryTables,
        num_latents: int,
        other: OtherAudio | None = None,
    ) -> Tensor:
        """``x`` [B, S, dim], ``modulation`` [B, 6, dim] -> [B, S, dim]."""
        own = self.modulation.to(device=x.device, dtype=modulation.dtype)
        shift1, scale1, gate1, shift2, scale2, gate2 = (own + modulation).chunk(6, dim=1)
        norm = self.kernels.modulated_norm
        # Passed only if present: a replacement for a layer may not accept the argument.
        others = () if other is None else (other,)
        x = torch.addcmul(x, self.self_attn(norm(x, self.norm1, shift1, scale1), tables, *others), gate1)
        x = x + self.cross_attn(self.norm3(x), audio_kv, num_latents, *others)
        return torch.addcmul(x, self.ffn(norm(x, self.norm2, shift2, scale2)), gate2)


class Head(nn.Module):
    """Tokens to latent patches."""

    def __init__(self, config: DiTConfig, operations: Any, **factory: Any) -> None:
        super().__init__()
        t, h, w = config.patch_size
        self.norm = operations.LayerNorm(config.dim, eps=config.eps, elementwise_affine=False, **factory)
        self.head = operations.Linear(config.dim, config.out_dim * t * h * w, **factory)
        self.modulation = nn.Parameter(torch.empty(1, 2, config.dim, **factory))

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        """``x`` [B, S, dim], ``time`` [B, dim] (the embedding itself, not its projection) -> [B, S, patch values]."""
        own = self.modulation.to(device=x.device, dtype=time.dtype)
        shift, scale = (own + time[:, None]).chunk(2, dim=1)
        return self.head(modulate(self.norm(x), shift, scale))


class AudioContextLayer(nn.Module):
    """Residual convolution over neighbouring frames."""

    def __init__(self, width: int, operations: Any, **factory: Any) -> None:
        super().__init__()
        self.norm = operations.LayerNorm(width, **factory)
        self.conv = operations.Conv1d(width, width, 3, padding=1, **factory)
        self.out = operations.Linear(width, width, **factory)

    def forward(self, x: Tensor) -> Tensor:
        """``x`` [B, frames, width]."""
        context = self.conv(self.norm(x).transpose(1, 2)).transpose(1, 2)
        return x + self.out(nn.functional.gelu(context))


class AudioContext(nn.Module):
    """Adds to each feature frame of a chunk the context of the frames around it."""

    def __init__(self, config: AudioConfig, operations: Any, **factory: Any) -> None:
        super().__init__()
        vector, width = config.blocks * config.channels, config.context_dim
        self.input = operations.Linear(vector, width, **factory)
        layers = (AudioContextLayer(width, operations, **factory) for _ in range(config.context_layers))
        self.layers = nn.Sequential(*layers)
        self.output = operations.Linear(width, vector, **factory)

    def forward(self, windows: Tensor) -> Tensor:
        """Windows [B, F, window, blocks, channels] of consecutive frames to windows of the same shape."""
        size, features = windows.shape[2], windows.shape[3:]
        frames = frames_of_windows(windows).flatten(2)
        frames = frames + self.output(self.layers(self.input(frames)))
        return windows_of_frames(frames, size).unflatten(-1, features)


class AudioProjection(nn.Module):
    """Audio feature windows of a chunk's video frames to ``context_tokens`` tokens per latent frame."""

    def __init__(self, config: DiTConfig, operations: Any, **factory: Any) -> None:
        super().__init__()
        self.audio: AudioConfig = config.audio
        self.stride_t = config.vae_stride[0]
        vector = self.audio.blocks * self.audio.channels
        hidden, tokens = self.audio.intermediate_dim, self.audio.context_tokens
        self.context = AudioContext(self.audio, operations, **factory) if self.audio.context_layers else nn.Identity()
        self.proj1 = operations.Linear(self.audio.window * vector, hidden, **factory)
        self.proj1_vf = operations.Linear(self.audio.later_vectors(self.stride_t) * vector, hidden, **factory)
        self.proj2 = operations.Linear(hidden, hidden, **factory)
        self.proj3 = operations.Linear(hidden, tokens * config.dim, **factory)
        self.norm = operations.LayerNorm(config.dim, **factory)

    def forward(self, windows: Tensor) -> Tensor:
        """``windows`` [B, F, window, blocks, channels], F = 1 + k * stride_t -> tokens [B, 1 + k, n, dim].

        With ``AudioConfig.lids``, there is one more channel.
        """
        return self.tokens(self.hidden(windows))

    def hidden(self, windows: Tensor) -> Tensor:
        """Hidden units of each latent frame: [B, 1 + k, intermediate_dim], before the last ReLU."""
        if windows.shape[1] % self.stride_t != 1:
            raise ValueError(f"a chunk has 1 + k x {self.stride_t} frames, got audio for {windows.shape[1]}")
        channels = self.audio.channels + self.audio.lids
        if windows.shape[-1] != channels:
            raise ValueError(f"the network takes {channels} channels of audio, got {windows.shape[-1]}")
        middle = self.audio.window // 2
        closed = self.lids_of(windows)
        windows = self.context(windows[..., : self.audio.channels])
        first, later = windows[:, :1], windows[:, 1:]
        groups = rearrange(later, "b (t f) w l c -> b t f w l c", f=self.stride_t)
        opening = groups[:, :, 0, : middle + 1]
        inner = groups[:, :, 1:-1, middle]
        closing = groups[:, :, -1, middle:]
        x = torch.cat(
            (
                self.proj1(first.flatten(2)),
                self.proj1_vf(torch.cat((opening, inner, closing), dim=2).flatten(2)),
            ),
            dim=1,
        )
        return self.told_of(self.proj2(torch.relu(x)), closed)

    def lids_of(self, windows: Tensor) -> Tensor | None:
        """How far the lids are closed in each frame, [B, F] of ``windows``; None if the network is not told."""
        return windows[:, :, self.audio.window // 2, 0, -1] if self.audio.lids else None

    def told_of(self, hidden: Tensor, closed: Tensor | None) -> Tensor:
        """``hidden`` [B, 1 + k, intermediate_dim] whose last units are the lids, ``closed`` [B, 1 + k * stride_t]."""
        if closed is None:
            return hidden
        units = frames_of_latents(closed, self.stride_t).to(hidden.dtype)
        return torch.cat((hidden[..., : -self.stride_t], units), dim=-1)

    def tokens(self, hidden: Tensor) -> Tensor:
        """``hidden`` [B, 1 + k, intermediate_dim] -> tokens [B, 1 + k, n, dim]."""
        tokens = self.proj3(torch.relu(hidden))
        return self.norm(tokens.unflatten(-1, (self.audio.context_tokens, -1)))


class UnusedAudioEmbedding(nn.Module):
    """``audio_emb.*`` of the published files: an image-embedding projector that they contain but never use."""

    def __init__(self, dim: int, operations: Any, **factory: Any) -> None:
        super().__init__()
        width = 768
        self.proj = nn.Sequential(
            operations.LayerNorm(width, **factory),
            operations.Linear(width, width, **factory),
            nn.GELU(),
            operations.Linear(width, dim, **factory),
            operations.LayerNorm(dim, **factory),
        )
