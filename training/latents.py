"""Encode drawn clips for the diffusion trainers: ``python -m training latents``.

Reads what ``python -m training synth`` wrote; one safetensors file per clip comes out: ``latents`` of its chunks (each
encoded on its own, as at inference, consecutive chunks sharing the continuity frames), TRE ``reference``, ``audio`` at
16 kHz, mouth boxes and the mouth's true motion.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from einops import rearrange
from safetensors import SafetensorError, safe_open
from torch import Tensor

from models.audio import SAMPLES_PER_FRAME
from models.checkpoint import read_checkpoint, write_checkpoint
from models.nano_vae import NanoVAE
from models.reference import fit_portrait, temporal_reference
from models.rollout import plan

from .config import TrainingError

log = logging.getLogger(__name__)

FRAMES_PER_CHUNK = 33
CONTINUITY_FRAMES = 5
NEW_FRAMES = FRAMES_PER_CHUNK - CONTINUITY_FRAMES


@dataclass(frozen=True)
class Prepared:
    """K consecutive chunks as a trainer takes them.

    ``latents`` [K, C, T, h, w]; ``reference`` [C, T, h, w]; ``audio`` [N] of the whole clip; mouth ``boxes`` [K, F, 4]
    as fractions of the picture; ``mouth`` [K, F, 3] opening, width and rounding.
    """

    latents: Tensor
    reference: Tensor
    audio: Tensor
    boxes: Tensor
    mouth: Tensor


@torch.no_grad()
def encode_clip(vae: NanoVAE, clip: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors of one drawn ``clip`` (see ``synth.clip.Clip``) whose length is a whole number of chunks."""
    frames = rearrange(clip["frames"], "f h w c -> 1 c f h w").float() / 127.5 - 1
    spans = plan(frames.shape[2], FRAMES_PER_CHUNK, CONTINUITY_FRAMES)
    if spans[-1].overlap + spans[-1].new_frames != FRAMES_PER_CHUNK:
        raise TrainingError(f"{frames.shape[2]} frames are no whole number of chunks: draw clips of 33 + k x 28")
    chunks = [vae.encode(frames[:, :, span.start : span.start + FRAMES_PER_CHUNK]) for span in spans]
    size = frames.shape[-1]
    portrait = fit_portrait(clip["portrait"][None].float() / 255, size, size)
    return {
        "latents": torch.cat(chunks).half(),
        "reference": temporal_reference(vae.encode, portrait, FRAMES_PER_CHUNK)[0].half(),
        "audio": (clip["audio"].clamp(-1, 1) * 32767).to(torch.int16),
        "boxes": clip["mouth_boxes"].float() / size,
        "mouth": torch.stack([clip[name].float() for name in ("opening", "width", "rounding")], dim=1),
    }


def encode_folder(vae_path: Path, clips: Path, out: Path) -> None:
    """Encode every drawn clip in ``clips`` into ``out``; those that exist are kept."""
    vae = NanoVAE.from_checkpoint(*read_checkpoint(vae_path))
    out.mkdir(parents=True, exist_ok=True)
    paths = sorted(clips.glob("clip_*.safetensors"))
    for number, path in enumerate(paths, 1):
        if not (out / path.name).exists():
            tensors, metadata = read_checkpoint(path)
            write_checkpoint(out / path.name, encode_clip(vae, tensors), metadata)
        if number % 50 == 0 or number == len(paths):
            log.info("clip %d of %d", number, len(paths))


def read_chunks(path: Path, first: int, count: int) -> Prepared:
    """``count`` consecutive chunks of a prepared clip from ``first`` on, with the speech of the whole clip."""
    with _open(path) as file:
        chunks = slice(first, first + count)
        boxes, mouth = file.get_slice("boxes"), file.get_slice("mouth")
        spans = [slice(n * NEW_FRAMES, n * NEW_FRAMES + FRAMES_PER_CHUNK) for n in range(first, first + count)]
        return Prepared(
            latents=file.get_slice("latents")[chunks].float(),
            reference=file.get_tensor("reference").float(),
            audio=file.get_tensor("audio").float() / 32767,
            boxes=torch.stack([boxes[span] for span in spans]),
            mouth=torch.stack([mouth[span] for span in spans]),
        )


def num_chunks(path: Path) -> int:
    with _open(path) as file:
        return file.get_slice("latents").get_shape()[0]


def _open(path: Path) -> Any:
    try:
        return safe_open(path, framework="pt")
    except (SafetensorError, OSError) as error:
        raise TrainingError(f"{path} is not a whole prepared clip ({error}): delete it and prepare it again") from error


def clip_frames(audio: Tensor) -> int:
    """Video frames of a prepared clip's ``audio``."""
    return audio.shape[-1] // SAMPLES_PER_FRAME
