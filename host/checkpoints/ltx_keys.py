"""LTX-Video VAE files with diffusers' tensor names (AutoencoderKLLTXVideo), renamed to core's names.

Diffusers groups resampling and channel changes into stages; LTX-Video itself, and core after it, number one flat list
of blocks. A table below is that list: each block's path in diffusers, in core's order.
"""

from __future__ import annotations

from collections.abc import Container, Mapping

from torch import Tensor

Table = tuple[str, ...]

DIFFUSERS_MARK = "decoder.mid_block.resnets.0.conv1.conv.weight"
CORE_MARK = "decoder.up_blocks.0.res_blocks.0.conv1.conv.weight"
STATISTICS = ("per_channel_statistics.mean-of-means", "per_channel_statistics.std-of-means")

# What only later generations have: a decoder that takes a noise level, and resampling that changes the channels.
NOISE_LEVEL = "decoder.timestep_scale_multiplier"
RESAMPLING = "encoder.down_blocks.1.conv.conv.weight"

# LTX-Video 0.9.0, which is the published VAE_LTX; 0.9.1 has the same encoder.
ENCODER_CHANGES_CHANNELS_IN_BLOCKS: Table = (
    "down_blocks.0",
    "down_blocks.0.downsamplers.0",
    "down_blocks.0.conv_out",
    "down_blocks.1",
    "down_blocks.1.downsamplers.0",
    "down_blocks.1.conv_out",
    "down_blocks.2",
    "down_blocks.2.downsamplers.0",
    "down_blocks.3",
    "mid_block",
)
DECODER_CHANGES_CHANNELS_IN_BLOCKS: Table = (
    "mid_block",
    "up_blocks.0",
    "up_blocks.1.upsamplers.0",
    "up_blocks.1",
    "up_blocks.2.conv_in",
    "up_blocks.2.upsamplers.0",
    "up_blocks.2",
    "up_blocks.3.conv_in",
    "up_blocks.3.upsamplers.0",
    "up_blocks.3",
)
# 0.9.5 and later change the number of channels while resampling; 0.9.1 has the same decoder list.
ENCODER_CHANGES_CHANNELS_RESAMPLING: Table = (
    "down_blocks.0",
    "down_blocks.0.downsamplers.0",
    "down_blocks.1",
    "down_blocks.1.downsamplers.0",
    "down_blocks.2",
    "down_blocks.2.downsamplers.0",
    "down_blocks.3",
    "down_blocks.3.downsamplers.0",
    "mid_block",
)
DECODER_CHANGES_CHANNELS_RESAMPLING: Table = (
    "mid_block",
    "up_blocks.0.upsamplers.0",
    "up_blocks.0",
    "up_blocks.1.upsamplers.0",
    "up_blocks.1",
    "up_blocks.2.upsamplers.0",
    "up_blocks.2",
)

WITHIN_BLOCKS = {"resnets.": "res_blocks.", "conv_shortcut.conv.": "conv_shortcut.", "norm3.": "norm3.norm."}
OUTSIDE_BLOCKS = {
    "latents_mean": "per_channel_statistics.mean-of-means",
    "latents_std": "per_channel_statistics.std-of-means",
    "decoder.time_embedder": "decoder.last_time_embedder",
    "decoder.scale_shift_table": "decoder.last_scale_shift_table",
}
UNREAD_STATISTICS = tuple(
    f"per_channel_statistics.{name}" for name in ("mean-of-stds", "mean-of-stds_over_std-of-means", "channel")
)
"""Older versions of core declare these vectors too, read none of them, and leave them as they find the memory."""


def has_diffusers_names(names: Container[str]) -> bool:
    """Whether these are the tensors of diffusers' AutoencoderKLLTXVideo."""
    return DIFFUSERS_MARK in names


def has_core_names(names: Container[str]) -> bool:
    """Whether these are the tensors of an LTX-Video VAE, named as LTX-Video and core do."""
    return CORE_MARK in names


def has_statistics(names: Container[str]) -> bool:
    """Whether core's LTX-Video VAE has the mean and spread of its latents, which it normalises them by."""
    return not has_core_names(names) or all(name in names for name in STATISTICS)


def generation(names: Container[str]) -> str:
    """Which LTX-Video the VAE is of, by core's tensor names; their latents differ."""
    if RESAMPLING in names:
        return "0.9.5 or later" if NOISE_LEVEL in names else "2"
    return "0.9.1" if NOISE_LEVEL in names else "0.9.0"


def core_names(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same tensors under core's names; a name that is in no table is not changed."""
    blocks = _block_prefixes(state_dict)
    return {_core_name(name, blocks): tensor for name, tensor in state_dict.items()}


def _block_prefixes(state_dict: Mapping[str, Tensor]) -> dict[str, str]:
    """Diffusers' block prefix -> core's, a stage's own parts before the stage."""
    if "encoder.down_blocks.0.conv_out.conv1.conv.weight" in state_dict:
        encoder = ENCODER_CHANGES_CHANNELS_IN_BLOCKS
    else:
        encoder = ENCODER_CHANGES_CHANNELS_RESAMPLING
    if "decoder.up_blocks.0.upsamplers.0.conv.conv.weight" in state_dict:
        decoder = DECODER_CHANGES_CHANNELS_RESAMPLING
    else:
        decoder = DECODER_CHANGES_CHANNELS_IN_BLOCKS
    prefixes = {f"encoder.{path}.": f"encoder.down_blocks.{index}." for index, path in enumerate(encoder)}
    prefixes |= {f"decoder.{path}.": f"decoder.up_blocks.{index}." for index, path in enumerate(decoder)}
    return dict(sorted(prefixes.items(), key=lambda prefix: -len(prefix[0])))


def _core_name(name: str, blocks: Mapping[str, str]) -> str:
    for theirs, cores in blocks.items():
        if name.startswith(theirs):
            rest = name[len(theirs) :]
            for part, core_part in WITHIN_BLOCKS.items():
                rest = rest.replace(part, core_part)
            return cores + rest
    for theirs, cores in OUTSIDE_BLOCKS.items():
        if name.startswith(theirs):
            return cores + name[len(theirs) :]
    return name
