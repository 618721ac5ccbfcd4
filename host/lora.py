"""Core's LoRA nodes on the pack's MODEL: the names that they take, and an error where a LoRA does not fit."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from comfy import model_base, model_management, model_patcher

from ..models.dit import tensor_shapes

ROOM = "diffusion_model."
NAMES_FROM = ("QwenImage", "HunyuanDiT")
"""Core decides by a model's class which names of LoRA tensors it takes: for any class the model's own names behind
``diffusion_model.`` and kohya's ``lora_unet_``; for QwenImage also those names alone and behind ``transformer.``, for
HunyuanDiT behind PEFT's ``base_model.model.``. It offers no other way to choose them."""


def _class_with_names() -> type[model_base.BaseModel]:
    """BaseModel in every respect but the names of LoRA tensors; BaseModel itself where core has no such classes."""
    found = [getattr(model_base, name) for name in NAMES_FROM if hasattr(model_base, name)]
    given = {"__init__"} | {name for base in found for name in vars(base) if not name.startswith("_")}
    methods = {name: getattr(model_base.BaseModel, name) for name in given if hasattr(model_base.BaseModel, name)}
    return type("LoraNamedModel", (*found, model_base.BaseModel), methods)


if TYPE_CHECKING:
    LoraNamedModel = model_base.BaseModel
else:
    LoraNamedModel = _class_with_names()


class ChecksLora:
    """Part of a model patcher: refuses patches that core would skip with only a line in the log."""

    model: Any

    def clone(self, *args: Any, **kwargs: Any) -> Any:
        """A clone of the same kind: core makes those without dynamic VRAM plain patchers."""
        copy = super().clone(*args, **kwargs)  # pyright: ignore[reportAttributeAccessIssue]
        if not isinstance(copy, ChecksLora):
            copy.__class__ = _checking(type(copy))
        return copy

    def add_patches(
        self, patches: Mapping[Any, Any], strength_patch: float = 1.0, strength_model: float = 1.0
    ) -> list[Any]:
        """Add ``patches`` to the weights, as core does.

        Raises:
            ValueError: nothing of a LoRA is for this network, or its weights are of another size.
        """
        checkpoint = self.model.checkpoint
        if not patches:
            raise ValueError(
                f"LoRA: no tensor name matches {checkpoint.name} (such as blocks.0.self_attn.q, alone or with the "
                "prefix diffusion_model., transformer., base_model.model. or lora_unet_). It was made for another model"
            )
        low_rank = {key: patch for key, patch in patches.items() if getattr(patch, "name", None) == "lora"}
        # Model merging adds its patches one by one: the shapes are made only for a LoRA.
        shapes = tensor_shapes(checkpoint.config) if low_rank else {}
        unlike = [key for key, patch in low_rank.items() if isinstance(key, str) and not _fits(key, patch, shapes)]
        if unlike:
            raise ValueError(
                f"LoRA: {len(unlike)} of its {len(patches)} weights have another size than those of "
                f"{checkpoint.name} {unlike[:3]}. It was made for another model"
            )
        return super().add_patches(patches, strength_patch, strength_model)  # pyright: ignore[reportAttributeAccessIssue]


def _fits(key: str, patch: Any, shapes: Mapping[str, tuple[int, ...]]) -> bool:
    """Whether a low-rank patch has the size of its weight."""
    shape = shapes.get(key.removeprefix(ROOM))
    if shape is None:
        return True
    up, down, *_ = patch.weights
    return up.shape[0] == shape[0] and math.prod(down.shape[1:]) == math.prod(shape[1:])


def patcher_class(device: Any, dynamic: bool = True) -> type[model_patcher.ModelPatcher]:
    """Core's patcher for weights on ``device``, with ``ChecksLora``; without ``dynamic``, not that of dynamic VRAM."""
    plain = model_patcher.ModelPatcher
    # Newer versions choose another one when the server starts; on a CPU it falls back to the plain one.
    is_plain = not dynamic or model_management.is_device_cpu(device)
    return _checking(plain if is_plain else getattr(model_patcher, "CoreModelPatcher", plain))


@lru_cache(maxsize=4)
def _checking(chosen: type[model_patcher.ModelPatcher]) -> type[model_patcher.ModelPatcher]:
    return type("TalkingHeadPatcher", (ChecksLora, chosen), {})
