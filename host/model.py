"""``TalkingHeadDiT`` as core's own MODEL, so that LoRA loaders, weight dtypes, offloading and model wrappers apply."""

from __future__ import annotations

import hashlib
import logging
import math
import re
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import comfy.ldm.modules.attention as core_attention
import torch
from comfy import latent_formats, model_base, model_management, model_patcher, patcher_extension, supported_models_base
from comfy import utils as comfy_utils
from comfy.cli_args import args
from torch import Tensor
from typing_extensions import override

from ..models.checkpoint import CheckpointError
from ..models.config import ConfigError, DiTConfig, SamplingConfig
from ..models.dit import TalkingHeadDiT
from ..models.layers import AudioKeyValue, Kernels, OtherAudio, RotaryTables
from ..models.network_tensors import fitted, network_tensors
from ..models.reference import ReferenceKind
from . import fused
from .lora import LoraNamedModel, patcher_class
from .precision import prefers_bf16

WEIGHT_DTYPES: dict[str, torch.dtype | None] = {
    "default": None,
    "bf16": torch.bfloat16,
    "fp16": torch.float16,
    "fp8_e4m3fn": torch.float8_e4m3fn,
    "fp8_e5m2": torch.float8_e5m2,
    "fp8_e4m3fn_fast": torch.float8_e4m3fn,
}
"""Loader choice -> dtype in which the weights are stored; None lets core choose for the device."""

FP8_PRODUCTS = "fp8_e4m3fn_fast"
"""Loader choice, as in core's own loader: fp8 weights and fp8 matrix products."""
NO_FP8_PRODUCTS = (
    "fp8_e4m3fn_fast: {device} does not support fp8 matrix products (NVIDIA GPUs do from GeForce 40 and Hopper on); "
    "weights are stored in fp8, and products are computed in {dtype}"
)

FLOAT32_OPTIONS = (
    "force_fp32", "fp32_unet", "fp64_unet", "fp16_unet", "fp8_e4m3fn_unet", "fp8_e5m2_unet", "fp8_e8m0fnu_unet",
)  # fmt: skip
"""ComfyUI's options, as it names them itself, with which a CPU computes in float32."""

FINGERPRINT = "asymtalker_fingerprint"
"""Attribute of loaded objects."""

UNDISTILLED_NAME = re.compile("teacher|pretrain|undistil", re.IGNORECASE)
"""Marks undistilled checkpoints by the name of the file or folder, for files without metadata."""


@dataclass(frozen=True)
class Checkpoint:
    """Facts about the file of a loaded MODEL.

    ``reference`` is the kind that it was trained with, None if the file does not state it.
    ``weights_id`` changes with every change of the weights' content. ``notes`` describe changes to the file's tensors.
    """

    name: str
    config: DiTConfig
    sampling: SamplingConfig
    reference: ReferenceKind | None
    weights_id: str
    notes: tuple[str, ...] = ()


class CoreAttention:
    """The family's attention callable over core's attention function [B, S, heads, head_dim].

    ``options`` is set for the duration of one forward pass whose transformer options replace the attention.
    """

    def __init__(self) -> None:
        self.function = preferred_attention()
        self.options: dict[str, Any] | None = None

    def __call__(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Attend; heads are folded into core's layout and out of it again."""
        heads = q.shape[2]
        q, k, v = (tensor.transpose(1, 2) for tensor in (q, k, v))
        out = self.function(q, k, v, heads, skip_reshape=True, transformer_options=self.options)
        return out.unflatten(-1, (heads, -1))


def preferred_attention() -> Any:
    """Core's chosen attention; on a CPU, where core's default is the slow sub-quadratic one, PyTorch's kernel."""
    asked = args.use_split_cross_attention or args.use_quad_cross_attention
    if not asked and model_management.is_device_cpu(model_management.get_torch_device()):
        return core_attention.attention_pytorch
    return core_attention.optimized_attention


class HostDiT(TalkingHeadDiT):
    """The network under core's calling convention for diffusion models."""

    def __init__(self, *, config: DiTConfig, dtype: torch.dtype | None, device: Any, operations: Any) -> None:
        attention = CoreAttention()
        kernels = Kernels(attention, fused.rotate, fused.modulated_norm)
        super().__init__(config, kernels=kernels, dtype=dtype, device=device, operations=operations)
        self.dtype = dtype
        self.core_attention = attention

    @override
    def rotary_tables(self, latent_shape: Sequence[int], device: torch.device) -> RotaryTables:
        return fused.with_matrices(super().rotary_tables(latent_shape, device))

    def forward(  # pyright: ignore[reportIncompatibleMethodOverride] core calls every diffusion model this way
        self,
        x: Tensor,
        timesteps: Tensor,
        context: Tensor | None = None,
        control: Any = None,
        transformer_options: dict[str, Any] | None = None,
        *,
        reference: Tensor,
        audio_kv: list[AudioKeyValue],
        tables: RotaryTables | None = None,
        other: Sequence[OtherAudio] = (),
        **kwargs: Any,
    ) -> Tensor:
        """``velocity`` of ``x`` [B, C, T, h, w] at ``timesteps`` [B]; ``context`` and ``control`` are not used."""
        options = transformer_options or {}
        wrappers = patcher_extension.get_all_wrappers(patcher_extension.WrappersMP.DIFFUSION_MODEL, options)
        executor = patcher_extension.WrapperExecutor.new_class_executor(self._flow, self, wrappers)
        # Caching wrappers write into their input, which the sampler still needs.
        beside = {"other": other} if other else {}
        return executor.execute(x.clone() if wrappers else x, timesteps, audio_kv, reference, tables, options, **beside)

    def _flow(
        self,
        x: Tensor,
        timesteps: Tensor,
        audio_kv: list[AudioKeyValue],
        reference: Tensor,
        tables: RotaryTables | None,
        options: dict[str, Any],
        other: Sequence[OtherAudio] = (),
    ) -> Tensor:
        if "optimized_attention_override" not in options:
            return self.velocity(x, timesteps, audio_kv, reference, tables, other)
        self.core_attention.options = options
        try:
            return self.velocity(x, timesteps, audio_kv, reference, tables, other)
        finally:
            self.core_attention.options = None


def latent_format_for(latent_channels: int) -> latent_formats.LatentFormat:
    """Core's format of the published latent spaces; any other VAE's latents are taken as they are."""
    if latent_channels == latent_formats.Wan21.latent_channels:
        return latent_formats.Wan21()
    if latent_channels == latent_formats.LTXV.latent_channels:
        return latent_formats.LTXV()
    identity = latent_formats.LatentFormat()
    identity.latent_channels = latent_channels
    identity.latent_dimensions = 3
    return identity


class TalkingHeadConfig(supported_models_base.BASE):
    """Core's model configuration for one checkpoint. The pack's schedules are already shifted, so core's shift is 1."""

    unet_extra_config: ClassVar[dict[str, Any]] = {}
    sampling_settings: ClassVar[dict[str, Any]] = {"shift": 1.0}
    supported_inference_dtypes: ClassVar[list[torch.dtype]] = [torch.bfloat16, torch.float16, torch.float32]

    def __init__(self, config: DiTConfig) -> None:
        super().__init__({"config": config})
        self.latent_format = latent_format_for(config.latent_channels)


class TalkingHeadModel(LoraNamedModel):
    """Core's BaseModel over ``HostDiT``: ``apply_model(x, u, reference=..., audio_kv=...)`` returns x0 = x - u*flow."""

    diffusion_model: HostDiT

    def __init__(self, model_config: TalkingHeadConfig, checkpoint: Checkpoint, device: Any = None) -> None:
        # Core has no type there; that of the default is guessed.
        network: Any = HostDiT
        super().__init__(model_config, model_base.ModelType.FLOW, device=device, unet_model=network)
        self.checkpoint = checkpoint

    def memory_required(
        self, input_shape: list[int] | tuple[int, ...], cond_shapes: Mapping[str, Any] | None = None
    ) -> int:
        """Bytes of activations for latents of ``input_shape`` [B, C, T, h, w]: one block's, and the audio's k and v."""
        config = self.checkpoint.config
        tokens = input_shape[0] * math.prod(input_shape[2:]) // math.prod(config.patch_size)
        audio_tokens = input_shape[0] * input_shape[2] * config.audio.context_tokens
        size = model_management.dtype_size(self.manual_cast_dtype or self.get_dtype())
        # Widest moment of a block: the feed-forward's two hidden tensors beside about a dozen token-wide ones.
        per_token = 2 * config.ffn_dim + 12 * config.dim
        return (tokens * per_token + 2 * audio_tokens * config.dim * config.num_layers) * size


def load_model(
    state_dict: dict[str, Tensor],
    metadata: Mapping[str, str] | None,
    *,
    name: str,
    weight_dtype: str = "default",
    fingerprint: Callable[[Mapping[str, Tensor]], str] | None = None,
    dynamic: bool = True,
) -> model_patcher.ModelPatcher:
    """Build a MODEL from a checkpoint's tensors, the way core's own loader does.

    ``fingerprint`` gives ``weights_fingerprint`` of the network's tensors, where that is known without reading them.
    ``dynamic`` False keeps dynamic VRAM off for this MODEL, where the host uses it.

    Raises:
        CheckpointError: tensors are missing, too many, quantised, or of other shapes than in the configuration.
        ConfigError: the tensors are of another architecture, or the metadata does not describe them.
    """
    tensors, checkpoint = _identified(state_dict, metadata, name, fingerprint or weights_fingerprint)
    load_device = model_management.get_torch_device()
    offload_device = model_management.unet_offload_device()
    model_config = TalkingHeadConfig(checkpoint.config)
    dtype, compute_dtype = _dtypes(tensors, WEIGHT_DTYPES[weight_dtype], load_device)
    model_config.set_inference_dtype(dtype, compute_dtype)
    if weight_dtype == FP8_PRODUCTS:
        model_config.optimizations["fp8"] = True
        if not model_management.supports_fp8_compute(load_device):
            device = model_management.get_torch_device_name(load_device)
            note = NO_FP8_PRODUCTS.format(device=device, dtype=compute_dtype)
            checkpoint = replace(checkpoint, notes=(*checkpoint.notes, note))
    model = TalkingHeadModel(model_config, checkpoint, device=offload_device)
    patcher: Any = patcher_class(load_device, dynamic)(model, load_device=load_device, offload_device=offload_device)
    load_weights(patcher, tensors, dtype)
    model.requires_grad_(False)
    for note in checkpoint.notes:
        logging.warning("AsymTalker: %s: %s", name, note)
    logging.info("AsymTalker: %s, weights %s, latents %s", name, dtype, type(model.latent_format).__name__)
    return patcher


def _dtypes(
    tensors: Mapping[str, Tensor], asked: torch.dtype | None, device: torch.device
) -> tuple[torch.dtype, torch.dtype | None]:
    """The types of the weights, as ``asked`` or by core's choice, and of the arithmetic where that is another.

    Where a CPU is faster in bfloat16, it computes weights stored in 16 bits so.
    """
    supported = list(TalkingHeadConfig.supported_inference_dtypes)
    stored = comfy_utils.weight_dtype(tensors)
    is_fast = prefers_bf16(device, FLOAT32_OPTIONS)
    if asked is None and is_fast and stored in (torch.bfloat16, torch.float16):
        asked = torch.bfloat16
    dtype = asked or model_management.unet_dtype(
        model_params=comfy_utils.calculate_parameters(tensors), supported_dtypes=supported, weight_dtype=stored
    )
    if dtype == torch.bfloat16 and is_fast:
        return dtype, None
    return dtype, model_management.unet_manual_cast(dtype, device, supported)


def load_weights(patcher: Any, tensors: Mapping[str, Tensor], dtype: torch.dtype) -> None:
    """Give a new MODEL the ``tensors`` of its file, as ``dtype``."""
    model, newer = patcher.model, hasattr(patcher, "is_dynamic")
    in_memory = model_management.is_device_cpu(patcher.load_device)
    if in_memory and all(tensor.dtype == dtype for tensor in tensors.values()):
        # The weights stay in the mapped file instead of being copied into memory.
        model.diffusion_model.load_state_dict(tensors, assign=True)
    elif newer:
        # With dynamic VRAM, the given tensors are assigned to the layers, so they would keep the file's type.
        converted = {key: tensor.to(dtype) for key, tensor in tensors.items()}
        model.load_model_weights(converted, assign=patcher.is_dynamic())
    else:
        model.load_model_weights(dict(tensors))


def _identified(
    state_dict: Mapping[str, Tensor],
    metadata: Mapping[str, str] | None,
    name: str,
    fingerprint: Callable[[Mapping[str, Tensor]], str],
) -> tuple[dict[str, Tensor], Checkpoint]:
    """The network's own tensors and what they are, before anything is allocated for them."""
    try:
        found = network_tensors(state_dict, metadata)
        config = DiTConfig.from_state_dict(found.tensors, metadata)
        network = fitted(found.tensors, config)
        sampling = SamplingConfig.from_metadata(metadata, distilled=not UNDISTILLED_NAME.search(name))
    except (CheckpointError, ConfigError) as error:
        raise type(error)(f"{name}: {error}") from error
    weights_id = fingerprint(network.tensors)
    named = (metadata or {}).get("reference")
    reference = ReferenceKind(named) if named in ReferenceKind.texts() else None
    checkpoint = Checkpoint(name, config, sampling, reference, weights_id, (*found.notes, *network.notes))
    return network.tensors, checkpoint


def talking_head(model: Any) -> TalkingHeadModel:
    """The pack's network inside a MODEL socket's value.

    Raises:
        ValueError: the MODEL is another architecture's.
    """
    inner = getattr(model, "model", None)
    if not isinstance(inner, TalkingHeadModel):
        given = model if inner is None else inner
        what = "empty (None)" if given is None else f"a {type(given).__name__}"
        raise ValueError(
            f"model: this MODEL is {what}, not a talking-head network; "
            "connect the MODEL output of Load AsymTalker (LoRA and compile nodes may be in between)"
        )
    return inner


def loaded_fingerprint(owner: Any) -> str:
    """``weights_fingerprint`` of a VAE or AUDIO_ENCODER, computed once when it is loaded."""
    found = getattr(owner, FINGERPRINT, None)
    if found is None:
        found = weights_fingerprint(owner.get_sd())
        setattr(owner, FINGERPRINT, found)
    return found


def weights_fingerprint(state_dict: Mapping[str, Tensor]) -> str:
    """Hash of every name, shape, dtype and byte; several tensors at a time, for hashing leaves Python's lock."""
    names = sorted(state_dict)
    with ThreadPoolExecutor() as threads:
        contents = list(threads.map(lambda name: _content_digest(state_dict[name]), names))
    digest = hashlib.sha256()
    for name, content in zip(names, contents, strict=True):
        tensor = state_dict[name]
        digest.update(f"{name}:{tuple(tensor.shape)}:{tensor.dtype}:".encode())
        digest.update(content)
    return digest.hexdigest()


def _content_digest(tensor: Tensor) -> bytes:
    return hashlib.sha256(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data).digest()
