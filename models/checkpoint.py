"""Checkpoint files: read without executing code, errors that name the file, written all or nothing.

The format is detected from the first bytes, not from the name.
"""

from __future__ import annotations

import codecs
import pickle
import re
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from .config import CONFIG_FILE, parse_object
from .files import replacing

PICKLE_SUFFIXES = (".pth", ".pt", ".ckpt", ".bin", ".model")
INDEX_SUFFIX = ".index.json"
WRAPPERS = ("state_dict", "generator_ema", "model_ema", "ema", "params_ema", "generator", "model", "module", "params")
"""Entries of a training checkpoint that hold a network, in order of preference."""

MAX_CONFIG_BYTES = 1 << 20
MAX_NESTING = 4
MIN_SHARED_BYTES = 1 << 20
_SHARD = re.compile(r"(?P<stem>.+)-(?P<index>\d{5})-of-(?P<count>\d{5})(?P<suffix>\.\w+)")
MAX_PARTS = 1000
TEXT_BYTES = frozenset(range(0x20, 0x7F)) | {0x09, 0x0A, 0x0D}


class CheckpointError(ValueError):
    """A checkpoint file that cannot be read; the message names the file and the remedy."""


def read_checkpoint(path: str | Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors (CPU, memory-mapped where possible) and metadata of a .safetensors or PyTorch file.

    One part of a checkpoint in parts (``...-00001-of-00003.safetensors``), or its ``.index.json``, stands for all.

    Raises:
        CheckpointError: missing, truncated, not a checkpoint, or a pickle that holds more than tensors.
        ConfigError: an ``.index.json`` that is no JSON object.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"there is no checkpoint {path}")
    tensors: dict[str, Tensor] = {}
    metadata: dict[str, str] = {}
    for part in _parts(path):
        if not part.is_file():
            raise CheckpointError(f"{path} is one part of a checkpoint, of which {part.name} is missing: download it")
        held, described = _read_file(part)
        tensors |= held
        metadata = {**described, **metadata}
    return tensors, metadata


def read_published(path: str | Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """``read_checkpoint`` for a network that may lie in a published folder.

    The folder's ``config.json`` serves as the ``config`` metadata where the file has none; the entry ``config_file``
    then says where it is.

    Raises:
        CheckpointError: as ``read_checkpoint``; or ``config.json`` is no text.
    """
    tensors, metadata = read_checkpoint(path)
    beside = Path(path).with_name("config.json")
    if "config" not in metadata and beside.is_file():
        metadata = {**metadata, "config": read_text(beside), CONFIG_FILE: str(beside)}
    return tensors, metadata


def read_text(path: Path) -> str:
    """A small text file in UTF-8 or UTF-16, with or without a byte order mark.

    Raises:
        CheckpointError: it cannot be read, is too long for a configuration, or is no text.
    """
    try:
        with path.open("rb") as file:
            content = file.read(MAX_CONFIG_BYTES + 1)
        if len(content) > MAX_CONFIG_BYTES:
            raise CheckpointError(
                f"{path} is too large for a configuration (over {MAX_CONFIG_BYTES} bytes): replace it"
            )
        is_utf16 = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
        return content.decode("utf-16" if is_utf16 else "utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise CheckpointError(f"{path} cannot be read ({error}): download it again") from error


def _parts(path: Path) -> list[Path]:
    """The files of which the checkpoint consists that ``path`` is, or is one part of."""
    if path.name.endswith(INDEX_SUFFIX):
        names = parse_object(read_text(path), str(path)).get("weight_map")
        if not isinstance(names, dict) or not names:
            raise CheckpointError(f"{path} has no `weight_map` with the names of its files: download it again")
        files = sorted({str(name) for name in names.values()})
        for file in files:
            if file in ("", ".", "..") or Path(file).name != file or "\0" in file:
                raise CheckpointError(f"{path} names {file[:80]!r}, which is not a file in the same folder")
        return [path.with_name(file) for file in files]
    return [path.with_name(name) for name in numbered_parts(path.name)[1]]


def numbered_parts(name: str) -> tuple[str, list[str]]:
    """The stem and all file names of the set (``x-00001-of-00003.safetensors``) that the file ``name`` is one of.

    Of any other file, its own stem and name.
    """
    shard = _SHARD.fullmatch(name)
    if shard is None or not 1 <= int(shard["index"]) <= int(shard["count"]) <= MAX_PARTS:
        return Path(name).stem, [name]
    stem, suffix, count = shard["stem"], shard["suffix"], int(shard["count"])
    return stem, [f"{stem}-{number:05d}-of-{count:05d}{suffix}" for number in range(1, count + 1)]


def _read_file(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    try:
        with path.open("rb") as file:
            head = file.read(512)
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read ({error}): check its permissions and the disk") from error
    _refuse_what_is_no_checkpoint(path, head)
    is_zip, is_pickle, is_safetensors = head[:4] == b"PK\x03\x04", head[:1] == b"\x80", head[8:9] == b"{"
    if is_zip or (is_pickle and not is_safetensors):
        return _read_pickle(path), {}
    if path.suffix.lower() in PICKLE_SUFFIXES and not is_safetensors:
        raise CheckpointError(f"{path} is truncated or not a PyTorch file (it begins {head[:4]!r}): download it again")
    return _read_safetensors(path)


def _refuse_what_is_no_checkpoint(path: Path, head: bytes) -> None:
    start = head.lstrip().lower()
    if not head:
        what, remedy = "is empty (0 bytes): its download was truncated", "download it again"
    elif start.startswith((b"<!doctype", b"<html", b"<?xml", b"<head", b"<script")):
        what, remedy = (
            "is a web page (HTML) saved under the name of a checkpoint",
            "download the file itself (log in first?)",
        )
    elif start.startswith(b"version https://git-lfs"):
        what, remedy = (
            "is a Git LFS pointer, not the file itself",
            "run `git lfs pull`, or download the file",
        )
    elif head.startswith(b"GGUF"):
        what, remedy = "is a GGUF file, whose quantised weights cannot be used here", "use the safetensors version"
    elif TEXT_BYTES.issuperset(head):
        line = head.decode("ascii").strip().split("\n")[0][:60]
        what, remedy = f"is a text file that begins with {line!r}", "download the checkpoint itself"
    else:
        return
    raise CheckpointError(f"{path} {what}: {remedy}")


def _read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, dict(file.metadata() or {})  # noqa: SIM118
    except (SafetensorError, OSError, ValueError, TypeError, KeyError, AttributeError, RuntimeError) as error:
        raise CheckpointError(
            f"{path} is not a complete safetensors file ({error}): it is truncated or of another format; download it "
            "again"
        ) from error


def _read_pickle(path: Path) -> dict[str, Tensor]:
    try:
        # Files of PyTorch before 1.6 are no zip archives and cannot be mapped.
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{path} holds Python code or objects besides tensors and was not loaded: use its .safetensors version"
        ) from error
    # A damaged pickle can raise anything.
    except Exception as error:
        raise CheckpointError(f"{path} is truncated or not a PyTorch file ({error}): download it again") from error
    if not isinstance(content, Mapping):
        raise CheckpointError(
            f"{path} holds a {type(content).__name__}, not a dictionary of tensors: choose another file"
        )
    tensors = _unwrapped(content)
    if not tensors:
        held = ", ".join(str(name)[:40] for name in list(content)[:5]) or "nothing"
        raise CheckpointError(f"{path} holds no tensors ({held}): it is not a network's checkpoint")
    _check_memory(path, tensors)
    return tensors


def _unwrapped(content: Mapping[Any, Any]) -> dict[str, Tensor]:
    """The tensors of the network in a training checkpoint, which may keep it in a dictionary of its own."""
    for _ in range(MAX_NESTING):
        tensors = {name: value.detach() for name, value in content.items() if _is_named_tensor(name, value)}
        inner = [content[name] for name in WRAPPERS if isinstance(content.get(name), Mapping)]
        if not inner and not tensors and len(content) == 1:
            inner = [value for value in content.values() if isinstance(value, Mapping)]
        if not inner:
            return tensors
        content = inner[0]
    return {}


def _is_named_tensor(name: object, value: object) -> bool:
    return isinstance(name, str) and isinstance(value, Tensor)


def _check_memory(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Refuse tensors that would take more memory when they are copied than the file has bytes for them."""
    claimed = 0
    held: dict[int, int] = {}
    for name, tensor in tensors.items():
        plain = tensor.layout is torch.strided and tensor.device.type == "cpu" and not tensor.is_quantized
        if not plain:
            raise CheckpointError(f"{path}: the tensor {name[:80]} is sparse, quantised or without data")
        size, storage = tensor.numel() * tensor.element_size(), tensor.untyped_storage()
        if size > storage.nbytes():
            raise CheckpointError(
                f"{path}: the tensor {name[:80]} {list(tensor.shape)} expands {storage.nbytes()} bytes to {size}: the "
                "file is damaged or was made to fill the memory; use another one"
            )
        claimed += size
        held[storage.data_ptr()] = storage.nbytes()
    # Tied weights are stored once.
    if claimed > 2 * sum(held.values()) + MIN_SHARED_BYTES:
        raise CheckpointError(
            f"{path}: its tensors share {sum(held.values())} bytes and would take {claimed}: the file is damaged or "
            "was made to fill the memory; use another one"
        )


def differences(expected: Mapping[str, Iterable[int]], tensors: Mapping[str, Tensor], extra: Iterable[str] = ()) -> str:
    """How ``tensors`` differ from the names and shapes that a network has; empty where they do not.

    Args:
        extra: names that the network does not have and that must not be there.
    """
    groups = {
        "missing": [name for name in expected if name not in tensors],
        "of another shape": [
            name for name, shape in expected.items() if name in tensors and tuple(tensors[name].shape) != tuple(shape)
        ],
        "unexpected": list(extra),
    }
    parts = [f"{len(names)} {what} ({examples(names)})" for what, names in groups.items() if names]
    return f"tensors: {', '.join(parts)}" if parts else ""


def examples(names: Iterable[str]) -> str:
    """The first three of ``names`` for a message."""
    listed = [name[:80] for name in names]
    return ", ".join(listed[:3]) + (", ..." if len(listed) > 3 else "")


def write_checkpoint(path: str | Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write a safetensors file in one step (see ``files.replacing``)."""
    with replacing(Path(path)) as partial:
        save_file(
            {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, partial, dict(metadata)
        )
