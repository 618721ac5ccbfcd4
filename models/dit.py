"""The talking-head diffusion transformer: FlashHead Pro and Lite, AKD students and nano from one class."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
from einops import rearrange
from torch import Tensor, nn

from .config import DiTConfig
from .layers import (
    AudioKeyValue,
    AudioProjection,
    Block,
    Head,
    Kernels,
    OtherAudio,
    RotaryTables,
    UnusedAudioEmbedding,
    rotary_tables,
    timestep_embedding,
)

# Below this noise level a flow is no longer derived from x0 by a division.
MIN_NOISE = 0.02
PLAIN = Kernels()


class TalkingHeadDiT(nn.Module):
    """Predicts the flow of a chunk's latents from noise level, reference latents and audio.

    The condition is prepared once per chunk (``encode_audio``, ``audio_keys_values``); ``velocity`` then runs once per
    denoising step. Weights are created uninitialised, to be loaded from a file; ``initialise`` is for training.
    """

    def __init__(
        self,
        config: DiTConfig,
        *,
        kernels: Kernels = PLAIN,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
        operations: Any = nn,
    ) -> None:
        super().__init__()
        self.config = config
        dim, factory = config.dim, {"dtype": dtype, "device": device}
        linear = operations.Linear
        self.patch_embedding = operations.Conv3d(
            config.in_dim, dim, kernel_size=config.patch_size, stride=config.patch_size, **factory
        )
        if config.has_text_embedding:
            # The family's files contain a text projection that the talking-head models never use.
            self.text_embedding = nn.Sequential(
                linear(config.text_dim, dim, **factory), nn.GELU(approximate="tanh"), linear(dim, dim, **factory)
            )
        self.time_embedding = nn.Sequential(
            linear(config.freq_dim, dim, **factory), nn.SiLU(), linear(dim, dim, **factory)
        )
        self.time_projection = nn.Sequential(nn.SiLU(), linear(dim, 6 * dim, **factory))
        blocks = nn.ModuleList(Block(config, kernels, operations, **factory) for _ in range(config.num_layers))
        self.blocks = cast(Sequence[Block], blocks)
        self.head = Head(config, operations, **factory)
        if config.has_audio_emb:
            self.audio_emb = UnusedAudioEmbedding(dim, operations, **factory)
        self.audio_proj = AudioProjection(config, operations, **factory)

    def encode_audio(self, windows: Tensor) -> Tensor:
        """Feature windows [B, F, 5, blocks, channels] -> audio tokens [B, T, n, dim]."""
        return self.audio_proj(windows)

    def audio_keys_values(self, audio_tokens: Tensor) -> list[AudioKeyValue]:
        """Every block's cross-attention keys and values of ``audio_tokens`` [B, T, n, dim]; the same for all steps."""
        per_frame = audio_tokens.flatten(0, 1)
        return [block.cross_attn.key_value(per_frame) for block in self.blocks]

    def rotary_tables(self, latent_shape: Sequence[int], device: torch.device) -> RotaryTables:
        """The tables with which ``velocity`` rotates q and k, for latents of ``latent_shape`` [B, C, T, h, w]."""
        t, h, w = (size // patch for size, patch in zip(latent_shape[2:], self.config.patch_size, strict=True))
        return rotary_tables((t, h, w), self.config.head_dim, device)

    def places_of(self, area: Tensor, num_latents: int) -> Tensor:
        """The tokens [T*m] of ``num_latents`` latent frames that are in an ``area``, not 0 in [1, 1, 1, h, w]."""
        size = self.config.patch_size[1:]
        inside = nn.functional.max_pool2d(area[:, :, 0], size).flatten() > 0
        steps = torch.arange(num_latents // self.config.patch_size[0], device=area.device)
        return (steps[:, None] * len(inside) + inside.nonzero()[:, 0]).flatten()

    def velocity(
        self,
        x: Tensor,
        timestep: Tensor,
        audio_kv: list[AudioKeyValue],
        reference: Tensor,
        tables: RotaryTables | None = None,
        other: Sequence[OtherAudio] = (),
    ) -> Tensor:
        """Flow of ``x`` [B, C, T, h, w] at ``timestep`` [B] (0..1000), given ``reference`` of the same shape.

        Pass ``tables`` to compiled code, which would otherwise compute them for every step. With an ``other`` audio for
        every block, there are two flows, [2 * B, C, T, h, w]: in the second, the tokens in its ``places`` follow it.
        """
        tokens = self.patch_embedding(torch.cat((x, reference), dim=1))
        grid = tokens.shape[2:]
        # Otherwise the residual would keep the convolution's order, and every operation on it would read with strides.
        tokens = tokens.flatten(2).transpose(1, 2).contiguous()
        sinusoid = timestep_embedding(self._embedded(timestep, x.dtype), self.config.freq_dim).to(x.dtype)
        time = self.time_embedding(sinusoid)
        modulation = self.time_projection(time).unflatten(-1, (6, -1))
        tables = tables or self.rotary_tables(x.shape, x.device)
        if other:
            places, count = other[0].places, tokens.shape[1]
            tokens = torch.cat((tokens, tokens[:, places]), dim=1)
            # A host's own form of them is left out.
            tables = tuple(torch.cat((table, table[places])) for table in tables[:2])
        for index, (block, kv) in enumerate(zip(self.blocks, audio_kv, strict=True)):
            tokens = block(tokens, modulation, kv, tables, grid[0], *other[index : index + 1])
        patches = self.head(tokens, time)
        if other:
            whole, own = patches[:, :count], patches[:, count:]
            patches = torch.cat((whole, whole.index_copy(1, places, own)))
        out = self._unpatchify(patches, grid)
        if self.config.prediction == "flow":
            return out
        u = (timestep / 1000).clamp_min(MIN_NOISE).to(x.dtype)[:, None, None, None, None]
        return ((x - reference - out.unflatten(0, (-1, len(x)))) / u).flatten(0, 1)

    def _embedded(self, timestep: Tensor, dtype: torch.dtype) -> Tensor:
        """The timestep to embed: in bfloat16, the published pipeline rounds it (937.5 to 936)."""
        if dtype != torch.bfloat16 or self.config.prediction != "flow":
            return timestep
        return timestep.to(dtype)

    def forward(self, x: Tensor, timestep: Tensor, audio_tokens: Tensor, reference: Tensor) -> Tensor:
        """Flow of ``x`` [B, C, T, h, w] at ``timestep`` [B], given ``encode_audio``'s tokens and reference latents."""
        return self.velocity(x, timestep, self.audio_keys_values(audio_tokens), reference)

    def _unpatchify(self, tokens: Tensor, grid: torch.Size) -> Tensor:
        t, h, w = grid
        pt, ph, pw = self.config.patch_size
        pattern = "b (t h w) (pt ph pw c) -> b c (t pt) (h ph) (w pw)"
        return rearrange(tokens, pattern, t=t, h=h, w=w, pt=pt, ph=ph, pw=pw)

    def initialise(self) -> None:
        """Initial weights for training: Xavier projections, modulation near identity, no audio or output at first."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)
        nn.init.xavier_uniform_(self.patch_embedding.weight.flatten(1))
        nn.init.zeros_(self.patch_embedding.bias)
        for name, parameter in self.named_parameters():
            if name.endswith("modulation"):
                nn.init.normal_(parameter, std=self.config.dim**-0.5)
        for projection in (self.head.head, *(block.cross_attn.o for block in self.blocks)):
            nn.init.zeros_(projection.weight)


def tensor_shapes(config: DiTConfig) -> dict[str, tuple[int, ...]]:
    """Name and shape of every tensor of a network of ``config``; nothing is allocated.

    ComfyUI's operations may create a layer's tensors only when they are loaded, so that a network in ComfyUI does not
    have these names before.
    """
    network = TalkingHeadDiT(config, device="meta")
    return {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
