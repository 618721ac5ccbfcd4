"""Encode drawn clips for the diffusion trainers: ``python -m asymtalker.training latents``.

Reads what ``synth`` wrote; one safetensors file per clip comes out: ``latents`` of its chunks (each
encoded on its own, as at inference, consecutive chunks sharing the continuity frames), TRE ``reference``, ``audio`` at
16 kHz, mouth boxes and the true articulation.
"""

from __future__ import annotations

import argparse
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import nan
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from ...models.checkpoint import read_checkpoint, write_checkpoint
from ...models.nano_vae import STRIDE_T, NanoVAE
from ...models.rates import SAMPLES_PER_FRAME
from ...models.reference import fit_portrait, temporal_reference
from ..corpus.motion import POSE_FIELDS
from ..corpus.vary import speaker, vary
from .articulation import VALUES, articulation_of
from .chunks import FRAMES_PER_CHUNK, encode_chunks, new_frames, stride_of
from .config import TrainingError
from .paths import add_vae_argument

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Prepared:
    """K consecutive chunks as a trainer takes them.

    ``latents`` [K, C, T, h, w]; ``reference`` [C, T, h, w]; ``audio`` [N] of the whole clip; mouth ``boxes`` [K, F, 4]
    as fractions of the picture; ``mouth`` [K, F, 8] articulation, NaN where it is unknown; ``lids`` [frames] of the
    whole clip, 1 closed, 0 open or unknown; ``eyes`` [4] the box of both, zeros where unknown;
    ``features`` [frames, blocks, channels] of the whole clip's speech where they are not made from ``audio`` afresh.
    """

    latents: Tensor
    reference: Tensor
    audio: Tensor
    boxes: Tensor
    mouth: Tensor
    lids: Tensor
    eyes: Tensor
    features: Tensor | None


@torch.no_grad()
def encode_clip(vae: NanoVAE, clip: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors of one drawn ``clip`` (see ``synth.clip.Clip``) whose length is a whole number of chunks."""
    frames = clip["frames"]
    if (len(frames) - FRAMES_PER_CHUNK) % new_frames(STRIDE_T) or len(frames) < FRAMES_PER_CHUNK:
        raise TrainingError(f"{len(frames)} frames are no whole number of chunks: draw clips of 33 + k x 28")
    size = frames.shape[1]
    portrait = fit_portrait(clip["portrait"][None].float() / 255, size, size)
    return {
        "latents": encode_chunks(vae.encode, frames, STRIDE_T),
        "reference": temporal_reference(vae.encode, portrait, FRAMES_PER_CHUNK)[0].half(),
        "audio": (clip["audio"].clamp(-1, 1) * 32767).to(torch.int16),
        "boxes": clip["mouth_boxes"].float() / size,
        "mouth": torch.from_numpy(articulation_of(clip["poses"].numpy())),
        "eyes": eye_box(clip["portrait"].numpy(), clip["mouth_boxes"].numpy()),
        "lids": clip["poses"][:, POSE_FIELDS.index("blink")].clone(),
    }


def eye_box(portrait: np.ndarray, boxes: np.ndarray) -> Tensor:
    """(x0, y0, x1, y1) around both eyes and their lids, as fractions of uint8 [S, S, 3]; zeros where none are found.

    ``boxes`` [F, 4] of the mouth say whose, in pixels.
    """
    face = speaker(portrait, boxes)
    if face is None:
        return torch.zeros(4)
    (x, y), side = np.array(face.landmarks[:2]).T, max(face.width, face.height)
    box = x.min() - 0.15 * side, y.min() - 0.1 * side, x.max() + 0.15 * side, y.max() + 0.07 * side
    return torch.tensor(box, dtype=torch.float32).div(len(portrait)).clamp(0, 1)


def encode_folder(vae_path: Path, clips: Path, out: Path, variants: int = 0, seed: int = 0) -> None:
    """Encode every drawn clip in ``clips`` into ``out``, then ``variants`` of each; those that exist are kept."""
    vae = NanoVAE.from_checkpoint(*read_checkpoint(vae_path))
    out.mkdir(parents=True, exist_ok=True)
    paths = sorted(clips.glob("clip_*.safetensors"))
    jobs = [(variant, number, path) for variant in range(variants + 1) for number, path in enumerate(paths)]
    for done, (variant, number, path) in enumerate(jobs, 1):
        target = out / (f"{path.stem}_v{variant}.safetensors" if variant else path.name)
        if not target.exists():
            tensors, metadata = read_checkpoint(path)
            if variant:
                # Drawn faces keep their place: they are not put through Face Crop.
                is_person = metadata.get("kind") == json.dumps("people")
                tensors = vary(tensors, np.random.default_rng([seed, variant, number]), reframed=is_person)
            write_checkpoint(target, encode_clip(vae, tensors), metadata)
        if done % 50 == 0 or done == len(jobs):
            log.info("clip %d of %d", done, len(jobs))


def read_chunks(path: Path, first: int, count: int) -> Prepared:
    """``count`` consecutive chunks of a prepared clip from ``first`` on, with the speech of the whole clip."""
    with _open(path) as file:
        latents = file.get_slice("latents")[first : first + count].float()
        advance = new_frames(stride_of(latents.shape[2]))
        spans = [slice(n * advance, n * advance + FRAMES_PER_CHUNK) for n in range(first, first + count)]
        boxes = file.get_tensor("boxes")
        mouth = file.get_tensor("mouth") if "mouth" in file.keys() else boxes.new_full((len(boxes), VALUES), nan)  # noqa: SIM118
        return Prepared(
            latents=latents,
            reference=file.get_tensor("reference").float(),
            audio=file.get_tensor("audio").float() / 32767,
            boxes=torch.stack([boxes[span] for span in spans]),
            mouth=torch.stack([mouth[span] for span in spans]),
            eyes=file.get_tensor("eyes") if "eyes" in file.keys() else torch.zeros(4),  # noqa: SIM118
            lids=file.get_tensor("lids") if "lids" in file.keys() else torch.zeros(len(boxes)),  # noqa: SIM118
            features=file.get_tensor("features").float() if "features" in file.keys() else None,  # noqa: SIM118
        )


def check_lids(paths: Sequence[Path]) -> None:
    """Raises TrainingError unless the clips at ``paths`` say when they blink."""
    for path in paths:
        with _open(path) as file:
            if "lids" not in file.keys():  # noqa: SIM118
                raise TrainingError(
                    f"{path} does not say when its person blinks: encode it again, or set audio_lids = false"
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


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command."""
    add_vae_argument(parser)
    parser.add_argument("--clips", type=Path, required=True, help="folder written by `synth`")
    parser.add_argument("--out", type=Path, required=True, help="folder for the encoded clips; existing ones are kept")
    parser.add_argument(
        "--variants", type=int, default=0, help="altered copies of each clip to encode too (default: %(default)s)"
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of the altered copies (default: %(default)s)")


def run(args: argparse.Namespace) -> None:
    """Run the command."""
    encode_folder(args.vae, args.clips, args.out, args.variants, args.seed)
