"""Wan 2.1 VAE files with diffusers' tensor names (AutoencoderKLWan), renamed to core's names."""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor

CORE_MARK = "decoder.middle.0.residual.0.gamma"
DIFFUSERS_MARKS = ("decoder.mid_block.resnets.0.norm1.gamma", "post_quant_conv.weight")

UP_BLOCK = re.compile(r"decoder\.up_blocks\.(\d)\.(resnets|upsamplers)\.(\d)\.(.+)")
UP_BLOCK_PARTS = 4
"""Diffusers groups the decoder's list by resolution: three residual blocks and what changes the resolution."""

OUTSIDE_BLOCKS = {
    "quant_conv.": "conv1.",
    "post_quant_conv.": "conv2.",
    "encoder.conv_in.": "encoder.conv1.",
    "decoder.conv_in.": "decoder.conv1.",
    "encoder.norm_out.": "encoder.head.0.",
    "decoder.norm_out.": "decoder.head.0.",
    "encoder.conv_out.": "encoder.head.2.",
    "decoder.conv_out.": "decoder.head.2.",
    "encoder.down_blocks.": "encoder.downsamples.",
    "encoder.mid_block.resnets.0.": "encoder.middle.0.",
    "encoder.mid_block.attentions.0.": "encoder.middle.1.",
    "encoder.mid_block.resnets.1.": "encoder.middle.2.",
    "decoder.mid_block.resnets.0.": "decoder.middle.0.",
    "decoder.mid_block.attentions.0.": "decoder.middle.1.",
    "decoder.mid_block.resnets.1.": "decoder.middle.2.",
}
WITHIN_BLOCKS = {
    "norm1.": "residual.0.",
    "conv1.": "residual.2.",
    "norm2.": "residual.3.",
    "conv2.": "residual.6.",
    "conv_shortcut.": "shortcut.",
}
BLOCKS = ("encoder.downsamples.", "encoder.middle.", "decoder.middle.", "decoder.upsamples.")


def has_diffusers_names(state_dict: Mapping[str, Tensor]) -> bool:
    """Whether these are the tensors of diffusers' AutoencoderKLWan."""
    return all(name in state_dict for name in DIFFUSERS_MARKS)


def core_names(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same tensors under core's names; a name of an unknown part is not changed."""
    return {_core_name(name): tensor for name, tensor in state_dict.items()}


def _core_name(name: str) -> str:
    up = UP_BLOCK.fullmatch(name)
    if up is not None:
        block, kind, part, rest = up.groups()
        index = UP_BLOCK_PARTS * int(block) + (int(part) if kind == "resnets" else UP_BLOCK_PARTS - 1)
        name = f"decoder.upsamples.{index}.{rest}"
    for theirs, cores in OUTSIDE_BLOCKS.items():
        if name.startswith(theirs):
            name = cores + name[len(theirs) :]
            break
    for block in BLOCKS:
        if name.startswith(block):
            index, rest = name[len(block) :].split(".", 1)
            for theirs, cores in WITHIN_BLOCKS.items():
                if rest.startswith(theirs):
                    rest = cores + rest[len(theirs) :]
                    break
            return f"{block}{index}.{rest}"
    return name
