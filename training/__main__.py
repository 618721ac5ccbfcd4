"""``python -m asymtalker.training COMMAND``: one entry for every training program."""

from __future__ import annotations

import argparse
import importlib
import logging
import sys

from ..models.checkpoint import CheckpointError
from ..models.config import ConfigError
from .core.config import TrainingError

COMMANDS = {
    "synth": ("corpus.write", "render clips of drawn faces with synthesised speech"),
    "synth-sheet": ("corpus.sheet", "render a sheet of speaking faces"),
    "people": ("people.write", "render clips of 3D people, drawn faces, or both"),
    "people-sheet": ("people.sheet", "render a sheet of 3D people and their mouths"),
    "prepare": ("videos.prepare", "turn a folder of videos into prepared clips"),
    "latents": ("core.latents", "encode rendered clips for the diffusion trainers"),
    "vae": ("recipes.vae", "train nano's VAE on drawn faces"),
    "audio": ("recipes.audio", "train the audio projection on articulation, without pictures"),
    "teacher": ("recipes.teacher", "train the flow-matching teacher on prepared clips"),
    "akd": ("recipes.akd", "distil the teacher into a few-step student by rolling it out on its own frames"),
    "refine": ("recipes.refine", "fine-tune the decoder on a network's latents"),
    "bundle": ("recipes.bundle", "copy trained weights into the repository, in float16"),
    "full-teacher": ("recipes.full_teacher", "train a 1.3B teacher on videos (start it with torchrun)"),
    "full-akd": ("recipes.full_akd", "distil a 1.3B teacher (start it with torchrun)"),
    "probe": ("evaluation.probe", "train the network that measures drawn faces"),
    "evaluate": ("evaluation.evaluate", "measure a checkpoint on held-out people and voices, with strips and plots"),
    "mouth": ("evaluation.mouth", "measure how much of the mouth's motion a network predicts from speech, in seconds"),
    "prove": ("evaluation.prove", "train AKD and its baselines, and measure them"),
    "exposure": ("evaluation.exposure", "measure what a network loses on its own continuity frames"),
    "metrics": ("evaluation.metrics", "compute FID, FVD, sync, identity and quality against real videos"),
}
"""Name -> module with ``add_arguments(parser)`` and ``run(args)``, and what the command is for."""


def main() -> None:
    """Run the command in ``sys.argv``; only its module is imported."""
    parser = argparse.ArgumentParser(
        prog="python -m asymtalker.training",
        description="\n".join(f"{name:14}{purpose}" for name, (_, purpose) in COMMANDS.items()),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "command", choices=COMMANDS, metavar="COMMAND", help="one of the above; COMMAND --help shows its options"
    )
    name = parser.parse_args(sys.argv[1:2]).command
    module, purpose = COMMANDS[name]
    program = importlib.import_module(f".{module}", __package__)
    command = argparse.ArgumentParser(prog=f"{parser.prog} {name}", description=purpose)
    program.add_arguments(command)
    args = command.parse_args(sys.argv[2:])
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    try:
        program.run(args)
    except (TrainingError, CheckpointError, ConfigError) as error:
        # The input is wrong, and the message names it; a traceback would hide it.
        raise SystemExit(f"{command.prog}: {error}") from None


if __name__ == "__main__":
    main()
