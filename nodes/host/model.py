"""``TalkingHeadDiT`` as core's own MODEL, so that LoRA loaders, weight dtypes, offloading and model wrappers apply."""

from __future__ import annotations

import hashlib
import logging
import math
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, ClassVar

import comfy.ldm.modules.attention as core_attention
import torch
from comfy import latent_formats, model_base, model_management, model_patcher, patcher_extension, supported_models_base
from comfy import utils as comfy_utils
from comfy.cli_args import args
from torch import Tensor

from ...models.checkpoint import CheckpointError
from ...models.config import DiTConfig, SamplingConfig
from ...models.dit import TalkingHeadDiT
from ...models.layers import AudioKeyValue

WEIGHT_DTYPES: dict[str, torch.dtype | None] = {
    "default": None,
    "bf16": torch.bfloat16,
    "fp16": torch.float16,
    "fp8_e4m3fn": torch.float8_e4m3fn,
    "fp8_e5m2": torch.float8_e5m2,
}
"""Loader choice -> dtype in which the weights are stored; None lets core choose for the device."""

CHECKPOINT_PREFIXES = ("model.diffusion_model.", "diffusion_model.")


@dataclass(frozen=True)
class Checkpoint:
    """What a loaded MODEL remembers of its file.

    ``reference`` is the kind that it was trained with ("tre", "static"), empty where the file does not say.
    ``weights_id`` changes with every change of the weights' content.
    """

    name: str
    config: DiTConfig
    sampling: SamplingConfig
    reference: str
    weights_id: str


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
        super().__init__(config, attention=attention, dtype=dtype, device=device, operations=operations)
        self.dtype = dtype
        self.core_attention = attention

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
        **kwargs: Any,
    ) -> Tensor:
        """Flow of ``x`` [B, C, T, h, w] at ``timesteps`` [B] (0..1000); ``context`` and ``control`` are not used."""
        options = transformer_options or {}
        wrappers = patcher_extension.get_all_wrappers(patcher_extension.WrappersMP.DIFFUSION_MODEL, options)
        executor = patcher_extension.WrapperExecutor.new_class_executor(self._flow, self, wrappers)
        # Caching wrappers write into their input, which the sampler still needs.
        return executor.execute(x.clone() if wrappers else x, timesteps, audio_kv, reference, options)

    def _flow(
        self, x: Tensor, timesteps: Tensor, audio_kv: list[AudioKeyValue], reference: Tensor, options: dict[str, Any]
    ) -> Tensor:
        if "optimized_attention_override" not in options:
            return self.velocity(x, timesteps, audio_kv, reference)
        self.core_attention.options = options
        try:
            return self.velocity(x, timesteps, audio_kv, reference)
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


class TalkingHeadModel(model_base.BaseModel):
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
    state_dict: dict[str, Tensor], metadata: Mapping[str, str] | None, *, name: str, weight_dtype: str = "default"
) -> model_patcher.ModelPatcher:
    """Build a MODEL from a checkpoint's tensors, the way core's own loader does.

    Raises:
        CheckpointError: tensors are missing or have other shapes than the configuration says.
        ConfigError: the tensors are of another architecture.
    """
    state_dict = _without_prefix(state_dict)
    config = DiTConfig.from_state_dict(state_dict, metadata)
    checkpoint = Checkpoint(
        name,
        config,
        SamplingConfig.from_metadata(metadata),
        (metadata or {}).get("reference", ""),
        weights_fingerprint(state_dict),
    )
    load_device = model_management.get_torch_device()
    offload_device = model_management.unet_offload_device()
    model_config = TalkingHeadConfig(config)
    supported = model_config.supported_inference_dtypes
    dtype = WEIGHT_DTYPES[weight_dtype] or model_management.unet_dtype(
        model_params=comfy_utils.calculate_parameters(state_dict),
        supported_dtypes=list(supported),
        weight_dtype=comfy_utils.weight_dtype(state_dict),
    )
    model_config.set_inference_dtype(dtype, model_management.unet_manual_cast(dtype, load_device, list(supported)))
    model = TalkingHeadModel(model_config, checkpoint, device=offload_device)
    _check_tensors(name, model.diffusion_model.state_dict(), state_dict)
    model.load_model_weights(dict(state_dict))
    model.requires_grad_(False)
    logging.info("AsymTalker: %s, weights %s, latents %s", name, dtype, type(model.latent_format).__name__)
    return model_patcher.ModelPatcher(model, load_device=load_device, offload_device=offload_device)


def talking_head(model: Any) -> TalkingHeadModel:
    """The pack's network inside a MODEL socket's value.

    Raises:
        ValueError: the MODEL is another architecture's.
    """
    inner = getattr(model, "model", None)
    if not isinstance(inner, TalkingHeadModel):
        raise ValueError(
            f"model: this MODEL is a {type(inner).__name__}, which cannot make a talking head; "
            "connect the MODEL output of Load AsymTalker (LoRA and compile nodes may be in between)"
        )
    return inner


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


def _without_prefix(state_dict: dict[str, Tensor]) -> dict[str, Tensor]:
    for prefix in CHECKPOINT_PREFIXES:
        if all(key.startswith(prefix) for key in state_dict):
            return {key[len(prefix) :]: tensor for key, tensor in state_dict.items()}
    return state_dict


def _check_tensors(name: str, expected: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> None:
    missing = [key for key in expected if key not in found]
    misshapen = [key for key in expected if key in found and expected[key].shape != found[key].shape]
    if missing or misshapen:
        raise CheckpointError(
            f"{name}: {len(missing)} tensors are missing {missing[:3]} and {len(misshapen)} have another shape "
            f"{misshapen[:3]}: the file is incomplete or of another architecture"
        )
