"""What is measured: nano as shipped, and the published geometries with random weights (speed is the same)."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import torch
from torch import nn

from ..models.checkpoint import read_checkpoint
from ..models.codec import VideoCodec
from ..models.config import DiTConfig, SamplingConfig
from ..models.dit import TalkingHeadDiT
from ..models.family import MODELS, NANO_NETWORK, NANO_VAE, PRO
from ..models.nano_vae import NanoVAE
from . import comfyui

CPU_FRAMES = 17
"""Frames of a Pro or Lite chunk on a CPU, where a whole one takes minutes; Lite repeats 9 of them."""
SMALLEST_SIZE = 64


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


def load_geometry(name: str, device: torch.device, smallest: bool = False) -> Geometry:
    """Build a geometry on ``device``: bfloat16 networks on CUDA as in ComfyUI, float32 on the CPU.

    The ``smallest`` has one block and frames of 64x64, to try a command.
    """
    geometry = _nano(device) if name == "nano" else _published(name, device, 1 if smallest else None)
    if not smallest:
        return geometry
    return dataclasses.replace(geometry, size=SMALLEST_SIZE, notes=(*geometry.notes, "small, to try the command"))


def random_weights(module: nn.Module) -> None:
    """Small random values, so that nothing overflows."""
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.02)


def _nano(device: torch.device) -> Geometry:
    dtype = _dtype(device)
    weights, metadata = read_checkpoint(NANO_NETWORK)
    network = TalkingHeadDiT(DiTConfig.from_state_dict(weights, metadata))
    network.load_state_dict(weights)
    sampling = SamplingConfig.from_metadata(metadata)
    vae = NanoVAE.from_checkpoint(*read_checkpoint(NANO_VAE))
    network = network.to(device, dtype).eval().requires_grad_(False)
    vae = vae.to(device).eval().requires_grad_(False)
    return Geometry("nano", network, sampling, MODELS["nano"].size, vae, None, device, dtype, ())


def _published(name: str, device: torch.device, layers: int | None) -> Geometry:
    dtype, config = _dtype(device), MODELS[name].config
    config = dataclasses.replace(config, num_layers=layers or config.num_layers)
    network = TalkingHeadDiT(config, dtype=dtype, device=device)
    random_weights(network)
    sampling = SamplingConfig() if device.type == "cuda" else SamplingConfig(frames_per_chunk=CPU_FRAMES)
    notes = ["random weights"]
    if device.type == "cpu":
        notes.append(f"chunks of {CPU_FRAMES} frames instead of 33")
    codec, speech_encoder = None, None
    if comfyui.importable(device):
        codec = comfyui.WanCodec(device, dtype) if MODELS[name].vae is PRO.vae else comfyui.LtxCodec(device, dtype)
        speech_encoder = comfyui.speech_encoder(device)
    else:
        notes.append("no VAE and audio encoder stages: they are ComfyUI's, and COMFYUI_PATH names none")
    network = network.eval().requires_grad_(False)
    return Geometry(name, network, sampling, MODELS[name].size, codec, speech_encoder, device, dtype, tuple(notes))


def _dtype(device: torch.device) -> torch.dtype:
    return torch.bfloat16 if device.type == "cuda" else torch.float32
