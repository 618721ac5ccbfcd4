"""Measure what the loader's data types cost in quality, on a CPU: the network rounded in each way against float32.

nano makes the same video with its bundled weights in each type; the table gives the PSNR of the frames. A network of
Pro's width with two blocks and random weights gives the error of one evaluation, relative to its flow. The products of
fp8_e4m3fn_fast are computed as core's operation does: weights and inputs of every linear layer are rounded to fp8
without a scale, and products are summed in a wider type.
"""

from __future__ import annotations

import argparse
import copy
import dataclasses
import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from ..models.audio import AudioFeatures, log_mel_features
from ..models.blinks import with_blinks
from ..models.checkpoint import read_checkpoint
from ..models.chunks import ContinuityOptions
from ..models.config import DiTConfig, SamplingConfig
from ..models.dit import TalkingHeadDiT
from ..models.family import NANO_NETWORK, NANO_VAE, PRO
from ..models.flow import Denoise
from ..models.nano_vae import NanoVAE
from ..models.reference import Reference, temporal_reference
from ..models.rollout import rollout
from ..training.evaluation.measure import psnr
from .command import command_parser
from .geometries import random_weights
from .report import aligned
from .speech import PORTRAIT, repeated_speech

SIZE, BLOCKS, SEED = 256, 2, 7
LATENTS = (1, 16, 3, 16, 16)
FP8_LIMIT = torch.finfo(torch.float8_e4m3fn).max

Change = Callable[[TalkingHeadDiT], TalkingHeadDiT]


def main(arguments: list[str] | None = None) -> int:
    """Run the command and return its exit status."""
    options = _parse_arguments(arguments)
    nano, pro = _Nano(options.frames), _Pro()
    found: dict[str, dict[str, float]] = {}
    exact, flow = nano.frames(lambda network: network), pro.flow(lambda network: network)
    for name, change in CHANGES.items():
        error = (pro.flow(change) - flow).square().mean().sqrt() / flow.square().mean().sqrt()
        found[name] = {
            "nano_psnr_db": round(psnr(nano.frames(change), exact), 2),
            "pro_flow_error": round(error.item(), 5),
        }
        if options.json is not None:
            options.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    rows = [(name, f"{one['nano_psnr_db']:.1f}", f"{100 * one['pro_flow_error']:.2f} %") for name, one in found.items()]
    print(aligned([("", "nano, PSNR in dB", "Pro's width, error of the flow"), *rows]))
    return 0


def _parse_arguments(arguments: list[str] | None) -> argparse.Namespace:
    parser = command_parser(" precision", __doc__)
    parser.add_argument("--frames", type=int, default=61, help="frames of nano's video (default: %(default)s)")
    parser.add_argument("--json", type=Path, help="JSON file for the figures")
    return parser.parse_args(arguments)


def stored_as(dtype: torch.dtype) -> Change:
    """Weights stored in ``dtype``; everything is computed in float32."""

    def change(network: TalkingHeadDiT) -> TalkingHeadDiT:
        for parameter in network.parameters():
            parameter.data = parameter.data.to(dtype).float()
        return network

    return change


def fp8_products(network: TalkingHeadDiT) -> TalkingHeadDiT:
    """Weights stored in fp8, and the inputs of linear layers rounded to it as well."""

    def rounded(module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        x = inputs[0]
        # Core's operation takes inputs of two and three dimensions.
        return (x.clamp(-FP8_LIMIT, FP8_LIMIT).to(torch.float8_e4m3fn).to(x.dtype),) if x.ndim in (2, 3) else inputs

    network = stored_as(torch.float8_e4m3fn)(network)
    for module in network.modules():
        if isinstance(module, nn.Linear):
            module.register_forward_pre_hook(rounded)
    return network


CHANGES: dict[str, Change] = {
    "bf16, as ComfyUI computes on GPUs": lambda network: network.to(torch.bfloat16),
    "fp8_e4m3fn": stored_as(torch.float8_e4m3fn),
    "fp8_e5m2": stored_as(torch.float8_e5m2),
    "fp8_e4m3fn_fast": fp8_products,
}


class _Nano:
    """nano's video of the example portrait and speech."""

    def __init__(self, num_frames: int) -> None:
        weights, metadata = read_checkpoint(NANO_NETWORK)
        self._network = TalkingHeadDiT(DiTConfig.from_state_dict(weights, metadata)).eval().requires_grad_(False)
        self._network.load_state_dict(weights)
        self._sampling = SamplingConfig.from_metadata(metadata)
        self._vae = NanoVAE.from_checkpoint(*read_checkpoint(NANO_VAE))
        speech = repeated_speech(num_frames / 25)
        heard = AudioFeatures(log_mel_features(speech, num_frames), "log-mel")
        self._audio = with_blinks(heard, self._network.config.audio, SEED, self._sampling.blinks)

    @torch.inference_mode()
    def frames(self, change: Change) -> Tensor:
        """uint8 [n, H, W, 3]."""
        network = change(copy.deepcopy(self._network))
        dtype = next(network.parameters()).dtype
        frames = self._sampling.frames_per_chunk
        portrait = _portrait()
        reference = Reference(temporal_reference(self._vae.encode, portrait, frames), portrait, frames)

        def prepare(windows: Tensor, latents: Tensor, guidance: float) -> Denoise:
            audio_kv = network.audio_keys_values(network.encode_audio(windows.to(dtype)))
            reference = latents.to(dtype)

            def denoise(x: Tensor, u: Tensor) -> Tensor:
                return x - u * network.velocity(x.to(dtype), 1000 * u.reshape(1), audio_kv, reference).float()

            return denoise

        chunks = rollout(prepare, self._vae, reference, self._audio, self._sampling, ContinuityOptions(), SEED)
        return torch.cat([chunk.frames for chunk, _ in chunks])


class _Pro:
    """One evaluation of a network of Pro's width."""

    def __init__(self) -> None:
        torch.manual_seed(SEED)
        self._network = TalkingHeadDiT(dataclasses.replace(PRO.config, num_layers=BLOCKS)).eval().requires_grad_(False)
        random_weights(self._network)
        self._x, self._reference = torch.randn(LATENTS), torch.randn(LATENTS)
        self._windows = torch.randn(1, 9, 5, PRO.config.audio.blocks, PRO.config.audio.channels)

    @torch.inference_mode()
    def flow(self, change: Change) -> Tensor:
        network = change(copy.deepcopy(self._network))
        dtype = next(network.parameters()).dtype
        x, reference, windows = (tensor.to(dtype) for tensor in (self._x, self._reference, self._windows))
        return network(x, torch.tensor([833.0]), network.encode_audio(windows), reference).float()


def _portrait() -> Tensor:
    """[1, 3, 1, SIZE, SIZE] in [-1, 1]."""
    with Image.open(PORTRAIT) as image:
        pixels = np.asarray(image.convert("RGB").resize((SIZE, SIZE), Image.Resampling.LANCZOS), dtype=np.float32)
    return torch.from_numpy(pixels / 127.5 - 1).permute(2, 0, 1)[None, :, None]


if __name__ == "__main__":
    sys.exit(main())
