"""Keeps MODEL and VAE on their device during a generation: loaded once if both fit, otherwise swapped."""

from __future__ import annotations

from typing import Any

from comfy import model_management
from comfy.model_patcher import ModelPatcher
from comfy.sd import VAE

from ..models.chunks import MAX_CONTINUITY_LATENTS, continuity_frames
from .guards import Sized, latent_shape
from .model import talking_head

WEIGHTS_MARGIN = 1.1
"""Core frees this many times the memory that the weights need."""


class Residence:
    """Loads what a stage needs. Loaded models are not requested again: core may empty PyTorch's cache on each request.

    Args:
        model: the MODEL.
        vae: the VAE.
        chunk: what is generated.
    """

    def __init__(self, model: ModelPatcher, vae: VAE, chunk: Sized) -> None:
        width, height = chunk.size
        latents = latent_shape(model, chunk)
        stride_t = talking_head(model).checkpoint.config.vae_stride[0]
        pixels = (1, 3, continuity_frames(MAX_CONTINUITY_LATENTS, stride_t), height, width)
        self.device = model.load_device
        self._model, self._vae = model, vae
        self._network_memory = int(model.memory_required(latents))
        self._vae_memory = int(
            max(vae.memory_used_decode(latents, vae.vae_dtype), vae.memory_used_encode(pixels, vae.vae_dtype))
        )
        self._last: ModelPatcher | None = None
        self._last_size = 0

    def bring_network(self) -> None:
        """Load the MODEL, with room for a chunk's activations."""
        self._bring(self._model, self._network_memory)

    def bring_vae(self) -> None:
        """Load the VAE, with room to decode a chunk and to encode the end of it."""
        self._bring(self._vae.patcher, self._vae_memory)

    def holds_both(self) -> bool:
        """Whether MODEL and VAE are on the GPU whole, with room to run at the same time."""
        both = [*self._network(), self._vae.patcher]
        if self.device.type != "cuda" or self._vae.device != self.device or any(map(is_dynamic, both)):
            return False
        return all(map(is_loaded, both)) and self._has_room(both, self._network_memory + self._vae_memory)

    def _bring(self, wanted: ModelPatcher, memory: int) -> None:
        both = [*self._network(), self._vae.patcher]
        if all(map(is_loaded, both)) and self._has_room(both):
            return
        if self._last is wanted and is_loaded(wanted, self._last_size):
            return
        together = self._vae.device == self.device and self._has_room(both)
        models = both if together else self._network() if wanted is self._model else [wanted]
        memory = max(self._network_memory, self._vae_memory) if together else memory
        full = wanted is self._vae.patcher and self._vae.disable_offload
        model_management.load_models_gpu(models, memory_required=memory, force_full_load=full)
        # If the device is too small, core has loaded what fits; a second request would load no more.
        self._last, self._last_size = wanted, wanted.loaded_size()

    def _network(self) -> list[ModelPatcher]:
        others = self._model.get_nested_additional_models()
        return [self._model, *(other for other in others if not getattr(other, "is_multigpu_base_clone", False))]

    def _has_room(self, models: list[ModelPatcher], activations: int | None = None) -> bool:
        """Whether all of ``models`` fit on the device together with ``activations``, by default those of either."""
        if model_management.is_device_cpu(self.device) or all(map(is_dynamic, models)):
            return True
        missing = sum(model.model_size() - model.loaded_size() for model in models)
        activations = activations or max(self._network_memory, self._vae_memory)
        activations += model_management.extra_reserved_memory()
        needed = WEIGHTS_MARGIN * missing + max(activations, model_management.minimum_inference_memory())
        # Core returns a pair only if PyTorch's share is requested too.
        free = model_management.get_free_memory(self.device)
        return needed <= float(free)  # pyright: ignore[reportArgumentType]


def is_loaded(model: ModelPatcher, size: int | None = None) -> bool:
    """Whether core holds ``size`` bytes of ``model`` on its device, all of it if not given.

    With dynamic VRAM, layers come as they are used.
    """
    if not any(loaded is model for loaded in model_management.loaded_models()):
        return False
    return is_dynamic(model) or model.loaded_size() >= (model.model_size() if size is None else size)


def is_dynamic(model: Any) -> bool:
    """Whether core loads the weights of ``model`` layer by layer and frees memory as needed (ComfyUI 0.33)."""
    return hasattr(model, "is_dynamic") and model.is_dynamic()
