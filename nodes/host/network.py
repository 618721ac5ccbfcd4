"""The rollout's network over a MODEL: what a chunk's steps share is prepared once, every step goes through core."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from comfy import model_management, patcher_extension
from comfy.model_patcher import ModelPatcher
from torch import Tensor

from ...models.layers import AudioKeyValue
from .model import talking_head

Denoise = Callable[[Tensor, Tensor], Tensor]


class ChunkNetwork:
    """``network(windows, reference_latents, guidance) -> denoise(x, u) -> x0`` for one generation.

    Args:
        model: the MODEL, with whatever LoRA, wrappers and options core's nodes have put on it.
    """

    def __init__(self, model: ModelPatcher) -> None:
        talking_head(model)
        self._model = model
        self._silence: list[AudioKeyValue] | None = None

    @torch.no_grad()
    def __call__(self, windows: Tensor, reference_latents: Tensor, guidance: float) -> Denoise:
        """Prepare a chunk.

        Args:
            windows: audio feature windows [1, F, 5, blocks, channels].
            reference_latents: [1, C, T, h, w] in the MODEL's latent space.
            guidance: weight of the audio against silence; 1 is off and costs nothing.
        """
        self._load(reference_latents.shape)
        options = self._options()
        device = self._model.load_device
        reference = reference_latents.to(device)
        speech = self._keys_values(windows)
        if guidance != 1 and self._silence is None:
            self._silence = self._keys_values(torch.zeros_like(windows))
        silence = self._silence if guidance != 1 else None

        @torch.no_grad()
        def denoise(x: Tensor, u: Tensor) -> Tensor:
            inputs, sigma = x.to(device), u.to(device, torch.float32).reshape(1).expand(x.shape[0])
            x0 = self._apply(inputs, sigma, reference, speech, options, role=0)
            if silence is not None:
                unvoiced = self._apply(inputs, sigma, reference, silence, options, role=1)
                x0 = torch.lerp(unvoiced, x0, guidance)
            return x0.to(x.device)

        return denoise

    def _load(self, latent_shape: torch.Size) -> None:
        """Bring the weights to the device (a no-op when they are there), leaving room for one chunk's activations."""
        memory = self._model.memory_required(latent_shape)
        models = [self._model, *self._model.get_nested_additional_models()]
        model_management.load_models_gpu(models, memory_required=memory)
        self._model.pre_run()

    def _options(self) -> dict[str, Any]:
        """The MODEL's own options with its wrappers and callbacks where core's ``apply_model`` looks for them."""
        options = patcher_extension.copy_nested_dicts(self._model.model_options)
        transformer_options = options.setdefault("transformer_options", {})
        for kind in ("wrappers", "callbacks"):
            held = transformer_options.get(kind, {})
            transformer_options[kind] = patcher_extension.merge_nested_dicts(held, getattr(self._model, kind))
        return options

    def _keys_values(self, windows: Tensor) -> list[AudioKeyValue]:
        model = talking_head(self._model)
        dtype = model.manual_cast_dtype or model.get_dtype()
        network = model.diffusion_model
        return network.audio_keys_values(network.encode_audio(windows.to(self._model.load_device, dtype)))

    def _apply(
        self,
        x: Tensor,
        sigma: Tensor,
        reference: Tensor,
        audio_kv: list[AudioKeyValue],
        options: dict[str, Any],
        *,
        role: int,
    ) -> Tensor:
        """One network evaluation; ``role`` is core's cond_or_uncond: 0 with speech, 1 with silence."""
        step_options = {**options["transformer_options"], "sigmas": sigma, "cond_or_uncond": [role]}
        conditions = {"reference": reference, "audio_kv": audio_kv, "transformer_options": step_options}
        apply_model = talking_head(self._model).apply_model
        wrapper = options.get("model_function_wrapper")
        if wrapper is None:
            return apply_model(x, sigma, **conditions)
        return wrapper(apply_model, {"input": x, "timestep": sigma, "c": conditions, "cond_or_uncond": [role]})
