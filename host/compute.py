"""The device and settings with which a MODEL and a VAE run, for the Sampler's report."""

from __future__ import annotations

from typing import Any

import torch
from comfy import model_management, ops
from comfy.model_patcher import ModelPatcher
from comfy.patcher_extension import WrappersMP
from comfy.sd import VAE

from .fused import kernels_in_use
from .model import TalkingHeadModel, talking_head
from .network import compute_dtype
from .residence import is_dynamic


def description(model: ModelPatcher, vae: VAE) -> dict[str, Any]:
    """Device, data types and ComfyUI's settings that affect speed: attention, fp8, compilation, offloading."""
    network = talking_head(model)
    linear = type(network.diffusion_model.blocks[0].ffn[0])
    compiled = _is_compiled(model)
    return {
        "device": model_management.get_torch_device_name(model.load_device),
        "vae_device": str(vae.device),
        "weights": _short(network.get_dtype()),
        "compute": _short(compute_dtype(network)),
        "vae": _short(vae.vae_dtype),
        "attention": _attention(model, network),
        "fp8_matrix_products": linear is getattr(getattr(ops, "fp8_ops", None), "Linear", None),
        "compiled": compiled,
        "fused_kernels": [] if compiled else kernels_in_use(model.load_device, compute_dtype(network)),
        "dynamic_vram": is_dynamic(model),
        "vram": model_management.vram_state.name.lower(),
    }


def _attention(model: ModelPatcher, network: TalkingHeadModel) -> str:
    if "optimized_attention_override" in model.model_options.get("transformer_options", {}):
        return "replaced by a node"
    function = network.diffusion_model.core_attention.function
    return getattr(function, "__name__", type(function).__name__).removeprefix("attention_")


def _is_compiled(model: ModelPatcher) -> bool:
    """Whether the MODEL is compiled: core's node wraps calls of the network, others replace its modules."""
    by_core = model.get_wrappers(WrappersMP.APPLY_MODEL, "torch.compile")
    return bool(by_core) or any(hasattr(patch, "_orig_mod") for patch in model.object_patches.values())


def _short(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
