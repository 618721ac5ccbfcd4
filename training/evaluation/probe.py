"""A small network that reads drawn faces: what moves, and who it is. ``python -m asymtalker.training probe``.

It stands for the landmark and identity networks that real faces are measured with (SyncNet, ArcFace), and unlike those
it is trained against the truth: the drawing programs know every opening, angle and trait.
"""

from __future__ import annotations

import argparse
import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from ...models.checkpoint import read_checkpoint, write_checkpoint
from ...models.nano_vae import NanoVAE
from ..core.config import RunConfig, read_config
from ..core.device import CPU, training_device
from ..core.loop import TrainingRun, clip_and_step
from ..core.paths import add_nano_arguments, add_vae_argument
from ..core.state import Ema, TrainingState
from ..corpus.identity import BEARD_STYLES, GLASSES_STYLES, HAIR_STYLES, Identity, sample_identity
from ..corpus.motion import Pose, sample_pose
from ..corpus.mouth import MAX_OPENING, mouth_shape
from ..corpus.render import render

log = logging.getLogger(__name__)

SIZE = 128
TRACKS = ("opening", "width", "rounding", "blink", "yaw", "pitch", "roll", "shift_x", "shift_y")
# Scale of each output of the network, so that all tracks have the same weight in the loss.
TRACK_UNITS = torch.tensor([0.25, 0.15, 0.3, 0.3, 5.0, 3.0, 2.5, 3.0, 2.0])
_TRAITS = (
    "skin", "hair", "iris", "lip", "face_width", "jaw_width", "chin_width", "face_height", "cheek", "hair_volume",
    "hair_length", "brow_thickness", "brow_arch", "brow_tilt", "eye_spacing", "eye_width", "eye_height", "eye_tilt",
    "nose_width", "nose_length", "mouth_width", "mouth_height", "upper_lip", "lower_lip", "clothes_colour",
)  # fmt: skip
_STYLES = (("hair_style", HAIR_STYLES), ("beard", BEARD_STYLES), ("glasses", GLASSES_STYLES))


@dataclass(frozen=True, kw_only=True)
class ProbeTraining(RunConfig):
    """Configuration of a probe run; ``decoded`` is the share of faces that went through the VAE."""

    width: int
    decoded: float


def traits(identity: Identity) -> np.ndarray:
    """The identity of a face, as numbers [N]."""
    numbers = [np.ravel(getattr(identity, name)) for name in _TRAITS]
    styles = [np.array([float(getattr(identity, name) == style) for style in kinds]) for name, kinds in _STYLES]
    return np.concatenate(numbers + styles).astype(np.float32)


def tracks(identity: Identity, pose: Pose) -> np.ndarray:
    """The motion in one frame, in the order of ``TRACKS``."""
    shape = mouth_shape(identity, pose)
    seen = (shape.gap / MAX_OPENING, shape.half_width / identity.mouth_width, pose.rounding)
    return np.array([*seen, *(getattr(pose, name) for name in TRACKS[3:])], np.float32)


class FaceProbe(nn.Module):
    """Frames [N, 3, H, W] in [-1, 1], square -> tracks [N, 9] and identity embeddings [N, D].

    Embeddings are the face's traits in standard deviations; ``spread`` is the mean distance between those of different
    people.
    """

    mean: Tensor
    deviation: Tensor
    spread: Tensor

    def __init__(self, width: int, num_traits: int) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3 * 16, width, 3, padding=1)
        stages: list[nn.Module] = []
        for scale in (1, 2, 4):
            stages += [_Residual(scale * width), _Residual(scale * width)]
            stages += [nn.Conv2d(scale * width, 2 * scale * width, 2, stride=2)]
        self.stages = nn.Sequential(*stages)
        # The last grid is 4 x 4: places matter, so nothing is averaged away.
        self.out = nn.Sequential(nn.Flatten(), nn.Linear(16 * 8 * width, 256), nn.SiLU())
        self.tracks = nn.Linear(256, len(TRACKS))
        self.traits = nn.Linear(256, num_traits)
        self.register_buffer("mean", torch.zeros(num_traits))
        self.register_buffer("deviation", torch.ones(num_traits))
        self.register_buffer("spread", torch.ones(()))

    def forward(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        small = nn.functional.interpolate(frames, size=(SIZE, SIZE), mode="area")
        x = self.stages(self.stem(nn.functional.pixel_unshuffle(small, 4)))
        x = self.out(x)
        return self.tracks(x) * TRACK_UNITS, self.traits(x)

    @torch.no_grad()
    def read(self, frames: Tensor, batch: int = 64) -> tuple[Tensor, Tensor]:
        """``forward`` of frames uint8 [F, H, W, 3], a few at a time."""
        parts = [self(part.permute(0, 3, 1, 2).float() / 127.5 - 1) for part in frames.split(batch)]
        return torch.cat([p[0] for p in parts]), torch.cat([p[1] for p in parts])

    def identity_distance(self, embeddings: Tensor, portrait: Tensor) -> Tensor:
        """Distances [F] of ``embeddings`` [F, D] to the ``portrait``'s [D]; 1 is that of different people."""
        return torch.linalg.vector_norm(embeddings - portrait, dim=-1) / self.spread

    @classmethod
    def load(cls, path: Path) -> FaceProbe:
        """A trained probe, for measuring."""
        tensors, metadata = read_checkpoint(path)
        probe = cls(int(metadata["width"]), tensors["mean"].shape[0])
        probe.load_state_dict(tensors)
        return probe.eval().requires_grad_(False)


class _Residual(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(8, width)
        self.first = nn.Conv2d(width, width, 3, padding=1)
        self.second = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.second(nn.functional.silu(self.first(self.norm(x))))


class DrawnFaces(Dataset[tuple[Tensor, Tensor, Tensor]]):
    """Independent people in independent poses: frame uint8 [3, 256, 256], tracks and traits, from (seed, index)."""

    def __init__(self, seed: int, length: int) -> None:
        self.seed, self.length = seed, length

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor, Tensor]:
        rng = np.random.default_rng([self.seed, index, 77])
        identity, pose = sample_identity(rng), sample_pose(rng)
        frame = torch.from_numpy(render(identity, pose, 256)).permute(2, 0, 1).contiguous()
        return frame, torch.from_numpy(tracks(identity, pose)), torch.from_numpy(traits(identity))


def soften(pixels: Tensor, vae: NanoVAE, share: float, generator: torch.Generator) -> Tensor:
    """Some of ``pixels`` [B, 3, H, W] through the VAE, some blurred, all a little noisy: as generated frames are."""
    kind = torch.rand(pixels.shape[0], generator=generator)
    out = pixels.clone()
    if (decoded := kind < share).any():
        latents = vae.encode(pixels[decoded][:, :, None])
        noise = 0.15 * torch.randn(latents.shape, generator=generator)
        out[decoded] = vae.decode(latents + noise)[:, :, 0]
    if (blurred := kind > 0.8).any():
        small = nn.functional.interpolate(pixels[blurred], scale_factor=0.5, mode="area")
        out[blurred] = nn.functional.interpolate(small, scale_factor=2, mode="bilinear")
    return out + 0.02 * torch.randn(out.shape, generator=generator)


def train(config: ProbeTraining, vae_path: Path, out: Path, workers: int, device: torch.device = CPU) -> None:
    """Train (or take up) a probe in ``out``; writes ``state.safetensors`` and ``face_probe.safetensors`` (averaged)."""
    torch.manual_seed(config.seed)
    vae = NanoVAE.from_checkpoint(*read_checkpoint(vae_path)).to(device)
    rng = np.random.default_rng(config.seed)
    known = torch.from_numpy(np.stack([traits(sample_identity(rng)) for _ in range(2000)]))
    probe = FaceProbe(config.width, known.shape[1])
    probe.mean, probe.deviation = known.mean(0), known.std(0).clamp_min(1e-3)
    probe.to(device)
    optimizer = torch.optim.AdamW(probe.parameters(), weight_decay=0.01)
    ema = Ema(probe, config.ema_decay)
    state = TrainingState({"probe": probe}, {"adamw": optimizer}, {"probe": ema}, config.record())
    faces = DrawnFaces(config.seed, config.steps * config.batch)

    def publish() -> None:
        export(probe, ema, config, out / "face_probe.safetensors")

    run = TrainingRun("probe", out, config, state, publish, device)
    order = range(state.step * config.batch, len(faces))
    for frames, moved, known_traits in DataLoader(faces, config.batch, sampler=order, num_workers=workers):
        run.set_learning_rate()
        with torch.no_grad(), device:
            pixels = soften(frames.to(device).float() / 127.5 - 1, vae, config.decoded, run.generator())
        seen, who = probe(pixels)
        terms = {
            "tracks": ((seen - moved.to(device)) / TRACK_UNITS.to(device)).square().mean(),
            "traits": (who - (known_traits.to(device) - probe.mean) / probe.deviation).square().mean(),
        }
        (terms["tracks"] + terms["traits"]).backward()
        clip_and_step(probe.parameters(), optimizer)
        run.finish_step({name: value.item() for name, value in terms.items()})
    run.close()


@torch.no_grad()
def export(probe: FaceProbe, ema: Ema, config: ProbeTraining, path: Path) -> None:
    """Write the averaged probe with the spread of unseen people; report how well it reads them."""
    averaged = FaceProbe(config.width, probe.mean.shape[0]).eval()
    averaged.load_state_dict(dict(probe.state_dict()) | ema.shadow)
    faces = DrawnFaces(config.seed, 0)
    samples = [faces[1_000_000_000 + index] for index in range(96)]
    frames, moved = torch.stack([s[0] for s in samples]), torch.stack([s[1] for s in samples])
    seen, who = averaged(frames.float() / 127.5 - 1)
    averaged.spread = torch.pdist(who).mean()
    errors = 1 - (seen - moved).square().mean(0) / moved.var(0)
    log.info("unseen faces, R2: %s", ", ".join(f"{n} {e:.2f}" for n, e in zip(TRACKS, errors.tolist(), strict=True)))
    write_checkpoint(path, averaged.state_dict(), {"width": str(config.width)})


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command."""
    add_nano_arguments(parser, "probe.toml")
    add_vae_argument(parser)


def run(args: argparse.Namespace) -> None:
    """Run the command."""
    train(
        read_config(ProbeTraining, args.config, args.set),
        args.vae,
        args.out,
        args.workers,
        training_device(args.device),
    )
