"""Train nano's decoder on the network's own latents: ``python -m asymtalker.training refine``.

A decoder that was trained only on encoded pictures turns a network's small errors into scratches all over the face. If
all motion follows from speech, the clip's own frames are the ground truth for the network's output on its speech, so
the decoder can learn to draw clean faces from its latents. The encoder, and thus every latent, is not changed.
"""

from __future__ import annotations

import argparse
import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from einops import rearrange
from safetensors import safe_open
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from ...models.audio import log_mel_features
from ...models.checkpoint import read_checkpoint, write_checkpoint
from ...models.flow import SAMPLERS, chunk_noise
from ...models.nano_vae import SPATIAL_STRIDE, NanoVAE
from ..core.chunks import FRAMES_PER_CHUNK, new_frames, stride_of
from ..core.config import RunConfig, TrainingError, read_config
from ..core.data import chunk_windows
from ..core.device import CPU, training_device
from ..core.distillation import carry
from ..core.images import save_strip
from ..core.inference import ReferenceTraining, condition, load_for_sampling
from ..core.latents import check_lids, clip_frames, num_chunks, read_chunks
from ..core.loop import TrainingRun, clip_and_step
from ..core.paths import add_nano_arguments
from ..core.state import Ema, TrainingState

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class RefineTraining(RunConfig):
    """Configuration: of the samples, the share ``generated`` decodes the network's latents, the others true ones.

    Windows of ``crop`` pixels are drawn, a multiple of the VAE's stride; ``latent_noise`` is added to true latents.
    """

    crop: int
    generated: float
    latent_noise: float
    gradient_weight: float
    mouth_weight: float


@torch.no_grad()
def generate_latents(network_path: Path, vae: NanoVAE, data: Path, out: Path, count: int) -> None:
    """Latents that the network makes for the speech of ``count`` prepared clips, chunk after chunk as at inference."""
    trained = load_for_sampling(network_path)
    trained.reference.check(network_path, ReferenceTraining())
    network, sampling = trained.network, trained.sampling
    sampler = SAMPLERS[sampling.sampler]
    levels = sampler.schedule(sampling.steps, sampling.shift)
    out.mkdir(parents=True, exist_ok=True)
    paths = sorted(data.glob("clip_*.safetensors"))[:count]
    if network.config.audio.lids:
        check_lids(paths)
    for number, path in enumerate(paths, 1):
        if (out / path.name).exists():
            continue
        clip = read_chunks(path, 0, num_chunks(path))
        features = log_mel_features(clip.audio, clip_frames(clip.audio))
        lids = clip.lids if network.config.audio.lids else None
        reference = clip.reference[None]
        portrait, own, made = vae.decode(reference[:, :, :1]), reference[:, :, :1], []
        for chunk in range(len(clip.latents)):
            start = chunk * new_frames(stride_of(reference.shape[2]))
            denoise = condition(network, chunk_windows(features, start, lids), reference, sampling.guidance)
            draws = sampler.draws(reference, chunk_noise(number, chunk, tuple(reference.shape)))
            made.append(sampler.sample(denoise, levels, own, draws))
            own = carry(vae, made[-1], portrait)
        write_checkpoint(out / path.name, {"generated": torch.cat(made).half()}, {})
        if number % 20 == 0:
            log.info("generated for clip %d of %d", number, count)


class GeneratedChunks(Dataset[tuple[Tensor, Tensor, Tensor, bool]]):
    """Windows of chunks: frames uint8 [F, crop, crop, 3], mouth mask [crop, crop], latents [C, T, h, w], whose."""

    def __init__(self, config: RefineTraining, clips: Path, data: Path, generated: Path) -> None:
        self.config, self.clips, self.data = config, clips, data
        self.paths = sorted(generated.glob("clip_*.safetensors"))
        if not self.paths:
            raise TrainingError(f"{generated} holds no generated latents: {data} has no prepared clips")

    def __len__(self) -> int:
        return self.config.steps * self.config.batch

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor, Tensor, bool]:
        rng = np.random.default_rng([self.config.seed, index])
        path = self.paths[int(rng.integers(len(self.paths)))]
        is_generated = bool(rng.random() < self.config.generated)
        chunk = int(rng.integers(num_chunks(self.data / path.name)))
        source, name = (path, "generated") if is_generated else (self.data / path.name, "latents")
        with safe_open(source, framework="pt") as file:
            latents = file.get_slice(name)[chunk].float()
        start = chunk * new_frames(stride_of(latents.shape[1]))
        with safe_open(self.clips / path.name, framework="pt") as file:
            frames = file.get_slice("frames")[start : start + FRAMES_PER_CHUNK]
            x0, y0, x1, y1 = file.get_tensor("mouth_boxes")[start + FRAMES_PER_CHUNK - 1].tolist()
        mask = torch.zeros(frames.shape[1:3])
        mask[y0:y1, x0:x1] = 1
        sites, free = self.config.crop // SPATIAL_STRIDE, frames.shape[1] // SPATIAL_STRIDE
        # Mostly around the mouth, because errors are most visible in the face.
        centre = rng.normal(((x0 + x1) / 2, y0 - 30), 40) / SPATIAL_STRIDE - sites / 2
        left, top = np.clip(np.round(centre), 0, free - sites).astype(int)
        rows = slice(SPATIAL_STRIDE * top, SPATIAL_STRIDE * (top + sites))
        columns = slice(SPATIAL_STRIDE * left, SPATIAL_STRIDE * (left + sites))
        window = latents[:, :, top : top + sites, left : left + sites]
        return frames[:, rows, columns].clone(), mask[rows, columns].clone(), window.clone(), is_generated


def refine_loss(
    vae: NanoVAE, batch: tuple[Tensor, Tensor, Tensor, Tensor], config: RefineTraining, generator: torch.Generator
) -> dict[str, Tensor]:
    """L1 on values and on spatial gradients, the mouth counted more."""
    frames, mask, latents, is_generated = batch
    pixels = rearrange(frames, "b f h w c -> b c f h w").float() / 127.5 - 1
    amount = config.latent_noise * (~is_generated).float()[:, None, None, None, None]
    error = vae.decode(latents + amount * torch.randn(latents.shape, generator=generator)) - pixels
    l1 = (error.abs() * (1 + config.mouth_weight * mask[:, None, None])).mean()
    gradient = error.diff(dim=-1).abs().mean() + error.diff(dim=-2).abs().mean()
    terms = {"loss": l1 + config.gradient_weight * gradient}
    psnr = -10 * torch.log10(error.detach().square().mean((1, 2, 3, 4)) / 4)
    for name, chosen in (("psnr_generated", is_generated), ("psnr_encoded", ~is_generated)):
        if chosen.any():
            terms[name] = psnr[chosen].mean()
    return terms


def train(
    config: RefineTraining,
    network: Path,
    vae_path: Path,
    clips: Path,
    data: Path,
    out: Path,
    workers: int,
    count: int,
    device: torch.device = CPU,
) -> None:
    """Refine (or take up) a decoder in ``out``; writes ``state.safetensors``, ``vae.safetensors`` and strips.

    Args:
        clips, data: folders of the same clips as ``synth`` drew and as ``latents`` encoded them.
        count: clips to generate for.
    """
    torch.manual_seed(config.seed)
    tensors, metadata = read_checkpoint(vae_path)
    vae = NanoVAE.from_checkpoint(tensors, metadata)
    generate_latents(network, vae, data, out / "generated", count)
    vae.to(device)
    vae.decoder.train().requires_grad_(True)
    optimizer = torch.optim.AdamW(vae.decoder.parameters(), betas=(0.9, 0.99), weight_decay=1e-3)
    ema = Ema(vae, config.ema_decay)
    state = TrainingState({"vae": vae}, {"adamw": optimizer}, {"vae": ema}, config.record())
    dataset = GeneratedChunks(config, clips, data, out / "generated")

    def publish() -> None:
        write_checkpoint(out / "vae.safetensors", ema.shadow, metadata)
        _sample(NanoVAE.from_checkpoint(ema.shadow, metadata), dataset, out / f"samples_{state.step:06d}.png")

    run = TrainingRun("refine", out, config, state, publish, device)
    order = range(state.step * config.batch, len(dataset))
    for batch in DataLoader(dataset, config.batch, sampler=order, num_workers=workers):
        run.set_learning_rate()
        frames, mask, latents, is_generated = (part.to(device) for part in batch)
        with device:
            terms = refine_loss(vae, (frames, mask, latents, is_generated), config, run.generator())
            terms["loss"].backward()
        clip_and_step(vae.decoder.parameters(), optimizer)
        run.finish_step({name: value.item() for name, value in terms.items()})
    run.close()


@torch.no_grad()
def _sample(vae: NanoVAE, dataset: GeneratedChunks, path: Path) -> None:
    """Last frames of six generated windows as drawn, over the true ones."""
    items = [dataset[len(dataset) + index] for index in range(40)]
    chosen = [item for item in items if item[3]][:6]
    drawn = torch.cat([vae.decode(latents[None])[:, :, -1] for _, _, latents, _ in chosen]).clamp(-1, 1)
    truth = torch.stack([frames[-1].permute(2, 0, 1).float() / 127.5 - 1 for frames, _, _, _ in chosen])
    save_strip(torch.cat((drawn, truth)), len(chosen), path)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command."""
    add_nano_arguments(parser, "nano_refine.toml")
    parser.add_argument("--network", type=Path, required=True, help="DiT checkpoint")
    parser.add_argument("--vae", type=Path, required=True, help="nano VAE checkpoint")
    parser.add_argument("--clips", type=Path, required=True, help="folder written by `synth`")
    parser.add_argument("--data", type=Path, required=True, help="folder written by `latents` from the same clips")
    parser.add_argument("--count", type=int, default=120, help="number of clips to generate for (default: %(default)s)")


def run(args: argparse.Namespace) -> None:
    """Run the command."""
    config = read_config(RefineTraining, args.config, args.set)
    device = training_device(args.device)
    train(config, args.network, args.vae, args.clips, args.data, args.out, args.workers, args.count, device)
