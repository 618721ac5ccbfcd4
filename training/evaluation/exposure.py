"""What a network's own continuity frames change: ``python -m asymtalker.training exposure``.

Every chunk of held-out people is generated twice: after the network's own previous chunk, and after the true frames.
The difference is the identity that is lost by continuing from its own frames. The teacher then denoises the network's
chunk with its own continuity frames (the target of symmetric-self) and with the true ones (the target of AKD).
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import astuple, dataclass, fields
from pathlib import Path

import numpy as np
import torch
from einops import rearrange
from torch import Tensor

from ...models.audio import AudioFeatures, log_mel_features
from ...models.chunks import ContinuityOptions, ContinuityState, continuity_frames
from ...models.draft import to_uint8
from ...models.flow import apply_continuity, chunk_noise
from ...models.rates import FPS
from ...models.rollout import rollout
from ..core.chunks import CONTINUITY_LATENTS, FRAMES_PER_CHUNK, clip_span, new_frames, stride_of
from ..core.paths import PROBE, add_vae_argument
from ..core.tables import markdown_table
from .evaluate import Generator
from .probe import FaceProbe
from .subjects import Subject, synthetic_subject

LEVEL = 0.8
"""Noise level of the teacher's input, since a few-step sampler decides most of the picture there."""

CHUNK_SEED, TARGET_SEED = 0, 1

SHOWN = (1, 2, 3, 6, 11)


@dataclass(frozen=True)
class Exposure:
    """Identity distances to the portrait (1 is a stranger) of one chunk."""

    own: float
    true: float
    target_own: float
    target_true: float


class ExposureMeter:
    """Generates a held-out ``subject`` with a ``network``; ``teacher`` denoises what the network made."""

    def __init__(self, network: Generator, teacher: Generator, probe: FaceProbe, subject: Subject) -> None:
        self._network, self._teacher, self._probe, self._subject = network, teacher, probe, subject
        self._reference = network.condition_on(subject.portrait)
        heard = AudioFeatures(log_mel_features(subject.audio, subject.num_frames), "log-mel")
        self._audio, self._teacher_audio = (made.hear(heard, subject, CHUNK_SEED) for made in (network, teacher))
        self._portrait = probe.read(subject.portrait[None])[1][0]
        stride = stride_of(self._reference.latents.shape[2])
        self._advance, self._overlap = new_frames(stride), continuity_frames(CONTINUITY_LATENTS, stride)

    @torch.no_grad()
    def read(self, chunks: int) -> Iterator[Exposure]:
        """Chunks 1 to ``chunks``; the first one follows true frames in any case."""
        state = self._true_state(1)
        for number in range(1, chunks + 1):
            own, true = state, self._true_state(number)
            frames, state = self._generate(own)
            yield Exposure(
                own=self._distance(frames),
                true=self._distance(self._generate(true)[0]),
                target_own=self._distance(self._target(frames, own, own)),
                target_true=self._distance(self._target(frames, own, true)),
            )

    def _true_state(self, chunk: int) -> ContinuityState:
        """The state before ``chunk`` if all frames so far were true."""
        frames = self._subject.true_frames(chunk * self._advance, chunk * self._advance + self._overlap)
        return ContinuityState(chunk, self._network.vae.encode(as_pixels(frames)))

    def _generate(self, state: ContinuityState) -> tuple[Tensor, ContinuityState]:
        """The chunk after ``state``, its noise given by its number: frames uint8 [n, H, W, 3], and the next state."""
        network, sampling = self._network.conditioning(state.chunk_index), self._network.trained.sampling
        options = ContinuityOptions()
        made = rollout(
            network, self._network.vae, self._reference, self._audio, sampling, options, CHUNK_SEED, state=state
        )
        chunk, following = next(iter(made))
        return chunk.frames, following

    def _target(self, frames: Tensor, own: ContinuityState, shown: ContinuityState) -> Tensor:
        """The teacher's x0, as frames, of the network's chunk after ``own`` when ``shown`` is its continuity."""
        number, vae = own.chunk_index, self._network.vae
        latents = vae.encode(torch.cat((vae.decode(own.latents), as_pixels(frames)), dim=2))
        windows = self._teacher_audio.stream().windows(number * self._advance, FRAMES_PER_CHUNK)
        denoise = self._teacher.conditioning(number)(windows, self._reference.latents, 1.0)
        noise = next(chunk_noise(TARGET_SEED, number, tuple(latents.shape)))
        noisy = apply_continuity(torch.lerp(latents, noise, LEVEL), shown.latents)
        return to_uint8(vae.decode(denoise(noisy, torch.tensor(LEVEL)))[:, :, self._overlap :])

    def _distance(self, frames: Tensor) -> float:
        return float(self._probe.identity_distance(self._probe.read(frames)[1], self._portrait).mean())


def as_pixels(frames: Tensor) -> Tensor:
    """Frames uint8 [n, H, W, 3] as a VAE takes them: [1, 3, n, H, W] in [-1, 1]."""
    return rearrange(frames, "f h w c -> 1 c f h w").float() / 127.5 - 1


def table(measured: dict[str, np.ndarray]) -> str:
    """A Markdown table of ``measured`` [chunks, 4] by network."""
    shown = [number for number in SHOWN if number <= max(map(len, measured.values()))]
    rows = [
        [name, field.name.replace("_", ", "), *(f"{values[number - 1, index]:.2f}" for number in shown)]
        for name, values in measured.items()
        for index, field in enumerate(fields(Exposure))
    ]
    return markdown_table(["network", "continuity frames", *(f"chunk {number}" for number in shown)], rows)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command."""
    parser.add_argument("--network", type=Path, nargs="+", required=True, help="checkpoints to measure")
    parser.add_argument("--teacher", type=Path, required=True, help="checkpoint whose targets are measured")
    add_vae_argument(parser)
    parser.add_argument("--probe", type=Path, default=PROBE, help="probe checkpoint (default: the bundled one)")
    parser.add_argument("--people", type=int, default=6, help="number of held-out people (default: %(default)s)")
    parser.add_argument("--chunks", type=int, default=11, help="chunks of each (default: %(default)s)")
    parser.add_argument("--size", type=int, default=256, help="width and height in pixels (default: %(default)s)")


def run(args: argparse.Namespace) -> None:
    """Run the command."""
    # Without the portrait's detail, which would hide what a network loses.
    teacher, probe = Generator.load(args.teacher, args.vae, detail=0), FaceProbe.load(args.probe)
    stride = teacher.trained.network.config.vae_stride[0]
    # One chunk more, since the first that is measured is number 1.
    seconds = (clip_span(args.chunks + 1, stride) + 1) / FPS
    subjects = [synthetic_subject(1, number, seconds, args.size) for number in range(args.people)]
    measured = {}
    for path in args.network:
        network = Generator.load(path, args.vae, detail=0)
        network.trained.reference.check(path, teacher.trained.reference)
        each = [
            [astuple(chunk) for chunk in ExposureMeter(network, teacher, probe, subject).read(args.chunks)]
            for subject in subjects
        ]
        measured[str(path)] = np.mean(each, axis=0)
    print(table(measured))
