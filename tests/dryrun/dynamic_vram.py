"""Core's dynamic VRAM (ComfyUI 0.33, the default on NVIDIA) without its driver library: all weights stay resident."""

from __future__ import annotations

import importlib
import importlib.util
from typing import Any

import torch


class ResidentWeights:
    """In place of ``comfy_aimdo.model_vbar.ModelVBAR``: address space on the device of which no page is ever lost."""

    def __init__(self, size: int, device: int) -> None:
        self._allocated = 0

    def alloc(self, num_bytes: int) -> tuple[ResidentWeights, int, int]:
        self._allocated += num_bytes
        return self, self._allocated - num_bytes, num_bytes

    def loaded_size(self) -> int:
        return self._allocated

    def prioritize(self) -> None: ...

    def free_memory(self, num_bytes: int) -> int:
        return 0


class NoBuffer:
    """In place of ``comfy_aimdo.host_buffer.HostBuffer`` and of ``vram_buffer.VRAMBuffer``."""

    size = 0

    def __init__(self, *args: Any) -> None: ...

    def get(self, size: int, offset: int = 0) -> tuple[NoBuffer, int, int]:
        return self, offset, size


def enable() -> None:
    """Do as ComfyUI's ``main.py`` does on an NVIDIA card; nothing in versions without dynamic VRAM."""
    if importlib.util.find_spec("comfy.memory_management") is None:
        return
    memory: Any = importlib.import_module("comfy.memory_management")
    patcher: Any = importlib.import_module("comfy.model_patcher")
    vbar: Any = importlib.import_module("comfy_aimdo.model_vbar")
    vbar.ModelVBAR = ResidentWeights
    vbar.vbar_fault = lambda allocation: b"resident"
    vbar.vbar_unpin = lambda allocation: None
    vbar.vbars_analyze = lambda device=None: 0
    host_buffer: Any = importlib.import_module("comfy_aimdo.host_buffer")
    vram_buffer: Any = importlib.import_module("comfy_aimdo.vram_buffer")
    as_tensors: Any = importlib.import_module("comfy_aimdo.torch")
    host_buffer.HostBuffer = vram_buffer.VRAMBuffer = NoBuffer
    as_tensors.aimdo_to_tensor = _bytes_on_the_device
    memory.aimdo_enabled = True
    patcher.CoreModelPatcher = patcher.ModelPatcherDynamic


def _bytes_on_the_device(allocation: tuple[Any, int, int], device: Any) -> torch.Tensor:
    return torch.empty(allocation[2], dtype=torch.uint8, device=device)
