"""Prepare drawn clips for the diffusion trainers: ``python -m training latents``.

One safetensors file per clip: ``latents`` of its chunks (each encoded on its own, as at inference, consecutive chunks
sharing the continuity frames), TRE ``reference``, ``audio`` at 16 kHz, mouth boxes and the mouth's true motion.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

import torch
from einops import rearrange
from torch import Tensor

from models.audio import SAMPLES_PER_FRAME
from models.checkpoint import read_checkpoint, write_checkpoint
from models.nano_vae import NanoVAE
from models.reference import fit_portrait, temporal_reference
from models.rollout import plan

from .synth.clip import Clip, make_clip

log = logging.getLogger(__name__)

FRAMES_PER_CHUNK = 33
CONTINUITY_FRAMES = 5


@dataclass(frozen=True)
class Prepared:
    """One chunk as a trainer takes it; ``latents`` and ``reference`` [C, T, h, w], the rest per video frame."""

    latents: Tensor
    reference: Tensor
    audio: Tensor
    boxes: Tensor
    mouth: Tensor


def clip_path(folder: Path, index: int) -> Path:
    return folder / f"clip_{index:07d}.safetensors"


@torch.no_grad()
def encode_clip(vae: NanoVAE, clip: Clip) -> dict[str, Tensor]:
    """Tensors of one clip whose length is a whole number of chunks."""
    frames = rearrange(torch.from_numpy(clip.frames), "f h w c -> 1 c f h w").float() / 127.5 - 1
    spans = plan(frames.shape[2], FRAMES_PER_CHUNK, CONTINUITY_FRAMES)
    if spans[-1].overlap + spans[-1].new_frames != FRAMES_PER_CHUNK:
        raise ValueError(f"{frames.shape[2]} frames are no whole number of chunks: take 33 + k x 28")
    chunks = [vae.encode(frames[:, :, span.start : span.start + FRAMES_PER_CHUNK]) for span in spans]
    size = frames.shape[-1]
    portrait = fit_portrait(torch.from_numpy(clip.portrait)[None].float() / 255, size, size)
    return {
        "latents": torch.cat(chunks).half(),
        "reference": temporal_reference(vae.encode, portrait, FRAMES_PER_CHUNK)[0].half(),
        "audio": (torch.from_numpy(clip.audio).clamp(-1, 1) * 32767).to(torch.int16),
        "boxes": torch.from_numpy(clip.mouth_boxes).float() / size,
        "mouth": torch.stack([torch.from_numpy(v).float() for v in (clip.opening, clip.width, clip.rounding)], dim=1),
    }


def prepare(vae_path: Path, out: Path, seed: int, start: int, count: int, num_frames: int) -> None:
    """Draw, voice and encode clips [start, start + count) into ``out``; those that exist are kept."""
    vae = NanoVAE.from_checkpoint(*read_checkpoint(vae_path))
    out.mkdir(parents=True, exist_ok=True)
    for index in range(start, start + count):
        path = clip_path(out, index)
        if path.exists():
            continue
        write_checkpoint(path, encode_clip(vae, make_clip(seed, index, num_frames)), {"seed": str(seed)})
        if (index - start) % 50 == 49:
            log.info("clip %d of %d", index - start + 1, count)


def read_chunk(path: Path, chunk: int) -> Prepared:
    """Chunk ``chunk`` of a prepared clip, audio and ground truth of the whole clip's span cut to it."""
    tensors, _ = read_checkpoint(path)
    start = chunk * (FRAMES_PER_CHUNK - CONTINUITY_FRAMES)
    frames = slice(start, start + FRAMES_PER_CHUNK)
    return Prepared(
        latents=tensors["latents"][chunk].float(),
        reference=tensors["reference"].float(),
        audio=tensors["audio"].float() / 32767,
        boxes=tensors["boxes"][frames],
        mouth=tensors["mouth"][frames],
    )


def num_chunks(path: Path) -> int:
    tensors, _ = read_checkpoint(path)
    return tensors["latents"].shape[0]


def clip_frames(audio: Tensor) -> int:
    """Video frames of a prepared clip's ``audio``."""
    return audio.shape[-1] // SAMPLES_PER_FRAME
