"""Measure a checkpoint on held-out people and voices: ``python -m asymtalker.training evaluate``."""

from __future__ import annotations

import argparse
import json
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...models.audio import FPS, AudioFeatures, RecordingFeatures, log_mel_features
from ...models.blinks import WithLids, known_lids, with_blinks
from ...models.checkpoint import read_checkpoint
from ...models.chunks import ContinuityOptions
from ...models.flow import Denoise
from ...models.nano_vae import NanoVAE
from ...models.reference import Reference, ReferenceKind, fit_portrait, static_reference, temporal_reference
from ...models.rollout import Network, rollout
from ..core.config import TrainingError
from ..core.inference import TrainedNetwork, condition, load_for_sampling
from ..core.objectives import uncertain
from ..core.paths import NETWORK, PROBE, add_vae_argument
from ..core.tables import markdown_table
from ..corpus.motion import POSE_FIELDS
from .alignment import align, read_transcripts
from .measure import Reading, psnr, window_figures
from .plots import save_frames, save_opening, save_tracks
from .probe import FaceProbe
from .subjects import RecordedSpeech, Subject, opening_proxy, read_speech, recorded_subject, synthetic_subject

log = logging.getLogger(__name__)

WINDOW_S = 10.0
STRIP_FRAMES = 12
RECORDINGS_EACH = 6
DEFAULT_CONTINUITY = ContinuityOptions()


@dataclass(frozen=True)
class Generator:
    """A checkpoint ready to be measured."""

    trained: TrainedNetwork
    vae: NanoVAE

    @classmethod
    def load(
        cls, network: Path, vae: Path, steps: int = 0, sampler: str = "", detail: float | None = None
    ) -> Generator:
        """``steps``, ``sampler`` and ``detail`` other than the checkpoint's own, where they are given."""
        trained = load_for_sampling(network)
        own = trained.sampling
        sampling = replace(
            own,
            sampler=sampler or own.sampler,
            steps=steps or own.steps,
            detail=own.detail if detail is None else detail,
        )
        return cls(replace(trained, sampling=sampling), NanoVAE.from_checkpoint(*read_checkpoint(vae)))

    def condition_on(self, portrait: Tensor) -> Reference:
        """``portrait`` uint8 [H, W, 3]."""
        pixels = fit_portrait(portrait[None].float() / 255, portrait.shape[1], portrait.shape[0])
        frames = self.trained.sampling.frames_per_chunk
        if self.trained.reference.kind == ReferenceKind.STATIC:
            num_latents = self.trained.network.config.latent_frames(frames)
            return Reference(static_reference(self.vae.encode, pixels, num_latents).contiguous(), pixels, frames)
        return Reference(temporal_reference(self.vae.encode, pixels, frames), pixels, frames)

    def hear(self, audio: RecordingFeatures, subject: Subject, seed: int) -> RecordingFeatures:
        """``audio`` with the blinks of the true motion, where it is known, if the network is told of blinks."""
        config, per_minute = self.trained.network.config.audio, self.trained.sampling.blinks
        if subject.poses is None or not config.lids:
            return with_blinks(audio, config, f"{seed}/{subject.name}", per_minute)
        return WithLids(audio, known_lids(torch.from_numpy(subject.poses[:, POSE_FIELDS.index("blink")])))

    def conditioning(self, seed: int) -> Network:
        """The network as the rollout takes it; an uncertain reference is drawn afresh for every chunk."""
        generator = torch.Generator().manual_seed(seed)

        def condition_chunk(windows: Tensor, reference: Tensor, guidance: float) -> Denoise:
            seen = uncertain(reference, self.trained.reference.noise, generator)
            return condition(self.trained.network, windows, seen, guidance)

        return condition_chunk


@dataclass
class Result:
    """The measurements of one video, and some of its frames: the first seconds, and a strip over all of it."""

    subject: Subject
    reading: Reading
    first: Tensor
    strip: Tensor


@torch.no_grad()
def measure(
    generator: Generator,
    probe: FaceProbe,
    subject: Subject,
    seed: int,
    max_first_s: float = 4.0,
    continuity: ContinuityOptions = DEFAULT_CONTINUITY,
) -> Result:
    """Generate ``subject``'s video chunk by chunk, reading and forgetting its frames."""
    reference = generator.condition_on(subject.portrait)
    features = log_mel_features(subject.audio, subject.num_frames)
    audio = generator.hear(AudioFeatures(features, "log-mel"), subject, seed)
    _, who = probe.read(subject.portrait[None])
    reading, first, strip = Reading(), [], []
    wanted = np.linspace(0, subject.num_frames - 1, STRIP_FRAMES).astype(int)
    network, sampling = generator.conditioning(seed), generator.trained.sampling
    chunks = rollout(network, generator.vae, reference, audio, sampling, continuity, seed)
    for chunk, _ in chunks:
        reading.add(probe, who[0], chunk.frames, chunk.record.stats["sharpness"])
        start, stop = chunk.record.first_frame, chunk.record.end_frame
        if start < max_first_s * FPS:
            first.append(chunk.frames)
        strip += [chunk.frames[i - start] for i in wanted if start <= i < stop]
    return Result(subject, reading, torch.cat(first)[: round(max_first_s * FPS)], torch.stack(strip))


def figures(result: Result, start_s: float, stop_s: float) -> dict[str, float]:
    """``measure.window_figures`` of a result, with the likeness to the drawn truth at the beginning."""
    subject = result.subject
    proxy = opening_proxy(subject.audio.numpy(), subject.num_frames)
    values = window_figures(result.reading, subject.truth, proxy, start_s, stop_s)
    if subject.poses is not None and start_s == 0:
        values["psnr"] = psnr(result.first, subject.true_frames(0, len(result.first)))
    return values


def evaluate(
    network: Path,
    vae: Path,
    probe_path: Path,
    out: Path,
    *,
    count: int = 8,
    seconds: float = 10.0,
    seed: int = 0,
    steps: int = 0,
    sampler: str = "",
    detail: float | None = None,
    recordings: Path | None = None,
    transcripts: Path | None = None,
) -> None:
    """Generate ``count`` held-out people; write strips, plots, ``metrics.json`` and ``metrics.md``.

    Args:
        recordings: folder of recorded speech; held-out people then say it too, ``RECORDINGS_EACH``.
        transcripts: what the recordings say (``alignment.read_transcripts``), by their paths in the folder without the
            ending: sync is then measured against aligned phonemes. Those without a usable transcript are left out.
    """
    generator, probe = Generator.load(network, vae, steps, sampler, detail), FaceProbe.load(probe_path)
    subjects = [synthetic_subject(seed, number, seconds) for number in range(count)]
    if recordings is not None:
        groups = _groups(recordings, count, transcripts)
        subjects += [recorded_subject(seed, number, group) for number, group in enumerate(groups)]
    out.mkdir(parents=True, exist_ok=True)
    rows = [_evaluate_one(generator, probe, subject, seed, out) for subject in subjects]
    summary = {"synthetic": _mean(rows, "person"), "recorded": _mean(rows, "recording")}
    (out / "metrics.json").write_text(json.dumps({"mean": summary, "videos": rows}, indent=1))
    (out / "metrics.md").write_text(table(summary))
    log.info("\n%s", table(summary))


def _evaluate_one(generator: Generator, probe: FaceProbe, subject: Subject, seed: int, out: Path) -> dict[str, Any]:
    result = measure(generator, probe, subject, seed)
    name = subject.name.replace(" ", "_")
    total_s = subject.num_frames / FPS
    row: dict[str, Any] = {"name": subject.name, "seconds": total_s}
    row |= figures(result, 0.0, total_s)
    row["identity_ratio"] = identity_ratio(result, total_s)
    truth = None
    if subject.poses is not None:
        indices = np.linspace(0, subject.num_frames - 1, STRIP_FRAMES).astype(int)
        truth = torch.cat([subject.true_frames(i, i + 1) for i in indices])
    save_frames(result.strip, truth, out / f"{name}.png")
    seen = np.concatenate(result.reading.tracks)
    save_opening(seen[:, 0], subject, out / f"{name}_opening.png")
    if subject.truth is not None:
        save_tracks(seen, subject.truth, out / f"{name}_tracks.png")
    log.info("%s", ", ".join(f"{k} {v:.3f}" if isinstance(v, float) else f"{v}" for k, v in row.items()))
    return row


def identity_ratio(result: Result, total_s: float) -> float:
    """Identity distance of the last ``WINDOW_S`` (half the video where it is short) over that of the first 2 s."""
    distances = np.concatenate(result.reading.identity)
    last = round(min(WINDOW_S, total_s / 2) * FPS)
    return float(distances[-last:].mean() / max(float(distances[: 2 * FPS].mean()), 1e-9))


def _groups(folder: Path, count: int, transcripts: Path | None) -> list[list[RecordedSpeech]]:
    """Recordings, in order of name, split evenly among ``count`` speakers; each long enough to be measured."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.stat().st_size > 30_000)
    share = max(1, len(files) // count)
    said = None if transcripts is None else read_transcripts(transcripts)
    groups = (_read(folder, files[n * share : (n + 1) * share], said) for n in range(count))
    return [group for recordings in groups if (group := list(islice(recordings, RECORDINGS_EACH)))]


def _read(folder: Path, files: Sequence[Path], transcripts: dict[str, str] | None) -> Iterator[RecordedSpeech]:
    """The recordings in ``files``; with ``transcripts`` only those whose phonemes can be aligned, with them."""
    for path in files:
        audio = read_speech(path)
        if transcripts is None:
            yield RecordedSpeech(audio)
            continue
        try:
            text = transcripts[path.relative_to(folder).with_suffix("").as_posix()]
            yield RecordedSpeech(audio, align(audio.numpy(), text))
        except KeyError:
            log.info("%s is left out: no transcript", path.name)
        except TrainingError as error:
            log.info("%s is left out: %s", path.name, error)


def _mean(rows: Sequence[dict[str, Any]], kind: str) -> dict[str, float]:
    chosen = [row for row in rows if row["name"].startswith(kind)]
    if not chosen:
        return {}
    return {key: float(np.mean([row[key] for row in chosen])) for key in chosen[0] if key != "name"}


def table(summary: dict[str, dict[str, float]]) -> str:
    """A Markdown table, one column for each kind of speech."""
    columns = [name for name, values in summary.items() if values]
    keys = list(dict.fromkeys(key for name in columns for key in summary[name]))
    rows = [[key, *(f"{summary[name][key]:.3f}" if key in summary[name] else "" for name in columns)] for key in keys]
    return markdown_table(["", *columns], rows)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command."""
    parser.add_argument("--network", type=Path, default=NETWORK, help="DiT checkpoint (default: the bundled one)")
    add_vae_argument(parser)
    parser.add_argument("--probe", type=Path, default=PROBE, help="probe checkpoint (default: the bundled one)")
    parser.add_argument("--out", type=Path, required=True, help="folder for figures, strips and plots")
    parser.add_argument("--count", type=int, default=8, help="number of held-out people (default: %(default)s)")
    parser.add_argument(
        "--seconds", type=float, default=10.0, help="seconds of speech per person (default: %(default)s)"
    )
    parser.add_argument("--sampler", default="", help="few_step or euler (default: the checkpoint's own)")
    parser.add_argument(
        "--detail",
        type=float,
        help="0 to 1: how much of the portrait's detail is added (default: the checkpoint's own)",
    )
    parser.add_argument("--recordings", type=Path, help="folder of recorded speech to evaluate on as well")
    parser.add_argument(
        "--transcripts", type=Path, help='transcripts for alignment, one "name: text" per line (may be .gz)'
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=0, help="denoising steps; 0 uses the checkpoint's own value")


def run(args: argparse.Namespace) -> None:
    """Run the command."""
    evaluate(
        args.network,
        args.vae,
        args.probe,
        args.out,
        count=args.count,
        seconds=args.seconds,
        seed=args.seed,
        steps=args.steps,
        sampler=args.sampler,
        detail=args.detail,
        recordings=args.recordings,
        transcripts=args.transcripts,
    )
