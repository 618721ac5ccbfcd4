"""The published geometries' VAEs and audio encoder, random, out of the ComfyUI that COMFYUI_PATH names."""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

WAN_VAE: dict[str, Any] = {
    "z_dim": 16,
    "dim_mult": [1, 2, 4, 4],
    "num_res_blocks": 2,
    "attn_scales": [],
    "temperal_downsample": [False, True, True],
}
"""Arguments of Wan 2.1's VAE; its width ``dim`` is 96."""

WAV2VEC2_BASE: dict[str, Any] = {
    "embed_dim": 768,
    "num_heads": 12,
    "num_layers": 12,
    "conv_norm": False,
    "conv_bias": False,
    "do_stable_layer_norm": False,
}
"""Arguments of wav2vec2-base."""


def set_memory_format(vae: nn.Module, memory_format: torch.memory_format) -> None:
    """Store the weights of the VAE's 3D convolutions in that order."""
    convolutions: list[Any] = [module for module in vae.modules() if isinstance(module, nn.Conv3d)]
    for convolution in convolutions:
        convolution.to(memory_format=memory_format)


def importable(device: torch.device) -> bool:
    """Put ComfyUI on the path, set for ``device``; False where COMFYUI_PATH is not set.

    Raises:
        FileNotFoundError: COMFYUI_PATH names a folder without ComfyUI.
    """
    named = os.environ.get("COMFYUI_PATH")
    if not named:
        return False
    if not (Path(named) / "comfy").is_dir():
        raise FileNotFoundError(f"COMFYUI_PATH={named} holds no ComfyUI (no folder comfy)")
    if named not in sys.path:
        sys.path.insert(0, named)
    importlib.import_module("comfy.options").enable_args_parsing(False)
    importlib.import_module("comfy.cli_args").args.cpu = device.type == "cpu"
    return True


class CoreCodec:
    """One of core's video VAEs as the rollout takes it; a random one needs no latent statistics."""

    def __init__(self, vae: nn.Module, device: torch.device, dtype: torch.dtype) -> None:
        for parameter in vae.parameters():
            nn.init.normal_(parameter, std=0.02)
        for name, statistic in vae.named_buffers():
            nn.init.constant_(statistic, 1.0 if "std" in name else 0.0)
        self.vae: Any = vae.to(device, dtype).eval().requires_grad_(False)
        self.dtype = dtype

    def encode(self, pixels: Tensor) -> Tensor:
        """[1, 3, F, H, W] -> [1, C, T, h, w]."""
        return self.vae.encode(pixels.to(self.dtype)).float()

    def decode(self, latents: Tensor) -> Tensor:
        """[1, C, T, h, w] -> [1, 3, F, H, W]."""
        return self.vae.decode(latents.to(self.dtype)).float()


class WanCodec(CoreCodec):
    """Wan 2.1's VAE (Pro)."""

    def __init__(self, device: torch.device, dtype: torch.dtype) -> None:
        module = importlib.import_module("comfy.ldm.wan.vae")
        vae = module.WanVAE(dim=96, **WAN_VAE, dropout=0.0)
        super().__init__(vae, device, dtype)


class LtxCodec(CoreCodec):
    """LTX-Video's first VAE (Lite)."""

    def __init__(self, device: torch.device, dtype: torch.dtype) -> None:
        module = importlib.import_module("comfy.ldm.lightricks.vae.causal_video_autoencoder")
        # As published; by itself core pads the decoder's input by reflection.
        config = {**module.VideoVAE.guess_config(None, 0), "spatial_padding_mode": "zeros"}
        super().__init__(module.VideoVAE(config=config), device, dtype)


def speech_encoder(device: torch.device) -> nn.Module:
    """A random wav2vec2-base, float32 as the loader keeps it."""
    module = importlib.import_module("comfy.audio_encoders.wav2vec2")
    encoder = module.Wav2Vec2Model(**WAV2VEC2_BASE, operations=nn)
    return encoder.to(device).eval().requires_grad_(False)
