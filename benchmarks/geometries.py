"""What is measured: nano as shipped, and the published geometries with random weights (speed is the same)."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from ..models.checkpoint import read_checkpoint
from ..models.config import AudioConfig, DiTConfig, SamplingConfig
from ..models.dit import TalkingHeadDiT
from ..models.nano_vae import NanoVAE, NanoVAEConfig
from ..models.rollout import VideoCodec
from . import comfyui

NANO_FILES = Path(__file__).resolve().parent.parent / "models" / "nano"
NANO_DIT = NANO_FILES / "asymtalker_nano.safetensors"
NANO_VAE = NANO_FILES / "asymtalker_nano_vae.safetensors"

NANO = DiTConfig(
    dim=192,
    ffn_dim=768,
    num_heads=6,
    num_layers=8,
    in_dim=96,
    out_dim=48,
    text_dim=8,
    vae_stride=(4, 16, 16),
    audio=AudioConfig(blocks=1, channels=320, intermediate_dim=256, context_tokens=4),
)
PRO = DiTConfig(dim=1536, ffn_dim=8960, num_heads=12, num_layers=30, in_dim=32, out_dim=16)
LITE = dataclasses.replace(PRO, in_dim=256, out_dim=128, vae_stride=(8, 32, 32), patch_size=(1, 1, 1))

GEOMETRIES = ("nano", "pro", "lite")
SIZES = {"nano": 256, "pro": 512, "lite": 512}
CPU_FRAMES = 9
"""Frames of a Pro or Lite chunk on a CPU, where a whole one takes minutes."""


@dataclass(frozen=True)
class Geometry:
    """One geometry ready to run: ``codec`` None where no VAE can be had, ``notes`` on what the figures are not."""

    name: str
    network: TalkingHeadDiT
    sampling: SamplingConfig
    size: int
    codec: VideoCodec | None
    speech_encoder: nn.Module | None
    device: torch.device
    dtype: torch.dtype
    notes: tuple[str, ...]


def load_geometry(name: str, device: torch.device) -> Geometry:
    """Build a geometry on ``device``: bfloat16 networks on CUDA as in ComfyUI, float32 on the CPU."""
    return _nano(device) if name == "nano" else _published(name, device)


def random_weights(module: nn.Module) -> None:
    """Small random values, so that nothing overflows."""
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.02)


def _nano(device: torch.device) -> Geometry:
    dtype = _dtype(device)
    notes: tuple[str, ...] = ()
    if NANO_DIT.is_file() and NANO_VAE.is_file():
        weights, metadata = read_checkpoint(NANO_DIT)
        network = TalkingHeadDiT(DiTConfig.from_state_dict(weights, metadata))
        network.load_state_dict(weights)
        sampling = SamplingConfig.from_metadata(metadata)
        vae = NanoVAE.from_checkpoint(*read_checkpoint(NANO_VAE))
    else:
        network, sampling, vae = TalkingHeadDiT(NANO), SamplingConfig(), NanoVAE(NanoVAEConfig())
        random_weights(network)
        notes = (
            f"random weights and 4 steps: the bundled files are not in {NANO_FILES.parent.name}/{NANO_FILES.name}",
        )
    network = network.to(device, dtype).eval().requires_grad_(False)
    vae = vae.to(device).eval().requires_grad_(False)
    return Geometry("nano", network, sampling, SIZES["nano"], vae, None, device, dtype, notes)


def _published(name: str, device: torch.device) -> Geometry:
    dtype = _dtype(device)
    network = TalkingHeadDiT(PRO if name == "pro" else LITE, dtype=dtype, device=device)
    random_weights(network)
    sampling = SamplingConfig() if device.type == "cuda" else SamplingConfig(frames_per_chunk=CPU_FRAMES)
    notes = ["random weights"]
    if device.type == "cpu":
        notes.append(f"chunks of {CPU_FRAMES} frames instead of 33")
    codec, speech_encoder = None, None
    if comfyui.importable(device):
        codec = comfyui.WanCodec(device, dtype) if name == "pro" else comfyui.LtxCodec(device, dtype)
        speech_encoder = comfyui.speech_encoder(device)
    else:
        notes.append("no VAE and audio encoder stages: they are ComfyUI's, and COMFYUI_PATH names none")
    network = network.eval().requires_grad_(False)
    return Geometry(name, network, sampling, SIZES[name], codec, speech_encoder, device, dtype, tuple(notes))


def _dtype(device: torch.device) -> torch.dtype:
    return torch.bfloat16 if device.type == "cuda" else torch.float32
