"""Adapters of a published network, such as LeapTalk: a LoRA to merge, and an audio projection that replaces its own.

A folder with one holds ``lora/adapter_model.safetensors`` (PEFT) and ``audio_proj_step_<number>.pt``.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ...models.checkpoint import CheckpointError, differences, examples, read_checkpoint, read_text
from ...models.config import check_number, parse_object
from ...models.family import ModelSpec
from ...models.files import is_file
from ...models.network_tensors import COMPILED_PARTS, Metadata, network_tensors
from .weight_files import entries

LORA = "adapter_model"
LORA_CONFIG = "adapter_config.json"
PROJECTION = "audio_proj"
_PROJECTION_FILE = re.compile(rf"{PROJECTION}_step_(\d+)\.(?:pt|safetensors)")

PEFT_PREFIX = "base_model.model."
_LOW_RANK = re.compile(r"(.+)\.lora_([AB])(?:\.\w+)?\.weight")
UNSUPPORTED = ("use_dora", "alpha_pattern", "rank_pattern")
"""Entries of PEFT's configuration that change what its weights mean."""


@dataclass(frozen=True)
class Adapter:
    """The files of an adapter; if ``lora`` is missing, the user applies it with a LoRA loader node."""

    spec: ModelSpec
    folder: Path
    projection: Path | None
    lora: Path | None
    fast_vae: Path | None

    @property
    def files(self) -> tuple[Path, ...]:
        """The files that change the network's weights."""
        config = self.lora.with_name(LORA_CONFIG) if self.lora is not None else None
        return tuple(file for file in (self.projection, self.lora, config) if file is not None and is_file(file))


def find_adapter(folder: Path, spec: ModelSpec) -> Adapter | None:
    """The adapter in ``folder``, if any, as ``spec`` describes it.

    If there are several projections, the one with the highest step is taken.
    """
    files = [file for file in entries(folder) if is_file(file)]
    steps = {file: int(found[1]) for file in files if (found := _PROJECTION_FILE.fullmatch(file.name))}
    projection = max(steps, key=lambda file: steps[file], default=None)
    loras = [place / f"{LORA}.safetensors" for place in (folder / "lora", folder)]
    lora = next((file for file in loras if is_file(file)), None)
    if projection is None and lora is None:
        return None
    vae = None if spec.fast_vae is None else Path(spec.fast_vae.main_file).stem
    fast_vae = next((file for file in files if file.stem == vae), None)
    return Adapter(spec, folder, projection, lora, fast_vae)


def apply_adapter(
    adapter: Adapter, state_dict: Mapping[str, Tensor], metadata: Metadata
) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """The network's tensors with the adapter applied, and notes for the user; ``state_dict`` is not changed.

    Raises:
        CheckpointError, ConfigError: a file of the adapter is damaged, or was made for another network.
    """
    network = network_tensors(state_dict, metadata)
    tensors, notes = dict(network.tensors), list(network.notes)
    if adapter.lora is None:
        notes.append(
            f"{adapter.folder.name}: {LORA}.safetensors is not in its folder: apply it with a LoRA loader node"
        )
    else:
        tensors |= merged(tensors, adapter.lora)
    assert adapter.projection is not None
    tensors |= _projection(tensors, adapter.projection)
    return tensors, tuple(notes)


def merged(tensors: Mapping[str, Tensor], lora: Path) -> dict[str, Tensor]:
    """The weights that the LoRA changes: W + alpha / r * B A, computed in float32 (PEFT's LoRA, arXiv 2106.09685)."""
    pairs = _pairs(lora)
    scale = _scale(lora)
    unlike = [name for name, (a, b) in pairs.items() if not _fits(tensors.get(f"{name}.weight"), a, b)]
    if unlike:
        raise CheckpointError(
            f"{lora}: {len(unlike)} of its {len(pairs)} weights are not in the network or have another size "
            f"({examples(unlike)}): it was made for another model"
        )
    changed: dict[str, Tensor] = {}
    for name, (a, b) in pairs.items():
        weight = tensors[f"{name}.weight"]
        rank = a.shape[0]
        product = torch.addmm(weight.float(), b.float(), a.float(), alpha=scale(rank))
        changed[f"{name}.weight"] = product.to(weight.dtype)
    return changed


def _pairs(lora: Path) -> dict[str, tuple[Tensor, Tensor]]:
    """A [r, in] and B [out, r] by the name of the layer."""
    held, _ = read_checkpoint(lora)
    parts: dict[str, dict[str, Tensor]] = {}
    other: list[str] = []
    for name, tensor in held.items():
        found = _LOW_RANK.fullmatch(_plain(name))
        if found is None or tensor.ndim != 2:
            other.append(name)
            continue
        parts.setdefault(found[1], {})[found[2]] = tensor
    other += [name for name, pair in parts.items() if len(pair) != 2]
    if other or not parts:
        raise CheckpointError(
            f"{lora}: {len(other)} tensors are not pairs of lora_A and lora_B ({examples(other)}): it is not a LoRA in "
            "PEFT's form, or is incomplete; download it again"
        )
    return {name: (pair["A"], pair["B"]) for name, pair in parts.items()}


def _plain(name: str) -> str:
    for part in COMPILED_PARTS:
        name = name.replace(part, "")
    return name.removeprefix(PEFT_PREFIX)


def _fits(weight: Tensor | None, a: Tensor, b: Tensor) -> bool:
    return weight is not None and weight.shape == (b.shape[0], a.shape[1]) and a.shape[0] == b.shape[1]


def _scale(lora: Path) -> Callable[[int], float]:
    """alpha / r by the rank r; alpha is in ``adapter_config.json`` and defaults to the rank."""
    beside = lora.with_name(LORA_CONFIG)
    if not beside.is_file():
        return lambda rank: 1.0
    config = parse_object(read_text(beside), str(beside))
    unknown = [name for name in UNSUPPORTED if config.get(name)]
    if unknown:
        raise CheckpointError(f"{beside}: not supported: {', '.join(unknown)}; use another adapter")
    alpha = config.get("lora_alpha")
    if alpha is None:
        return lambda rank: 1.0
    check_number(f"{beside}: lora_alpha", alpha, 0, 1 << 20)
    root = math.sqrt if config.get("use_rslora") else float
    return lambda rank: alpha / root(rank)


def _projection(tensors: Mapping[str, Tensor], file: Path) -> dict[str, Tensor]:
    """The audio projection under the network's names, with the data types of the one that it replaces."""
    held, _ = read_checkpoint(file)
    prefix = f"{PROJECTION}."
    given = {prefix + _plain(name).removeprefix(prefix): tensor for name, tensor in held.items()}
    own = {name: tensor.shape for name, tensor in tensors.items() if name.startswith(prefix)}
    unlike = differences(own, given, [name for name in given if name not in own])
    if unlike:
        raise CheckpointError(f"{file}: {unlike}: it is not the audio projection of this network")
    return {name: tensor.to(tensors[name].dtype) for name, tensor in given.items()}
