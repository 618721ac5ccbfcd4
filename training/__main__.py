"""``python -m training COMMAND``: one entry for every training program."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path
from typing import TypeAlias

from models.checkpoint import CheckpointError
from models.config import ConfigError

from .bundle import NETWORK, READER, TEACHER, VAE, bundle
from .config import TrainingError
from .real import cli as real_cli
from .synth import cli

CONFIGS = Path(__file__).parent / "configs"

Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"


def _add_run(parser: argparse.ArgumentParser, config: str) -> None:
    parser.add_argument("--config", type=Path, default=CONFIGS / config, help="TOML file (default: %(default)s)")
    parser.add_argument("--out", type=Path, required=True, help="folder of the run; an existing run is taken up")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="change a key of the configuration"
    )
    parser.add_argument("--workers", type=int, default=1, help="data processes (default: %(default)s)")


def _vae(args: argparse.Namespace) -> None:
    from .config import read_config
    from .vae import VAETraining, train

    config = read_config(VAETraining, args.config, args.set)
    train(config, args.out, args.workers, args.clips, args.start)


def _latents(args: argparse.Namespace) -> None:
    from .latents import encode_folder

    encode_folder(args.vae, args.clips, args.out)


def _audio(args: argparse.Namespace) -> None:
    from .audio import AudioTraining, train
    from .config import read_config

    train(read_config(AudioTraining, args.config, args.set), args.out, args.workers)


def _teacher(args: argparse.Namespace) -> None:
    from .config import read_config
    from .teacher import TeacherTraining, train

    config = read_config(TeacherTraining, args.config, args.set)
    train(config, args.data, args.out, args.workers, args.compile, args.start, args.vae, args.audio)


def _akd(args: argparse.Namespace) -> None:
    from .akd import AKDTraining, train
    from .config import read_config

    config = read_config(AKDTraining, args.config, args.set)
    train(config, args.teacher, args.vae, args.data, args.out, args.workers)


def _refine(args: argparse.Namespace) -> None:
    from .config import read_config
    from .refine import RefineTraining, train

    config = read_config(RefineTraining, args.config, args.set)
    train(config, args.network, args.vae, args.clips, args.data, args.out, args.workers, args.count)


def _reader(args: argparse.Namespace) -> None:
    from .config import read_config
    from .reader import ReaderTraining, train

    train(read_config(ReaderTraining, args.config, args.set), args.vae, args.out, args.workers)


def _evaluate(args: argparse.Namespace) -> None:
    from .evaluate import evaluate

    evaluate(
        args.network,
        args.vae,
        args.reader,
        args.out,
        count=args.count,
        seconds=args.seconds,
        seed=args.seed,
        steps=args.steps,
        sampler=args.sampler,
        recordings=args.recordings,
        transcripts=args.transcripts,
    )


def _prove(args: argparse.Namespace) -> None:
    from .config import read_config
    from .prove import Proof, prove

    config = read_config(Proof, args.config, args.set)
    out = args.out or args.runs / "results"
    prove(config, args.teacher, args.vae, args.reader, args.data, args.runs, out, args.minutes)


def _bundle(args: argparse.Namespace) -> None:
    for source, target in ((args.network, NETWORK), (args.vae, VAE), (args.reader, READER), (args.teacher, TEACHER)):
        if source is not None:
            bundle(source, target)


def _add_corpus_commands(commands: Commands) -> None:
    """Data: drawn clips, real videos, latents."""
    synth = commands.add_parser("synth", help="draw and voice clips")
    cli.add_arguments(synth)
    synth.set_defaults(run=cli.run)
    sheet = commands.add_parser("synth-sheet", help="draw a sheet of speaking faces")
    cli.add_sheet_arguments(sheet)
    sheet.set_defaults(run=cli.run_sheet)
    latents = commands.add_parser("latents", help="encode drawn clips for the diffusion trainers")
    latents.add_argument("--vae", type=Path, default=VAE, help="nano VAE checkpoint (default: the bundled one)")
    latents.add_argument("--clips", type=Path, required=True, help="folder that `synth` wrote")
    latents.add_argument("--out", type=Path, required=True, help="folder for the encoded clips; existing ones are kept")
    latents.set_defaults(run=_latents)
    prepare = commands.add_parser("prepare", help="turn a folder of videos into prepared clips")
    real_cli.add_prepare_arguments(prepare)
    prepare.set_defaults(run=real_cli.run_prepare)


def _add_nano_commands(commands: Commands) -> None:
    """Training of nano's parts, and what ships."""
    vae = commands.add_parser("vae", help="train nano's VAE on drawn faces")
    _add_run(vae, "nano_vae.toml")
    vae.add_argument("--clips", type=Path, help="train on the clips in this folder (default: draw independent faces)")
    vae.add_argument("--start", type=Path, help="VAE checkpoint to start from")
    vae.set_defaults(run=_vae)
    audio = commands.add_parser("audio", help="teach the audio projection to hear articulation, without pictures")
    _add_run(audio, "nano_audio.toml")
    audio.set_defaults(run=_audio)
    teacher = commands.add_parser("teacher", help="train the flow-matching teacher on prepared clips")
    _add_run(teacher, "nano_teacher.toml")
    teacher.add_argument("--data", type=Path, required=True, help="folder of prepared clips")
    teacher.add_argument("--start", type=Path, help="checkpoint to start from")
    teacher.add_argument("--audio", type=Path, help="checkpoint of `audio` to hear with from the start")
    teacher.add_argument("--vae", type=Path, help="nano VAE checkpoint; with it sample strips are written")
    teacher.add_argument(
        "--compile", action="store_true", help="torch.compile the network (takes a minute, then faster)"
    )
    teacher.set_defaults(run=_teacher)
    akd = commands.add_parser("akd", help="distil the teacher into a few-step student that continues itself")
    _add_run(akd, "nano_akd.toml")
    akd.add_argument("--teacher", type=Path, required=True, help="teacher checkpoint")
    akd.add_argument("--vae", type=Path, default=VAE, help="nano VAE checkpoint (default: the bundled one)")
    akd.add_argument("--data", type=Path, required=True, help="folder of prepared clips of at least `chunks` chunks")
    akd.set_defaults(run=_akd)
    refine = commands.add_parser("refine", help="teach the decoder to draw what a network makes")
    _add_run(refine, "nano_refine.toml")
    refine.add_argument("--network", type=Path, required=True, help="DiT checkpoint")
    refine.add_argument("--vae", type=Path, required=True, help="nano VAE checkpoint")
    refine.add_argument("--clips", type=Path, required=True, help="folder that `synth` wrote")
    refine.add_argument("--data", type=Path, required=True, help="folder that `latents` made of it")
    refine.add_argument("--count", type=int, default=120, help="clips to generate for (default: %(default)s)")
    refine.set_defaults(run=_refine)
    ship = commands.add_parser("bundle", help="put trained weights into the repository, in float16")
    ship.add_argument("--network", type=Path, help="student; into models/nano")
    ship.add_argument("--vae", type=Path, help="nano VAE; into models/nano")
    ship.add_argument("--reader", type=Path, help="reader; into training/weights")
    ship.add_argument("--teacher", type=Path, help="teacher; into training/weights")
    ship.set_defaults(run=_bundle)


def _add_full_commands(commands: Commands) -> None:
    """Training of the published size, started by torchrun."""
    full_teacher = commands.add_parser("full-teacher", help="train a 1.3B teacher on videos (start it by torchrun)")
    _add_run(full_teacher, "full_pro_teacher.toml")
    real_cli.add_full_teacher_arguments(full_teacher)
    full_teacher.set_defaults(run=real_cli.run_full_teacher)
    full_akd = commands.add_parser("full-akd", help="distil a 1.3B teacher (start it by torchrun)")
    _add_run(full_akd, "full_pro_akd.toml")
    real_cli.add_full_akd_arguments(full_akd)
    full_akd.set_defaults(run=real_cli.run_full_akd)


def _add_measuring_commands(commands: Commands) -> None:
    """Measures of what was trained."""
    reader = commands.add_parser("reader", help="train the network that measures drawn faces")
    _add_run(reader, "reader.toml")
    reader.add_argument("--vae", type=Path, default=VAE, help="nano VAE checkpoint (default: the bundled one)")
    reader.set_defaults(run=_reader)
    measure = commands.add_parser(
        "evaluate", help="measure a checkpoint on held-out people and voices; strips and plots"
    )
    measure.add_argument("--network", type=Path, default=NETWORK, help="DiT checkpoint (default: the bundled one)")
    measure.add_argument("--vae", type=Path, default=VAE, help="nano VAE checkpoint (default: the bundled one)")
    measure.add_argument("--reader", type=Path, default=READER, help="reader checkpoint (default: the bundled one)")
    measure.add_argument("--out", type=Path, required=True)
    measure.add_argument("--count", type=int, default=8, help="held-out people (default: %(default)s)")
    measure.add_argument("--seconds", type=float, default=10.0, help="of speech for each (default: %(default)s)")
    measure.add_argument("--sampler", default="", help="few_step or euler instead of the checkpoint's own")
    measure.add_argument("--recordings", type=Path, help="folder of recorded speech to measure on too")
    measure.add_argument(
        "--transcripts", type=Path, help='what they say, lines "name: text", to align them with (.gz too)'
    )
    measure.add_argument("--seed", type=int, default=0)
    measure.add_argument("--steps", type=int, default=0, help="denoising steps; 0 takes the checkpoint's own")
    measure.set_defaults(run=_evaluate)
    proof = commands.add_parser("prove", help="train the rivals of AKD and TRE and measure all of them")
    proof.add_argument("--config", type=Path, default=CONFIGS / "proof.toml", help="TOML file (default: %(default)s)")
    proof.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="change a key of it")
    proof.add_argument(
        "--teacher", type=Path, default=TEACHER, help="teacher that all of them start from (default: the kept one)"
    )
    proof.add_argument("--vae", type=Path, default=VAE, help="nano VAE checkpoint (default: the bundled one)")
    proof.add_argument("--reader", type=Path, default=READER, help="reader checkpoint (default: the bundled one)")
    proof.add_argument("--data", type=Path, required=True, help="folder of prepared clips")
    proof.add_argument("--runs", type=Path, required=True, help="folder for the training runs and the measured videos")
    proof.add_argument("--out", type=Path, help="folder for table, plot and figures (default: RUNS/results)")
    proof.add_argument("--minutes", type=float, default=1e9, help="begin nothing new after that long")
    proof.set_defaults(run=_prove)
    metrics = commands.add_parser("metrics", help="FID, FVD, sync, identity and quality of videos against real ones")
    real_cli.add_metrics_arguments(metrics)
    metrics.set_defaults(run=real_cli.run_metrics)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m training", description=__doc__)
    commands = parser.add_subparsers(required=True)
    _add_corpus_commands(commands)
    _add_nano_commands(commands)
    _add_full_commands(commands)
    _add_measuring_commands(commands)
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    try:
        args.run(args)
    except (TrainingError, CheckpointError, ConfigError) as error:
        # What a user gave is wrong, and the message says what: a traceback would bury it.
        raise SystemExit(f"{parser.prog}: {error}") from None


if __name__ == "__main__":
    main()
