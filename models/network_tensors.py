"""A network's tensors in any form of checkpoint: under prefixes, beside other tensors, with fp8 scales."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from .checkpoint import CheckpointError, differences, examples
from .config import DiTConfig, Metadata
from .dit import tensor_shapes

ANCHOR = "patch_embedding.weight"
"""Whatever stands before this name stands before all names of a network."""

COMPILED_PARTS = ("_orig_mod.", "_fsdp_wrapped_module.", "_checkpoint_wrapped_module.")
"""What torch.compile, FSDP and activation checkpointing put into names, wherever the wrapped module is."""

UNUSED_GROUPS = {"text_embedding.": 4, "audio_emb.": 8}
"""Tensors of the family that no talking-head network uses, with their number; pruned files leave them out."""

WEIGHT_SCALES = (".scale_weight", ".weight_scale")
INPUT_SCALES = (".scale_input", ".input_scale")
QUANTISATION = ".comfy_quant"
FP8_MARK = "scaled_fp8"
FP8_FORMATS = ("float8_e4m3fn", "float8_e5m2")


@dataclass(frozen=True)
class NetworkTensors:
    """``tensors`` under the network's own names; ``notes`` for the user describe what was changed or left out."""

    tensors: dict[str, Tensor]
    notes: tuple[str, ...]


def network_tensors(state_dict: Mapping[str, Tensor], metadata: Metadata | None = None) -> NetworkTensors:
    """The network of a checkpoint, without prefixes and without quantisation.

    Raises:
        CheckpointError: the weights are quantised in a way that cannot be read; the message names it.
    """
    named = {_plain(name): tensor for name, tensor in state_dict.items()}
    prefix = _prefix(named)
    own = {name.removeprefix(prefix): tensor for name, tensor in named.items() if name.startswith(prefix)}
    notes: list[str] = []
    if prefix and len(own) < len(named):
        others = [name for name in named if not name.startswith(prefix)]
        notes.append(f"only the network's tensors ({prefix}*) are read; left out: {examples(others)}")
    own, quantised = _dequantised(own, metadata)
    own = _without_incomplete_groups(own)
    if quantised:
        notes.append(f"{quantised} fp8 weights with scales were converted to bfloat16")
    return NetworkTensors(own, tuple(notes))


def fitted(tensors: Mapping[str, Tensor], config: DiTConfig) -> NetworkTensors:
    """Exactly the tensors that a network of ``config`` has.

    Raises:
        CheckpointError: some are missing, have another shape or type, or belong to another architecture.
    """
    expected = tensor_shapes(config)
    rooms = {name.split(".", 1)[0] for name in expected}
    extra = [name for name in tensors if name not in expected and not name.startswith(tuple(UNUSED_GROUPS))]
    foreign = [name for name in extra if name.split(".", 1)[0] in rooms]
    unlike = differences(expected, tensors, foreign)
    if unlike:
        raise CheckpointError(f"{unlike}: the file is incomplete, quantised or of another architecture")
    whole = [name for name in expected if not tensors[name].is_floating_point()]
    if whole:
        raise CheckpointError(
            f"{len(whole)} weights are quantised as {tensors[whole[0]].dtype} ({examples(whole)}), which cannot "
            "be used here: use the version in bf16, fp16, fp32 or fp8"
        )
    notes = (f"tensors that do not belong to the network were left out: {examples(extra)}",) if extra else ()
    return NetworkTensors({name: tensors[name] for name in expected}, notes)


def _without_incomplete_groups(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    found = {group: sum(name.startswith(group) for name in tensors) for group in UNUSED_GROUPS}
    incomplete = tuple(group for group, number in UNUSED_GROUPS.items() if found[group] < number)
    return {name: tensor for name, tensor in tensors.items() if not name.startswith(incomplete)}


def _plain(name: str) -> str:
    for part in COMPILED_PARTS:
        name = name.replace(part, "")
    return name


def _prefix(names: Iterable[str]) -> str:
    """What stands before the network's names; of several networks, the averaged one (EMA), else the first by length."""
    found = [name.removesuffix(ANCHOR) for name in names if name == ANCHOR or name.endswith("." + ANCHOR)]
    return min(found, key=lambda prefix: (bool(prefix) and "ema" not in prefix, len(prefix)), default="")


def _dequantised(tensors: dict[str, Tensor], metadata: Metadata | None) -> tuple[dict[str, Tensor], int]:
    """The tensors with their fp8 scales applied, in bfloat16, and the number of these weights."""
    _check_formats(tensors, metadata)
    result = dict(tensors)
    scales = {name: suffix for name in tensors for suffix in WEIGHT_SCALES if name.endswith(suffix)}
    for name, suffix in scales.items():
        weight_name = f"{name.removesuffix(suffix)}.weight"
        if weight_name not in tensors:
            raise CheckpointError(f"{name} scales the weight {weight_name}, which is missing: the file is incomplete")
        result[weight_name] = _scaled(weight_name, tensors[weight_name], tensors[name])
        del result[name]
    if scales or FP8_MARK in tensors:
        # These scale the inputs of fp8 matrix products, not the weights.
        unneeded = [name for name in result if name == FP8_MARK or name.endswith((*INPUT_SCALES, QUANTISATION))]
        for name in unneeded:
            del result[name]
    return result, len(scales)


def _scaled(name: str, weight: Tensor, scale: Tensor) -> Tensor:
    if not weight.is_floating_point():
        raise CheckpointError(
            f"the weight {name} is quantised as {weight.dtype}, which cannot be used here: use the version in bf16, "
            "fp16, fp32 or scaled fp8"
        )
    per_row = weight.ndim == 2 and scale.numel() == weight.shape[0] and scale.ndim in (1, 2)
    if scale.numel() != 1 and not per_row:
        raise CheckpointError(
            f"the weight {name} {list(weight.shape)} is quantised in blocks (scales {list(scale.shape)}), which cannot "
            "be used here: use the version in bf16, fp16 or fp32, or fp8 with one scale per weight or row"
        )
    factor = scale.float().reshape(-1, 1) if per_row else scale.float().reshape(())
    if not bool(factor.isfinite().all()):
        raise CheckpointError(f"the scale of the weight {name} is not finite: the file is damaged; download it again")
    return (weight.float() * factor).bfloat16()


def _check_formats(tensors: Mapping[str, Tensor], metadata: Metadata | None) -> None:
    """Refuse quantisations of ComfyUI other than fp8 with scales; a layer's format is JSON in a byte tensor."""
    described = [bytes(tensors[name].flatten()[:4096].to(torch.uint8).tolist()) for name in _marked(tensors)]
    try:
        formats = [json.loads(text).get("format") for text in described]
        layers = json.loads((metadata or {}).get("_quantization_metadata", "{}")).get("layers", {})
        formats += [layer.get("format") for layer in layers.values()]
    except (ValueError, RecursionError, AttributeError) as error:
        raise CheckpointError(f"the description of the quantised weights is damaged ({error})") from error
    others = sorted({str(form)[:40] for form in formats if form not in FP8_FORMATS})
    if others:
        raise CheckpointError(
            f"the weights are quantised as {', '.join(others)}, which cannot be used here: use the version in bf16, "
            "fp16, fp32 or scaled fp8"
        )


def _marked(tensors: Mapping[str, Tensor]) -> list[str]:
    return [name for name in tensors if name.endswith(QUANTISATION)]
