"""Checkpoint files: read without executing code, errors that name the file, written all or nothing."""

from __future__ import annotations

import os
import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

PICKLE_SUFFIXES = (".pth", ".pt", ".ckpt", ".bin", ".model")


class CheckpointError(ValueError):
    """A checkpoint file that cannot be read; the message names the file and the remedy."""


def read_checkpoint(path: str | Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors (CPU, memory-mapped where possible) and metadata of a .safetensors or PyTorch file.

    Raises:
        CheckpointError: missing, truncated, or a pickle that holds more than tensors.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"there is no checkpoint {path}")
    if path.suffix.lower() in PICKLE_SUFFIXES:
        return _read_pickle(path), {}
    return _read_safetensors(path)


def read_published(path: str | Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """``read_checkpoint`` for a network that may lie in a published folder.

    The folder's ``config.json`` serves as the ``config`` metadata where the file has none.

    Raises:
        CheckpointError: as ``read_checkpoint``.
    """
    tensors, metadata = read_checkpoint(path)
    beside = Path(path).with_name("config.json")
    if "config" not in metadata and beside.is_file():
        metadata = {**metadata, "config": beside.read_text("utf-8")}
    return tensors, metadata


def _read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, dict(file.metadata() or {})  # noqa: SIM118
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(
            f"{path} is not a whole safetensors file ({error}): it is truncated or of another format; download it again"
        ) from error


def _read_pickle(path: Path) -> dict[str, Tensor]:
    try:
        # Files of PyTorch before 1.6 are no zip archives and cannot be mapped.
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{path} holds Python code or objects besides tensors and was not loaded: use its .safetensors version"
        ) from error
    except (RuntimeError, EOFError, OSError, ValueError) as error:
        raise CheckpointError(f"{path} is truncated or not a PyTorch file ({error}): download it again") from error
    if not isinstance(content, Mapping):
        raise CheckpointError(f"{path} holds a {type(content).__name__}, not a dictionary of tensors")
    content = content.get("state_dict", content)
    return {name: value for name, value in content.items() if isinstance(value, Tensor)}


def write_checkpoint(path: str | Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write a safetensors file: to a temporary name beside it, flushed to disk, then renamed."""
    path = Path(path)
    partial = path.with_name(path.name + ".partial")
    try:
        save_file(
            {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, partial, dict(metadata)
        )
        with partial.open("rb") as file:
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
