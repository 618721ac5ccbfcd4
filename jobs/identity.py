"""What nodes have put on a MODEL as a hash that is the same in every process: of code and values, never of addresses.

Functions count by their code, defaults and closures; objects by their class and attributes. Three things have no stable
content and count by name alone: what a function reads from its module's globals, what belongs to PyTorch, NumPy or the
process (compiled code, loggers, threads, the server), and values without attributes (locks, ids, open files). Another
version of Python compiles other code, and is another identity.
"""

from __future__ import annotations

import functools
import hashlib
import itertools
import types
from collections import deque
from collections.abc import Mapping, Set
from enum import Enum
from fractions import Fraction
from pathlib import PurePath
from typing import Any

import numpy as np
import torch
from comfy.model_patcher import ModelPatcher
from torch import Tensor, nn

from ..host.network import without_empty

MAX_DEPTH = 24
_LIBRARIES = ("torch", "numpy")
_OF_THE_PROCESS = ("logging", "threading", "concurrent", "asyncio", "aiohttp", "uuid", "server", "execution")
"""Modules whose objects differ from run to run: through a logger, every other logger can be reached."""
_PLAIN = (bool, int, float, complex, str, bytes, bytearray, Fraction, PurePath, range, slice, np.generic)
_RUNTIME_OPTIONS = ("to_load_options", "multigpu_clones")
MULTIGPU_COPIES = "multigpu"
"""Key of core's copies of the MODEL for other GPUs."""


def patches_id(model: ModelPatcher) -> str:
    """Hash of overrides, wrappers and patches other than weights' (which `hash_value` feeds); "" where there are none.

    Options that are empty do not count: nodes leave them behind.
    """
    options = {key: value for key, value in model.model_options.items() if key not in _RUNTIME_OPTIONS}
    parts = {
        "options": options,
        "objects": model.object_patches,
        "weight wrappers": model.weight_wrapper_patches,
        "wrappers": model.wrappers,
        "callbacks": model.callbacks,
        "injections": model.injections,
        "hooks": list(model.hook_patches.values()),
        "models": {key: kept for key, kept in model.additional_models.items() if key != MULTIGPU_COPIES},
    }
    changed = {name: kept for name, part in parts.items() if (kept := without_empty(part))}
    if not changed:
        return ""
    digest = hashlib.blake2b(digest_size=16)
    _Content(model).feed(digest, changed)
    return digest.hexdigest()


def hash_value(digest: Any, value: Any) -> None:
    """Feed a weight patch to ``digest``: any nesting of tensors, weight adapters, plain values and functions."""
    if isinstance(value, Tensor):
        _feed_tensor(digest, value)
    elif isinstance(value, (list, tuple)):
        for item in value:
            hash_value(digest, item)
    elif hasattr(value, "weights"):
        digest.update(type(value).__name__.encode())
        hash_value(digest, value.weights)
    elif value is None or isinstance(value, (bool, int, float, str)):
        digest.update(repr(value).encode())
    else:
        _Content(None).feed(digest, value)


def _own_modules(model: ModelPatcher) -> dict[int, str]:
    """Names of the network's own modules by ``id``, whatever objects are patched into it at the moment."""
    originals = model.object_patches_backup
    patched = tuple(f"{name}." for name in originals)
    own = {
        id(module): name
        for name, module in model.model.named_modules()
        if not patched or not f"{name}.".startswith(patched)
    }
    for name, original in originals.items():
        if isinstance(original, nn.Module):
            own.update({id(module): f"{name}.{inner}".rstrip(".") for inner, module in original.named_modules()})
    return own


class _Content:
    """Feeds the content of any object to a digest; modules of the MODEL itself, hashed elsewhere, by name alone."""

    def __init__(self, model: ModelPatcher | None) -> None:
        self._network = None if model is None else model.model
        self._own = {} if model is None else _own_modules(model)
        self._open: list[int] = []
        # Values are kept with their digests: the id of one that is gone may be another's.
        self._known: dict[tuple[int, int], tuple[Any, bytes]] = {}

    def feed(self, digest: Any, value: Any) -> None:
        """Every value is led by its kind and length, so that different nestings differ."""
        if value is None or isinstance(value, _PLAIN):
            _write(digest, type(value).__name__, repr(value))
        elif isinstance(value, Tensor):
            _write(digest, "tensor")
            _feed_tensor(digest, value)
        elif isinstance(value, np.ndarray):
            _write(digest, "array", str((value.dtype, value.shape)), hashlib.sha256(value.tobytes()).hexdigest())
        elif isinstance(value, (type, types.ModuleType, types.BuiltinFunctionType, Enum, torch.dtype, torch.device)):
            _write(digest, "name", _name(value))
        elif _is_library(value):
            _write(digest, "library", _name(value if isinstance(value, types.FunctionType) else type(value)))
        elif id(value) in self._open or len(self._open) >= MAX_DEPTH:
            _write(digest, "again", _name(type(value)))
        else:
            digest.update(self._composite_digest(value))

    def _composite_digest(self, value: Any) -> bytes:
        """Hash of a value with parts, made once for each depth: shared parts would be visited along every path."""
        key = id(value), len(self._open)
        if key not in self._known:
            own = hashlib.blake2b(digest_size=16)
            self._open.append(id(value))
            self._feed_composite(own, value)
            self._open.pop()
            self._known[key] = value, own.digest()
        return self._known[key][1]

    def _feed_composite(self, digest: Any, value: Any) -> None:
        _write(digest, "composite", _name(type(value)))
        if isinstance(value, Mapping):
            # In their order: wrappers lie around each other in it.
            self._feed_all(digest, *itertools.chain.from_iterable(value.items()))
        elif isinstance(value, Set):
            self._feed_unordered(digest, list(value))
        elif isinstance(value, (list, tuple, deque)):
            self._feed_all(digest, *value)
        elif isinstance(value, types.MethodType):
            self._feed_all(digest, value.__func__, value.__self__)
        elif isinstance(value, functools.partial):
            self._feed_all(digest, value.func, value.args, value.keywords)
        elif isinstance(value, types.FunctionType):
            self._feed_function(digest, value)
        elif isinstance(value, types.CodeType):
            self._feed_code(digest, value)
        elif isinstance(value, ModelPatcher):
            self._feed_patcher(digest, value)
        elif isinstance(value, nn.Module):
            self._feed_module(digest, value)
        else:
            # Without attributes it counts by its class: a lock, a UUID, a compiled function.
            self.feed(digest, _attributes(value))

    def _feed_all(self, digest: Any, *values: Any) -> None:
        _write(digest, str(len(values)))
        for value in values:
            self.feed(digest, value)

    def _feed_unordered(self, digest: Any, values: list[Any]) -> None:
        def hashed(value: Any) -> bytes:
            own = hashlib.blake2b(digest_size=16)
            self.feed(own, value)
            return own.digest()

        _write(digest, str(len(values)))
        for content in sorted(map(hashed, values)):
            digest.update(content)

    def _feed_function(self, digest: Any, function: types.FunctionType) -> None:
        _write(digest, _name(function))
        cells = [_content(cell) for cell in function.__closure__ or ()]
        parts = function.__code__, function.__defaults__, function.__kwdefaults__, cells, function.__dict__
        self._feed_all(digest, *parts)

    def _feed_code(self, digest: Any, code: types.CodeType) -> None:
        # Without names of files and line numbers, which change nothing.
        digest.update(code.co_code)
        self._feed_all(digest, code.co_names, code.co_varnames, code.co_consts)

    def _feed_patcher(self, digest: Any, patcher: ModelPatcher) -> None:
        """A MODEL by its weights and what is on it, not by where they are now."""
        if patcher.model is self._network:
            _write(digest, "this model")
            return
        self._feed_all(digest, patcher.model, sorted(patcher.patches), patcher.object_patches)
        for name in sorted(patcher.patches):
            hash_value(digest, patcher.patches[name])

    def _feed_module(self, digest: Any, module: nn.Module) -> None:
        if id(module) in self._own:
            _write(digest, "the network's", self._own[id(module)])
            return
        for name, part in sorted(module.named_modules()):
            if id(part) in self._own:
                _write(digest, name, "the network's", self._own[id(part)])
                continue
            _write(digest, name, _name(type(part)))
            # Public numbers and texts only: flags are also set where weights are moved, and PyTorch keeps addresses.
            settings = {
                key: item
                for key, item in vars(part).items()
                if type(item) in (int, float, str) and not key.startswith("_")
            }
            self.feed(digest, settings)
            for key, tensor in sorted([*part._parameters.items(), *part._buffers.items()]):
                if tensor is not None:
                    _write(digest, key)
                    _feed_tensor(digest, tensor)


def _content(cell: types.CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:
        # Not assigned yet.
        return None


def _attributes(value: Any) -> dict[str, Any]:
    """An object's attributes, those in slots too."""
    found: dict[str, Any] = {}
    for base in type(value).__mro__:
        slots = vars(base).get("__slots__", ())
        for slot in (slots,) if isinstance(slots, str) else slots:
            is_private = slot.startswith("__") and not slot.endswith("__")
            name = f"_{base.__name__.lstrip('_')}{slot}" if is_private else slot
            if name not in ("__dict__", "__weakref__") and hasattr(value, name):
                found[name] = getattr(value, name)
    return {**found, **getattr(value, "__dict__", {})}


def _write(digest: Any, *words: str) -> None:
    for word in words:
        data = word.encode(errors="surrogatepass")
        digest.update(f"{len(data)}:".encode())
        digest.update(data)


def _is_library(value: Any) -> bool:
    """Whether a function or an object's class counts by name alone; modules of networks have content."""
    if isinstance(value, nn.Module):
        return False
    owner = value if isinstance(value, types.FunctionType) else type(value)
    return str(owner.__module__).split(".")[0] in (*_LIBRARIES, *_OF_THE_PROCESS)


def _name(value: Any) -> str:
    if isinstance(value, (Enum, torch.dtype, torch.device)):
        return str(value)
    return f"{getattr(value, '__module__', '')}.{getattr(value, '__qualname__', getattr(value, '__name__', ''))}"


def _feed_tensor(digest: Any, tensor: Tensor) -> None:
    digest.update(f"{tuple(tensor.shape)}:{tensor.dtype}".encode())
    digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
