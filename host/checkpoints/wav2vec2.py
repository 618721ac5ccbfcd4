"""wav2vec2 checkpoints of Hugging Face and of fairseq as core's AudioEncoderModel, whole and in float32."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch
from comfy.audio_encoders.audio_encoders import load_audio_encoder_from_sd
from comfy.audio_encoders.wav2vec2 import Wav2Vec2Model
from torch import Tensor

from ...models.checkpoint import CheckpointError, differences, examples
from ...models.family import WAV2VEC2

ANCHOR = "encoder.layer_norm.bias"
LAYERS = {768: 12, 1024: 24}
"""Transformer layers by width: base and large, the two that core supports."""

CONV_DIM = 512
KERNELS = (10, 3, 3, 3, 3, 2, 2)
POSITION_KERNEL, POSITION_GROUPS = 128, 16
MASK = "masked_spec_embed"
REMEDY = f"use {WAV2VEC2.main_file} of {WAV2VEC2.repository} (Hugging Face)"
UNUSED = re.compile(
    r"lm_head\.|quantizer\.|project_q\.|project_hid\.|final_proj\.|projector\.|classifier\.|proj\.|mask_emb$"
)
"""Heads with which wav2vec2 is trained; features do not use them."""

FAIRSEQ_MARK = "post_extract_proj.weight"
FAIRSEQ_PREFIX = re.compile(r"^(w2v_encoder\.)?(w2v_model\.)?")
FAIRSEQ_NAMES = (
    (re.compile(r"^feature_extractor\.conv_layers\.(\d)\.0\."), r"feature_extractor.conv_layers.\1.conv."),
    (re.compile(r"^feature_extractor\.conv_layers\.(\d)\.2\.(1\.)?"), r"feature_extractor.conv_layers.\1.layer_norm."),
    (re.compile(r"^post_extract_proj\."), "feature_projection.projection."),
    (re.compile(r"^layer_norm\."), "feature_projection.layer_norm."),
    (re.compile(r"^mask_emb$"), MASK),
    (re.compile(r"^encoder\.pos_conv\.0\."), "encoder.pos_conv_embed.conv."),
    (re.compile(r"\.self_attn\."), ".attention."),
    (re.compile(r"\.self_attn_layer_norm\."), ".layer_norm."),
    (re.compile(r"\.fc1\."), ".feed_forward.intermediate_dense."),
    (re.compile(r"\.fc2\."), ".feed_forward.output_dense."),
)
POSITION_WEIGHT = "encoder.pos_conv_embed.conv"
POSITION_NAMES = {
    f"{POSITION_WEIGHT}.weight_g": f"{POSITION_WEIGHT}.parametrizations.weight.original0",
    f"{POSITION_WEIGHT}.weight_v": f"{POSITION_WEIGHT}.parametrizations.weight.original1",
}
"""The position convolution's normalised weight in files of PyTorch before 2.1, and since."""


def load_wav2vec2(state_dict: Mapping[str, Tensor], name: str) -> Any:
    """A wav2vec2 checkpoint as core's AudioEncoderModel with its weights kept in float32.

    Core stores them in float16 on most machines, which costs about 3e-3 in the features.

    Raises:
        CheckpointError: it is no wav2vec2 that core supports, or it is incomplete.
    """
    weights = _core_names(state_dict)
    _check(weights, name)
    try:
        encoder = load_audio_encoder_from_sd(dict(weights))
    except RuntimeError as error:
        raise CheckpointError(f"{name}: not a wav2vec2 checkpoint that ComfyUI can load ({error})") from error
    if not isinstance(encoder.model, Wav2Vec2Model):
        raise CheckpointError(f"{name}: a {type(encoder.model).__name__} is not the wav2vec2 that the network needs")
    encoder.model.float()
    encoder.load_sd(dict(weights))
    encoder.dtype = torch.float32
    return encoder


def _core_names(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    if any(name.endswith(FAIRSEQ_MARK) for name in state_dict):
        renamed = {_from_fairseq(name): tensor for name, tensor in state_dict.items()}
    else:
        prefix = next((name.removesuffix(ANCHOR) for name in state_dict if name.endswith(ANCHOR)), "")
        renamed = {name.removeprefix(prefix): tensor for name, tensor in state_dict.items()}
    weights = {POSITION_NAMES.get(name, name): tensor for name, tensor in renamed.items() if not UNUSED.match(name)}
    if MASK not in weights and ANCHOR in weights:
        # Only training uses it, for masking, but core's network has it.
        weights[MASK] = torch.zeros_like(weights[ANCHOR])
    return weights


def _from_fairseq(name: str) -> str:
    name = FAIRSEQ_PREFIX.sub("", name)
    for theirs, cores in FAIRSEQ_NAMES:
        name = theirs.sub(cores, name)
    return name


def _check(weights: Mapping[str, Tensor], name: str) -> None:
    """Compare with what core will build, before it does."""
    width = weights[ANCHOR].shape[0] if ANCHOR in weights and weights[ANCHOR].ndim == 1 else 0
    if width not in LAYERS:
        raise CheckpointError(f"{name}: not a wav2vec2 checkpoint that ComfyUI can load: {REMEDY}")
    expected = expected_shapes(width)
    unlike = differences(expected, weights, [key for key in weights if key not in expected])
    if unlike:
        raise CheckpointError(f"{name}: {unlike}: the wav2vec2 is incomplete; {REMEDY}")
    whole = [key for key, tensor in weights.items() if not tensor.is_floating_point()]
    if whole:
        raise CheckpointError(f"{name}: its weights are quantised ({examples(whole)}); {REMEDY}")


def expected_shapes(width: int) -> dict[str, tuple[int, ...]]:
    """Name and shape of every tensor of the base (768) or the large (1024) network, as core names them."""
    large = width == 1024
    shapes: dict[str, tuple[int, ...]] = {MASK: (width,)}

    def norm(name: str, size: int) -> None:
        shapes.update({f"{name}.weight": (size,), f"{name}.bias": (size,)})

    def linear(name: str, out: int, inner: int) -> None:
        shapes.update({f"{name}.weight": (out, inner), f"{name}.bias": (out,)})

    for index, kernel in enumerate(KERNELS):
        layer = f"feature_extractor.conv_layers.{index}"
        shapes[f"{layer}.conv.weight"] = (CONV_DIM, CONV_DIM if index else 1, kernel)
        if large:
            shapes[f"{layer}.conv.bias"] = (CONV_DIM,)
        if large or index == 0:
            norm(f"{layer}.layer_norm", CONV_DIM)
    norm("feature_projection.layer_norm", CONV_DIM)
    linear("feature_projection.projection", width, CONV_DIM)
    shapes[f"{POSITION_WEIGHT}.bias"] = (width,)
    shapes[f"{POSITION_WEIGHT}.parametrizations.weight.original0"] = (1, 1, POSITION_KERNEL)
    shapes[f"{POSITION_WEIGHT}.parametrizations.weight.original1"] = (width, width // POSITION_GROUPS, POSITION_KERNEL)
    norm("encoder.layer_norm", width)
    for index in range(LAYERS[width]):
        layer = f"encoder.layers.{index}"
        for projection in ("k_proj", "v_proj", "q_proj", "out_proj"):
            linear(f"{layer}.attention.{projection}", width, width)
        norm(f"{layer}.layer_norm", width)
        linear(f"{layer}.feed_forward.intermediate_dense", 4 * width, width)
        linear(f"{layer}.feed_forward.output_dense", width, 4 * width)
        norm(f"{layer}.final_layer_norm", width)
    return shapes
