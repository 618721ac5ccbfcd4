"""Train the audio projection alone, on speech without pictures: ``python -m asymtalker.training audio``.

Speech costs a thousandth of what drawn clips cost, so that thousands of voices and sentences take minutes; the
teacher then starts with cross-attention that has something to read.
"""

from __future__ import annotations

import argparse
import logging
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from ...models.audio import MEL_BANDS, SAMPLES_PER_FRAME, audio_windows, log_mel_features
from ...models.checkpoint import read_checkpoint, write_checkpoint
from ...models.layers import AudioProjection
from ...models.rates import FPS
from ..core.articulation import ARTICULATION, VALUES, articulation_loss, articulation_of, per_latent
from ..core.audio_projection import PREFIX
from ..core.config import RunConfig, read_config
from ..core.device import CPU, training_device
from ..core.loop import TrainingRun, clip_and_step
from ..core.nano import NanoNetwork
from ..core.paths import add_nano_arguments
from ..core.state import Ema, TrainingState
from ..corpus.augment import augment
from ..corpus.clip import make_speech
from ..corpus.viseme import mouth_track

log = logging.getLogger(__name__)

HELD_OUT = 40
TRACT_STRETCH = (0.88, 1.14)
LEVEL_SPREAD = 0.1


@dataclass(frozen=True, kw_only=True)
class AudioTraining(NanoNetwork, RunConfig):
    """Configuration of an audio run.

    ``utterances`` of ``seconds`` each are spoken once, recorded under some conditions (``augment``) and kept in the
    run's folder; every time one is taken another vocal tract speaks it (``other_tract``). ``opening_weight`` is what
    the mouth's opening weighs beside the rest of its articulation.
    """

    utterances: int
    seconds: float
    opening_weight: float

    @property
    def num_frames(self) -> int:
        """Frames of an utterance, 1 + k x the VAE's time stride."""
        stride_t = self.vae_stride[0]
        return 1 + round(self.seconds * FPS) // stride_t * stride_t


class SpokenUtterances(Dataset[tuple[Tensor, Tensor]]):
    """Feature windows [F, 5, 1, 320] and articulation [F, 8] of utterances, synthesised when first used."""

    def __init__(self, config: AudioTraining, folder: Path, length: int, *, held_out: bool = False) -> None:
        self.config, self.folder, self.length, self.held_out = config, folder, length, held_out

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        rng = np.random.default_rng([self.config.seed, index])
        utterance = self._utterance(index if self.held_out else int(rng.integers(self.config.utterances)))
        features = utterance["features"].float()
        if not self.held_out:
            features = other_tract(features, rng)
        return audio_windows(features, 0, self.config.num_frames)[0], utterance["mouth"]

    def _utterance(self, number: int) -> dict[str, Tensor]:
        path = self.folder / f"{'held_out' if self.held_out else 'utterance'}_{number:06d}.safetensors"
        if path.exists():
            return read_checkpoint(path)[0]
        config, frames = self.config, self.config.num_frames
        speech = make_speech(config.seed, number, frames / FPS, held_out=self.held_out)
        audio = np.zeros(frames * SAMPLES_PER_FRAME, np.float32)
        audio[: len(speech.audio)] = speech.audio[: len(audio)]
        recorded = audio if self.held_out else augment(audio, np.random.default_rng([config.seed, number]))
        utterance = {
            "features": log_mel_features(torch.from_numpy(recorded), frames).half(),
            "mouth": torch.from_numpy(articulation_of(mouth_track(speech.phonemes, audio, frames))),
        }
        self.folder.mkdir(parents=True, exist_ok=True)
        write_checkpoint(path, utterance, {})
        return utterance


def other_tract(features: Tensor, rng: np.random.Generator) -> Tensor:
    """``features`` [F, 1, 320] as of a longer or shorter vocal tract, louder or softer: the mel axis is stretched.

    Vocal tract length perturbation (Jaitly and Hinton, 2013), for voices that no engine has.
    """
    mel = features.unflatten(-1, (-1, MEL_BANDS))
    place = (torch.arange(MEL_BANDS) * float(rng.uniform(*TRACT_STRETCH))).clamp_max(MEL_BANDS - 1)
    below = place.long().clamp_max(MEL_BANDS - 2)
    stretched = torch.lerp(mel[..., below], mel[..., below + 1], place - below)
    return stretched.flatten(-2) + LEVEL_SPREAD * float(rng.normal())


def train(config: AudioTraining, out: Path, workers: int, device: torch.device = CPU) -> None:
    """Train (or take up) a run in ``out``; writes ``state.safetensors`` and ``audio.safetensors`` (averaged)."""
    torch.manual_seed(config.seed)
    projection = AudioProjection(config.network(), nn).to(device)
    optimizer = torch.optim.AdamW(projection.parameters(), betas=(0.9, 0.98), weight_decay=0.01)
    ema = Ema(projection, config.ema_decay)
    state = TrainingState({"audio": projection}, {"adamw": optimizer}, {"audio": ema}, config.record())
    spoken = SpokenUtterances(config, out / "speech", config.steps * config.batch)
    held_out = SpokenUtterances(config, out / "speech", HELD_OUT, held_out=True)

    def publish() -> None:
        tensors = {PREFIX + name: value for name, value in ema.shadow.items()}
        write_checkpoint(out / "audio.safetensors", tensors, config.network().to_metadata())
        scores = score(config, ema, held_out)
        log.info("held-out voices, correlation: %s", ", ".join(f"{name} {value:.3f}" for name, value in scores.items()))

    run = TrainingRun("audio", out, config, state, publish, device)
    order = range(state.step * config.batch, len(spoken))
    for windows, mouth in DataLoader(spoken, config.batch, sampler=order, num_workers=workers):
        run.set_learning_rate()
        hidden = projection.hidden(windows.to(device))
        loss = articulation_loss(hidden, mouth.to(device), config.vae_stride[0], config.opening_weight)
        loss.backward()
        clip_and_step(projection.parameters(), optimizer, limit=math.inf)
        run.finish_step({"articulation": loss.item()})
    run.close()


@torch.no_grad()
def score(config: AudioTraining, ema: Ema, spoken: SpokenUtterances) -> dict[str, float]:
    """Mean correlation of what the averaged projection predicts with the truth, for each value of the articulation."""
    projection = AudioProjection(config.network(), nn)
    projection.load_state_dict(ema.shadow)
    stride_t = config.vae_stride[0]
    scores = []
    for number in range(len(spoken)):
        windows, mouth = spoken[number]
        truth = per_latent(mouth[None], stride_t)
        predicted = projection.hidden(windows[None])[..., : truth.shape[-1]]
        frames = [units[0, 1:].unflatten(-1, (stride_t, VALUES)).flatten(0, 1) for units in (predicted, truth)]
        # Pearson's correlation is the cosine between tracks about their means.
        scores.append(nn.functional.cosine_similarity(*(track - track.mean(0) for track in frames), dim=0).numpy())
    return dict(zip(ARTICULATION, np.mean(scores, axis=0).tolist(), strict=True))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command."""
    add_nano_arguments(parser, "nano_audio.toml")


def run(args: argparse.Namespace) -> None:
    """Run the command."""
    train(read_config(AudioTraining, args.config, args.set), args.out, args.workers, training_device(args.device))
