"""Where configurations and weights of the repository lie."""

from __future__ import annotations

import argparse
from pathlib import Path

from ...models.family import NANO_NETWORK, NANO_VAE
from .device import add_device_argument

ROOT = Path(__file__).parents[2]
CONFIGS = ROOT / "training" / "configs"
# What the pack ships.
NETWORK, VAE = NANO_NETWORK, NANO_VAE
# Networks that measure, and the start of the student's baselines; not part of the pack.
PROBE = ROOT / "training" / "weights" / "face_probe.safetensors"
TEACHER = ROOT / "training" / "weights" / "nano_teacher.safetensors"


def add_run_arguments(parser: argparse.ArgumentParser, config: str) -> None:
    """Arguments of every training run; ``config`` is the name of its default configuration."""
    add_config_arguments(parser, config)
    parser.add_argument("--out", type=Path, required=True, help="folder of the run; an existing run is continued")
    parser.add_argument("--workers", type=int, default=1, help="number of data processes (default: %(default)s)")


def add_nano_arguments(parser: argparse.ArgumentParser, config: str) -> None:
    """Arguments of a training run of nano, which takes one device."""
    add_run_arguments(parser, config)
    add_device_argument(parser)


def add_config_arguments(parser: argparse.ArgumentParser, config: str) -> None:
    """``--config`` and ``--set``."""
    parser.add_argument("--config", type=Path, default=CONFIGS / config, help="TOML file (default: %(default)s)")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="override a key of the configuration; repeatable",
    )


def add_vae_argument(parser: argparse.ArgumentParser) -> None:
    """``--vae``, by default the bundled one."""
    parser.add_argument("--vae", type=Path, default=VAE, help="nano VAE checkpoint (default: the bundled one)")
