"""The device of a nano trainer, and its precision."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from .config import TrainingError

CPU = torch.device("cpu")


def add_device_argument(parser: argparse.ArgumentParser) -> None:
    """``--device``."""
    parser.add_argument(
        "--device",
        default="cpu",
        help="device to train on, such as cuda (default: %(default)s); torchrun takes GPUs if there are any",
    )


def training_device(name: str) -> torch.device:
    """The device ``name``, once it has held a tensor.

    Raises:
        TrainingError: there is no such device, or PyTorch cannot use it.
    """
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0]
        raise TrainingError(f"--device {name} cannot be used ({reason}): choose another, such as cpu") from error
    return device


@contextmanager
def full_precision(device: torch.device) -> Iterator[None]:
    """No autocast and no TF32 within: for arithmetic whose rounding would show in the picture."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        with torch.autocast(device.type, enabled=False):
            yield
    finally:
        torch.set_float32_matmul_precision(before)
