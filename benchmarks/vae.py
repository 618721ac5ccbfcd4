"""Measure the published VAEs on a CPU in other data types and memory formats, and Pro's tiny VAE.

Variants take turns, and the medians of their CPU seconds are reported. Weights are random, scaled so that values keep
their size from layer to layer. Errors are those against float32. The VAEs are those of the ComfyUI in COMFYUI_PATH.
"""

from __future__ import annotations

import copy
import importlib
import math
import statistics
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from ..models.chunks import continuity_frames
from ..models.family import LITE, MODELS
from . import comfyui
from .command import command_parser
from .report import aligned

FRAMES = 33
CONTINUITY_LATENTS = 2
PICTURE_DEVIATION = 127.5 / 2
"""Levels of 255; what is decoded from random weights is scaled to it, and its PSNR is then that of a picture."""


@dataclass
class Variant:
    """A VAE in one form; ``is_exact`` if errors against float32 say something about it."""

    name: str
    vae: Any
    dtype: torch.dtype
    memory_format: torch.memory_format = torch.contiguous_format
    is_exact: bool = True
    seconds: dict[str, list[float]] = field(default_factory=lambda: {"decode": [], "encode": []})
    results: dict[str, Tensor] = field(default_factory=dict)

    def run(self, method: str, value: Tensor) -> None:
        """Time ``method`` on ``value`` [1, C, T, h, w], and keep its first result."""
        # Two variants share each VAE.
        comfyui.set_memory_format(self.vae, self.memory_format)
        value = value.to(self.dtype).contiguous(memory_format=self.memory_format)
        started = time.process_time()
        result = getattr(self.vae, method)(value)
        self.seconds[method].append(time.process_time() - started)
        self.results.setdefault(method, result.float())


def main(arguments: list[str] | None = None) -> int:
    """Run the command and return its exit status."""
    parser = command_parser(" vae", __doc__)
    parser.add_argument("--geometry", choices=("pro", "lite"), default="lite")
    parser.add_argument("--size", type=int, default=64, help="width and height (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="runs of each variant (default: %(default)s)")
    options = parser.parse_args(arguments)
    if not comfyui.importable(torch.device("cpu")):
        parser.error("COMFYUI_PATH names no ComfyUI, whose VAEs are measured")
    torch.manual_seed(0)
    config = MODELS[options.geometry].config
    stride_t, stride = config.vae_stride[:2]
    if options.size < stride or options.size % stride or options.rounds < 1:
        parser.error(f"--size must be a multiple of {stride}, and --rounds at least 1")
    side = options.size // stride
    latents = torch.randn(1, config.out_dim, config.latent_frames(FRAMES), side, side)
    frames = continuity_frames(CONTINUITY_LATENTS, stride_t)
    pixels = torch.rand(1, 3, frames, options.size, options.size) * 2 - 1
    variants = list(variants_of(options.geometry))
    with torch.inference_mode():
        for _ in range(options.rounds):
            for variant in variants:
                variant.run("decode", latents)
                variant.run("encode", pixels)
    print(f"{options.geometry}, {options.size}x{options.size}, {torch.get_num_threads()} threads; CPU seconds")
    head = ("variant", f"decode {FRAMES}", "times as fast", f"encode {frames}", "decode, PSNR", "encode, error")
    print(aligned([head, *(row(variant, variants[0]) for variant in variants)]))
    return 0


def variants_of(geometry: str) -> Iterator[Variant]:
    """The published VAE in each form, float32 first."""
    device = torch.device("cpu")
    codec = comfyui.LtxCodec if MODELS[geometry].vae is LITE.vae else comfyui.WanCodec
    exact = codec(device, torch.float32).vae
    for module in exact.modules():
        if isinstance(module, nn.Conv3d):
            nn.init.normal_(module.weight, std=module.weight[0].numel() ** -0.5)
    short = copy.deepcopy(exact).to(torch.bfloat16)
    for name, vae, dtype in (("float32", exact, torch.float32), ("bfloat16", short, torch.bfloat16)):
        yield Variant(name, vae, dtype)
        yield Variant(f"{name}, channels_last_3d", vae, dtype, torch.channels_last_3d)
    if (fast := MODELS[geometry].fast_vae) is not None:
        tiny: Any = importlib.import_module("comfy.taesd.taehv").TAEHV(MODELS[geometry].config.out_dim)
        tiny.show_progress_bar = False
        yield Variant(fast.title, tiny.eval().requires_grad_(False), torch.float32, is_exact=False)


def row(variant: Variant, exact: Variant) -> tuple[str, ...]:
    """A line of the table."""
    decode, encode = (statistics.median(variant.seconds[method]) for method in ("decode", "encode"))
    times = statistics.median(exact.seconds["decode"]) / decode
    figures = (variant.name, f"{decode:.2f}", f"{times:.2f}", f"{encode:.2f}")
    if variant is exact or not variant.is_exact:
        return (*figures, "", "")
    decoded, encoded = (error(variant.results[method], exact.results[method]) for method in ("decode", "encode"))
    return (*figures, f"{20 * math.log10(255 / (decoded * PICTURE_DEVIATION)):.1f} dB", f"{100 * encoded:.2g} %")


def error(found: Tensor, expected: Tensor) -> float:
    """Root mean square of the difference, in standard deviations of what is expected."""
    return ((found - expected).square().mean().sqrt() / expected.std()).item()


if __name__ == "__main__":
    sys.exit(main())
