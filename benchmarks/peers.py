"""Run the pack's pipeline and FlashHead's own code side by side: the same random weights, portrait, audio and noise.

For each stage and for whole chunks, the table gives both times and by how much the results differ. Nothing of FlashHead
is in this repository: CHECKOUT is a clone of Soul-AILab/SoulX-FlashHead, whose code needs diffusers, transformers,
torchvision, loguru and pyyaml. The VAEs are those of the ComfyUI in COMFYUI_PATH.

On a CPU, times are CPU seconds, and --layers and --size make it small enough.
"""

from __future__ import annotations

import dataclasses
import itertools
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

from ..models.audio import AudioFeatures, audio_windows
from ..models.chunks import ContinuityOptions, continuity_frames
from ..models.color import match_color
from ..models.config import SamplingConfig
from ..models.dit import TalkingHeadDiT
from ..models.family import LITE, MODELS
from ..models.flow import chunk_noise, schedule
from ..models.reference import Reference, temporal_reference
from ..models.rollout import Chunk, rollout
from ..training.core.inference import condition
from . import comfyui
from .command import command_parser
from .flashhead import FlashHead
from .geometries import random_weights

Result = TypeVar("Result")

SEED, FRAMES, LATENTS = 7, 33, 2


@dataclass(frozen=True)
class Row:
    """Seconds of both for one stage, and the largest difference of the results (of frames, in levels of 255)."""

    stage: str
    ours: float
    theirs: float
    difference: float

    @property
    def ratio(self) -> float:
        return self.theirs / self.ours


def main(arguments: list[str] | None = None) -> int:
    """Run the command and return its exit status."""
    parser = command_parser(" peers", __doc__)
    parser.add_argument("checkout", type=Path, help="clone of Soul-AILab/SoulX-FlashHead")
    parser.add_argument("--geometry", choices=("pro", "lite"), default="lite")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--size", type=int, default=512, help="width and height (default: %(default)s)")
    parser.add_argument("--layers", type=int, help="blocks of the network (default: all 30)")
    parser.add_argument("--chunks", type=int, default=3, help="chunks to compare (default: %(default)s)")
    parser.add_argument("--repeats", type=int, default=3, help="runs of each stage (default: %(default)s)")
    options = parser.parse_args(arguments)
    device = torch.device(options.device)
    if not (options.checkout / "flash_head").is_dir():
        parser.error(f"{options.checkout} has no folder flash_head: it is no clone of SoulX-FlashHead")
    if not comfyui.importable(device):
        parser.error("COMFYUI_PATH names no ComfyUI, whose VAEs are measured")
    pair = Pair(options.checkout.resolve(), options.geometry, device, options.size, options.layers)
    unit = "CPU s" if device.type == "cpu" else "s"
    print(f"{options.geometry}, {pair.network.config.num_layers} layers, {options.size}x{options.size}, {pair.dtype}")
    print(f"| stage | ours, {unit} | FlashHead, {unit} | ratio | largest difference |\n|---|---|---|---|---|")
    with torch.inference_mode():
        for row in itertools.chain(pair.stages(options.repeats), pair.whole_chunks(options.chunks)):
            print(
                f"| {row.stage} | {row.ours:.3f} | {row.theirs:.3f} | {row.ratio:.2f} | {row.difference:.2g} |",
                flush=True,
            )
    return 0


class Pair:
    """Both pipelines on the same weights."""

    def __init__(self, checkout: Path, geometry: str, device: torch.device, size: int, layers: int | None) -> None:
        torch.manual_seed(0)
        self.device = device
        self.dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
        config = MODELS[geometry].config
        config = dataclasses.replace(config, num_layers=layers or config.num_layers)
        self.network = TalkingHeadDiT(config, dtype=self.dtype, device=device).eval().requires_grad_(False)
        random_weights(self.network)
        is_lite = config.latent_channels == LITE.config.latent_channels
        self.codec = (comfyui.LtxCodec if is_lite else comfyui.WanCodec)(device, self.dtype)
        if is_lite:
            _without_posterior_noise(self.codec.vae)
        portrait = _portrait(size).to(device, self.dtype)
        self.sampling = SamplingConfig()
        levels = schedule(self.sampling.steps, self.sampling.shift)
        with torch.inference_mode():
            self.theirs = FlashHead(checkout, self.network, self.codec.vae, portrait, levels, FRAMES)
            latents = temporal_reference(self.codec.encode, portrait.float(), FRAMES)
        self.reference = Reference(latents, portrait.float(), FRAMES)
        self.overlap = continuity_frames(LATENTS, config.vae_stride[0])
        self.features = torch.randn(FRAMES * 40, config.audio.blocks, config.audio.channels)

    def stages(self, repeats: int) -> Iterator[Row]:
        """One evaluation of the network, decode, colour and encode, each on the same input."""
        network, codec, theirs = self.network, self.codec, self.theirs
        windows = audio_windows(self.features, 0, FRAMES).to(self.device, self.dtype)
        x = torch.randn(self.reference.latents.shape).to(self.device, self.dtype)
        y = self.reference.latents.to(self.dtype)
        audio_kv = network.audio_keys_values(network.encode_audio(windows))
        timestep = torch.tensor([937.5], device=self.device)
        pixels = self.reference.portrait + 0.1 * torch.randn(1, 3, FRAMES, *self.reference.portrait.shape[-2:]).to(
            self.device
        )
        tail = pixels[:, :, -self.overlap :]
        portrait = self.reference.portrait
        pairs: dict[str, tuple[Callable[[], Tensor], Callable[[], Tensor], float]] = {
            "network, one step": (
                lambda: network.velocity(x, timestep, audio_kv, y),
                lambda: theirs.flow(x, timestep, windows, y),
                1,
            ),
            "decode": (lambda: codec.decode(x), lambda: theirs.pipeline.vae.decode(x[0]), 1),
            "colour": (
                lambda: match_color(pixels, portrait, 1.0),
                lambda: theirs.color(pixels.to(self.dtype)),
                127.5,
            ),
            "continuity encode": (
                lambda: codec.encode(tail),
                lambda: theirs.pipeline.vae.encode(tail.to(self.dtype))[None],
                1,
            ),
        }
        for name, (ours, other, scale) in pairs.items():
            runs = [(self.timed(ours), self.timed(other)) for _ in range(repeats)]
            (_, mine), (_, hers) = runs[0]
            yield self._row(name, runs, (mine.float() - hers.float()).abs().max().item() * scale)

    def whole_chunks(self, count: int) -> Iterator[Row]:
        """The rollout and their ``generate``, chunk after chunk, each continuing from its own last one."""
        new = FRAMES - self.overlap
        features = AudioFeatures(self.features[: FRAMES + (count - 1) * new], "random")
        ours = rollout(
            self._network, self.codec, self.reference, features, self.sampling, ContinuityOptions(latents=LATENTS), SEED
        )
        runs: list[tuple[tuple[float, Chunk], tuple[float, Tensor]]] = []
        difference = 0.0
        for index in range(count):
            windows = audio_windows(features.features, index * new, FRAMES).to(self.dtype)
            draws = chunk_noise(SEED, index, tuple(self.reference.latents.shape))
            mine = self.timed(lambda: next(ours)[0])
            hers = self.timed(partial(self.theirs.chunk, windows, draws))
            runs.append((mine, hers))
            kept = mine[1].frames
            frames = hers[1].add(1).mul(127.5).clamp(0, 255).permute(1, 2, 3, 0)[-len(kept) :]
            difference = max(difference, (frames.cpu() - kept).abs().max().item())
        yield self._row(f"whole chunk, {count} in a row", runs, difference)

    def _row(self, name: str, runs: Sequence[tuple[tuple[float, Any], tuple[float, Any]]], difference: float) -> Row:
        mine, hers = (statistics.median(seconds for seconds, _ in column) for column in zip(*runs, strict=True))
        return Row(name, mine, hers, difference)

    def _network(self, windows: Tensor, reference: Tensor, guidance: float) -> Callable[[Tensor, Tensor], Tensor]:
        denoise = condition(self.network, windows.to(self.device, self.dtype), reference.to(self.dtype), guidance)
        return lambda x, u: denoise(x.to(self.dtype), u.to(self.device)).float()

    def timed(self, run: Callable[[], Result]) -> tuple[float, Result]:
        """Wall time on a GPU, its work included; CPU time of all threads on a CPU, which other programs share."""
        if self.device.type == "cpu":
            started = time.process_time()
            result = run()
            return time.process_time() - started, result
        torch.cuda.synchronize(self.device)
        started = time.perf_counter()
        result = run()
        torch.cuda.synchronize(self.device)
        return time.perf_counter() - started, result


def _without_posterior_noise(vae: Any) -> None:
    """Let the encoder's last channel, the logarithm of its variance, be -30.

    Their code draws latents and core's takes the mean, which are the same with published weights.
    """
    last = [module for module in vae.encoder.modules() if isinstance(module, torch.nn.Conv3d)][-1]
    last.weight.data[-1] = 0
    assert last.bias is not None
    last.bias.data[-1] = -30


def _portrait(size: int) -> Tensor:
    """[1, 3, 1, size, size] in [-1, 1], smooth."""
    axis = torch.linspace(0, 6, size)
    waves = [torch.outer(torch.sin(k * axis + k), torch.cos((k + 1) * axis)) for k in range(1, 4)]
    return torch.stack(waves).mul(0.85)[None, :, None]


if __name__ == "__main__":
    sys.exit(main())
