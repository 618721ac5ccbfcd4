"""Train nano's VAE on drawn faces: ``python -m asymtalker.training vae``."""

from __future__ import annotations

import argparse
import dataclasses
import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from einops import rearrange
from safetensors import safe_open
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from ...models.checkpoint import read_checkpoint, write_checkpoint
from ...models.nano_vae import NanoVAE, NanoVAEConfig
from ..core.config import RunConfig, TrainingError, read_config
from ..core.device import CPU, training_device
from ..core.images import save_strip
from ..core.loop import TrainingRun, clip_and_step
from ..core.paths import add_nano_arguments
from ..core.state import Ema, TrainingState
from ..corpus.identity import sample_identity
from ..corpus.motion import POSE_FIELDS, Pose, sample_pose
from ..corpus.render import mouth_box, render

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class VAETraining(RunConfig):
    """Configuration of a VAE run on clips of ``frames`` frames.

    ``crop`` pixels are trained on for the first ``crop_until`` of the steps. ``decoder_only`` leaves the encoder, and
    so every latent that was made with it, as it is.
    """

    frames: int
    decoder_only: bool
    crop: int
    crop_until: float
    size: int
    width: int
    latent_channels: int
    encoder_blocks: int
    decoder_blocks: int
    latent_noise: float
    latent_penalty: float
    gradient_weight: float
    motion_weight: float
    mouth_weight: float


class DrawnMotions(Dataset[tuple[Tensor, Tensor]]):
    """Short clips of independent identities between two poses, with the mouth's box in the last frame."""

    def __init__(self, config: VAETraining) -> None:
        self.config = config

    def __len__(self) -> int:
        return self.config.steps * self.config.batch

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        """Frames uint8 [F, crop, crop, 3] and mouth mask float [crop, crop], from (seed, index)."""
        config = self.config
        rng = np.random.default_rng([config.seed, index])
        identity = sample_identity(rng)
        poses = _motion(rng, config.frames)
        frames = np.stack([render(identity, pose, config.size) for pose in poses])
        return _sample_window(frames, mouth_box(identity, poses[-1], config.size), config, index, rng)


class ClipWindows(Dataset[tuple[Tensor, Tensor]]):
    """Windows of the clips that ``synth`` wrote: speech and head motion as the diffusion models see them."""

    def __init__(self, config: VAETraining, folder: Path) -> None:
        self.config = config
        self.paths = sorted(folder.glob("clip_*.safetensors"))
        if not self.paths:
            raise TrainingError(f"{folder} holds no clips (clip_*.safetensors): run `synth`")

    def __len__(self) -> int:
        return self.config.steps * self.config.batch

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        """As ``DrawnMotions``."""
        rng = np.random.default_rng([self.config.seed, index])
        with safe_open(self.paths[int(rng.integers(len(self.paths)))], framework="np") as clip:
            frames = clip.get_slice("frames")
            start = int(rng.integers(frames.get_shape()[0] - self.config.frames + 1))
            window = frames[start : start + self.config.frames]
            box = clip.get_tensor("mouth_boxes")[start + self.config.frames - 1]
        return _sample_window(window, tuple(box.tolist()), self.config, index, rng)


def _sample_window(
    frames: np.ndarray, box: tuple[int, int, int, int], config: VAETraining, index: int, rng: np.random.Generator
) -> tuple[Tensor, Tensor]:
    """Frames and mouth mask, cut to a crop (anywhere in the picture, more often around the face) while it is time."""
    x0, y0, x1, y1 = box
    mask = np.zeros(frames.shape[1:3], np.float32)
    mask[y0:y1, x0:x1] = 1
    if index // config.batch < config.crop_until * config.steps:
        free = config.size - config.crop
        left, top = rng.integers(0, free + 1, 2)
        if rng.random() < 0.7:
            left = int(np.clip(rng.normal((x0 + x1) / 2, 30) - config.crop / 2, 0, free))
            top = int(np.clip(rng.normal(y0 - 20, 30) - config.crop / 2, 0, free))
        cut = (slice(top, top + config.crop), slice(left, left + config.crop))
        frames, mask = frames[:, cut[0], cut[1]], mask[cut]
    return torch.from_numpy(np.ascontiguousarray(frames)), torch.from_numpy(np.ascontiguousarray(mask))


def _motion(rng: np.random.Generator, num_frames: int) -> list[Pose]:
    """Mouth, lids and gaze move up to fully within the clip; the head moves a little."""
    start, end = sample_pose(rng).to_row(), sample_pose(rng).to_row()
    head = [POSE_FIELDS.index(name) for name in ("yaw", "pitch", "roll", "shift_x", "shift_y", "breath")]
    end[head] = start[head] + 0.15 * (end[head] - start[head])
    pace = np.cumsum(rng.uniform(0, 1, num_frames))
    weights = (pace - pace[0]) / (pace[-1] - pace[0]) * rng.uniform(0, 1)
    return [Pose.from_row(start + w * (end - start)) for w in weights]


def _loss(
    vae: NanoVAE, pixels: Tensor, mask: Tensor, config: VAETraining, generator: torch.Generator
) -> dict[str, Tensor]:
    """L1 on values, on spatial gradients and on steps between frames, the mouth counted more; latents kept small.

    A latent frame stands for four pixel frames: without the loss on steps their mean is what comes back, and with it a
    mouth that moves six times a second, however good the audio features are.
    """
    with torch.set_grad_enabled(not config.decoder_only):
        z = vae.encode(pixels)
    noisy = z + config.latent_noise * torch.randn(z.shape, generator=generator)
    error = vae.decode(noisy) - pixels
    weight = 1 + config.mouth_weight * mask[:, None, None]
    gradient = error.diff(dim=-1).abs().mean() + error.diff(dim=-2).abs().mean()
    l1 = (error.abs() * weight).mean()
    motion = (error.diff(dim=2).abs() * weight).mean() if error.shape[2] > 1 else error.new_zeros(())
    total = l1 + config.gradient_weight * gradient + config.motion_weight * motion
    total = total + config.latent_penalty * z.square().mean()
    psnr = -10 * torch.log10(error.detach().square().mean() / 4)
    return {"loss": total, "psnr": psnr, "motion": motion, "latent_rms": z.detach().square().mean().sqrt()}


def train(
    config: VAETraining,
    out: Path,
    workers: int,
    clips: Path | None = None,
    start: Path | None = None,
    device: torch.device = CPU,
) -> None:
    """Train (or take up) a run in ``out``; writes ``state.safetensors``, ``vae.safetensors`` and sample strips.

    Args:
        clips: folder of drawn clips to train on; None draws independent faces.
        start: VAE checkpoint whose weights a new run starts from.
    """
    torch.manual_seed(config.seed)
    scale = 1.0
    vae = NanoVAE(NanoVAEConfig(config.latent_channels, config.width, config.encoder_blocks, config.decoder_blocks))
    if start is not None:
        tensors, metadata = read_checkpoint(start)
        vae.load_state_dict(tensors)
        scale = NanoVAEConfig.from_metadata(metadata).latent_scale
    vae.to(device)
    trained = vae.decoder if config.decoder_only else vae
    optimizer = torch.optim.AdamW(trained.parameters(), lr=config.learning_rate, betas=(0.9, 0.99), weight_decay=1e-3)
    ema = Ema(vae, config.ema_decay)
    state = TrainingState({"vae": vae}, {"adamw": optimizer}, {"vae": ema}, config.record())
    data = ClipWindows(config, clips) if clips is not None else DrawnMotions(config)

    def publish() -> None:
        export(vae, ema, config, scale, out / "vae.safetensors")
        _sample(out, config, state.step)

    run = TrainingRun("vae", out, config, state, publish, device)
    order = range(state.step * config.batch, len(data))
    loader = DataLoader(data, config.batch, sampler=order, num_workers=workers, prefetch_factor=4 if workers else None)
    for frames, mask in loader:
        run.set_learning_rate()
        with device:
            pixels = rearrange(frames.to(device), "b f h w c -> b c f h w").float() / 127.5 - 1
            terms = _loss(vae, pixels, mask.to(device), config, run.generator())
            terms["loss"].backward()
        clip_and_step(trained.parameters(), optimizer)
        run.finish_step({name: value.item() for name, value in terms.items()})
    run.close()


def held_out_pixels(config: VAETraining, count: int) -> Tensor:
    """Full-size clips of identities beyond the run's own: [count, 3, F, size, size]."""
    data = DrawnMotions(dataclasses.replace(config, crop_until=0.0))
    frames = torch.stack([data[len(data) + 1_000_000 + i][0] for i in range(count)])
    return rearrange(frames, "b f h w c -> b c f h w").float() / 127.5 - 1


@torch.no_grad()
def export(vae: NanoVAE, ema: Ema, config: VAETraining, scale: float, path: Path) -> None:
    """Write the averaged weights as a checkpoint that the loader reads, with latents scaled to unit spread.

    A frozen encoder keeps its ``scale``: latents made with it stay valid.
    """
    if not config.decoder_only:
        averaged = NanoVAE(vae.config)
        averaged.load_state_dict(ema.shadow)
        scale = round(1 / averaged.encode(held_out_pixels(config, 8)).std().item(), 6)
    write_checkpoint(path, ema.shadow, dataclasses.replace(vae.config, latent_scale=scale).to_metadata())


@torch.no_grad()
def _sample(out: Path, config: VAETraining, step: int) -> None:
    vae = NanoVAE.from_checkpoint(*read_checkpoint(out / "vae.safetensors"))
    pixels = held_out_pixels(config, 6)
    decoded = vae.decode(vae.encode(pixels)).clamp(-1, 1)
    psnr = -10 * torch.log10((decoded - pixels).square().mean() / 4)
    log.info("held-out identities at step %d: %.2f dB", step, psnr)
    rows = torch.cat((pixels[:, :, -1], decoded[:, :, 0], decoded[:, :, -1]), dim=0)
    save_strip(rows, columns=6, path=out / f"samples_{step:06d}.png")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command."""
    add_nano_arguments(parser, "nano_vae.toml")
    parser.add_argument("--clips", type=Path, help="folder of clips to train on (default: newly drawn faces)")
    parser.add_argument("--start", type=Path, help="VAE checkpoint to start from")


def run(args: argparse.Namespace) -> None:
    """Run the command."""
    config = read_config(VAETraining, args.config, args.set)
    train(config, args.out, args.workers, args.clips, args.start, training_device(args.device))
