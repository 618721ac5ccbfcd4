"""A CUDA device without a GPU: what is on it are FakeTensors, and everything that crosses to or from it is logged.

Tensors on the host stay real, so that NumPy, hashes and files work. A tensor on the device has a shape, a type, strides
and a device, which is enough for PyTorch to refuse what a GPU would refuse: operands on different devices or of
different types. Values that come back from the device are constants.
"""

from __future__ import annotations

import contextlib
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock
from weakref import WeakSet

import torch
import torch._subclasses.fake_tensor as fake_tensor
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

GIB = 1 << 30
CUDA = torch.device("cuda", 0)
VALUE = 0.5
"""Of whatever is read from the device."""

PRODUCTS = {"mm", "addmm", "bmm", "baddbmm", "convolution"}
"""Operators whose operands must share a type, which their shape functions do not check."""
NO_KERNEL = {"empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided", "_unsafe_view", "_to_copy"}
SYNCHRONISING = {"nonzero", "masked_select", "_unique2", "equal"}
PACK = str(Path(__file__).resolve().parents[2])
LIBRARIES = ("/torch/", "/einops/", "contextlib", "<frozen", __file__)


@dataclass
class Counts:
    """What one chunk costs beside arithmetic."""

    to_device: int = 0
    to_device_bytes: int = 0
    to_host: int = 0
    to_host_bytes: int = 0
    syncs: int = 0
    emptied_caches: int = 0
    loads: int = 0
    kernels: int = 0
    kernel_bytes: int = 0
    places: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Card:
    """The simulated GPU; ``cached`` are bytes that PyTorch's allocator holds without using them."""

    name: str = "NVIDIA H100 80GB HBM3"
    capability: tuple[int, int] = (9, 0)
    memory: int = 80 * GIB
    cached: int = 0


class SimulatedCuda(TorchDispatchMode):
    """While it is active, "cuda" is a device; ``counts`` has an entry for everything up to each ``mark``."""

    def __init__(self, card: Card) -> None:
        super().__init__()
        self.card = card
        self.fake = FakeTensorMode(allow_non_fake_inputs=True)
        self.counts = [Counts()]
        self.products: set[str] = set()
        self.pinned: WeakSet[torch.UntypedStorage] = WeakSet()
        self._weightless = False

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Nothing here is compiled; without this, PyTorch would switch its compiler off and on at each operation."""
        return False

    @contextlib.contextmanager
    def weightless(self) -> Iterator[None]:
        """Host tensors that are created in here have no values either: weights of any size cost nothing."""
        before, self._weightless = self._weightless, True
        try:
            yield
        finally:
            self._weightless = before

    def mark(self) -> None:
        """What follows is counted apart."""
        self.counts.append(Counts())

    def note(self, kind: str, size: int = 0) -> None:
        """Count an event of that ``kind``, a field of ``Counts``, at the place in the code that caused it."""
        counts = self.counts[-1]
        setattr(counts, kind, getattr(counts, kind) + 1)
        if kind in ("to_device", "to_host"):
            setattr(counts, f"{kind}_bytes", getattr(counts, f"{kind}_bytes") + size)
        place = f"{kind} {_place()}"
        counts.places[place] = counts.places.get(place, 0) + 1

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = func._schema.name.split("::")[-1]
        if func.namespace == "prim":
            return args[0].fake_device if name == "device" else func(*args, **kwargs)
        leaves = tree_leaves((args, kwargs))
        tensors = [leaf for leaf in leaves if isinstance(leaf, Tensor)]
        asked = next((leaf for leaf in leaves if isinstance(leaf, torch.device)), None)
        on_device = any(_is_on_device(tensor) for tensor in tensors)
        to_device = asked is not None and asked.type == "cuda"
        if not on_device:
            kwargs = self._without_pinning(kwargs)
            if name in ("is_pinned", "_pin_memory"):
                return self._pinning(name, tensors[0])
        if not (to_device or self._weightless or any(isinstance(tensor, FakeTensor) for tensor in tensors)):
            return self._marked_as_pinned(func(*args, **kwargs))
        if name == "_local_scalar_dense":
            return self._scalar(tensors[0])
        crossing = self._crossing(name, args, kwargs, asked)
        if crossing is not None:
            return crossing
        return self._on_shapes(func, name, args, kwargs, tensors, on_device or to_device)

    # ---- what crosses

    def _crossing(self, name: str, args: Any, kwargs: Any, asked: torch.device | None) -> Any:
        """Log a copy between host and device; what it returns if that is to be real, else None."""
        if name == "copy_" and args[0].device.type != args[1].device.type:
            target, source = args[0], args[1]
            non_blocking = kwargs.get("non_blocking", len(args) > 2 and args[2])
        elif name == "_to_copy" and asked is not None and args[0].device.type != asked.type:
            target, source = None, args[0]
            non_blocking = kwargs.get("non_blocking", False)
        else:
            return None
        dtype = (kwargs.get("dtype") or source.dtype) if target is None else target.dtype
        to_host = source.device.type == "cuda"
        self.note("to_host" if to_host else "to_device", source.numel() * dtype.itemsize)
        host_side = target if to_host else source
        if not non_blocking or host_side is None or not self._is_pinned(host_side):
            self.note("syncs")
        if not to_host or self._weightless or isinstance(target, FakeTensor):
            return None
        received = torch.empty(source.shape, dtype=dtype) if target is None else target
        return received.fill_(VALUE if dtype.is_floating_point else 1)

    def _scalar(self, tensor: Tensor) -> bool | int | float:
        if _is_on_device(tensor):
            self.note("to_host", tensor.element_size())
            self.note("syncs")
        if tensor.dtype == torch.bool:
            return True
        return VALUE if tensor.dtype.is_floating_point else 1

    # ---- pinned memory

    def _pinning(self, name: str, tensor: Tensor) -> Any:
        if name == "is_pinned":
            return self._is_pinned(tensor)
        copy = tensor.clone()
        self.pinned.add(copy.untyped_storage())
        return copy

    def _is_pinned(self, tensor: Tensor) -> bool:
        return isinstance(tensor, FakeTensor) or tensor.untyped_storage() in self.pinned

    def _without_pinning(self, kwargs: dict[str, Any]) -> dict[str, Any]:
        self._pin_next = bool(kwargs.get("pin_memory"))
        return {**kwargs, "pin_memory": False} if self._pin_next else kwargs

    def _marked_as_pinned(self, made: Any) -> Any:
        if self._pin_next and isinstance(made, Tensor):
            self.pinned.add(made.untyped_storage())
        return made

    # ---- arithmetic

    def _on_shapes(self, func: Any, name: str, args: Any, kwargs: Any, tensors: list[Tensor], counted: bool) -> Any:
        if name in PRODUCTS:
            self.products.add(name)
            if len({tensor.dtype for tensor in tensors}) > 1:
                raise RuntimeError(f"{name} of {[tensor.dtype for tensor in tensors]}: a GPU needs one type")
        if name in SYNCHRONISING and counted:
            self.note("syncs")
        if not all(isinstance(tensor, FakeTensor) for tensor in tensors):
            args, kwargs = tree_map(self._as_fake, (args, kwargs))
        with self.fake:
            out = func(*args, **kwargs)
        made = [leaf for leaf in tree_leaves(out) if isinstance(leaf, Tensor)]
        if any(_is_on_device(tensor) and tensor.dtype == torch.complex128 for tensor in made):
            raise RuntimeError(f"{name} makes complex128 on the device")
        if counted and name not in NO_KERNEL and not func.is_view:
            counts = self.counts[-1]
            counts.kernels += 1
            counts.kernel_bytes += sum(_num_bytes(tensor) for tensor in {id(t): t for t in (*tensors, *made)}.values())
        return out

    def _as_fake(self, value: Any) -> Any:
        real = isinstance(value, Tensor) and not isinstance(value, FakeTensor)
        return self.fake.from_tensor(value) if real else value


_attention = torch.nn.functional.scaled_dot_product_attention


def _fused_attention(q: Tensor, k: Tensor, v: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    """PyTorch asks the driver which attention kernel to take; here it is the fused one for the type."""
    if not _is_on_device(q):
        return _attention(q, k, v, *args, **kwargs)
    if len({q.dtype, k.dtype, v.dtype}) > 1:
        raise RuntimeError(f"attention of {q.dtype}, {k.dtype} and {v.dtype}: a GPU needs one type")
    mask = kwargs.get("attn_mask")
    if q.dtype in (torch.float16, torch.bfloat16) and mask is None:
        return torch.ops.aten._scaled_dot_product_flash_attention(q, k, v)[0]
    return torch.ops.aten._scaled_dot_product_efficient_attention(q, k, v, mask, False)[0]


def _is_on_device(tensor: Tensor) -> bool:
    return isinstance(tensor, FakeTensor) and tensor.fake_device.type == "cuda"


def _num_bytes(tensor: Tensor) -> int:
    """Of what is stored: an expanded tensor is read once."""
    if not _is_on_device(tensor):
        return 0
    stored = 1
    for size, stride in zip(tensor.shape, tensor.stride(), strict=True):
        stored *= size if stride else 1
    return stored * tensor.element_size()


def _place() -> str:
    """The innermost two lines of the pack or of ComfyUI that are executing."""
    found: list[str] = []
    frame: Any = sys._getframe(2)
    while frame is not None and len(found) < 2:
        name = frame.f_code.co_filename
        if not any(part in name for part in LIBRARIES):
            short = name.removeprefix(PACK + "/") if name.startswith(PACK) else "/".join(name.split("/")[-3:])
            found.append(f"{short}:{frame.f_lineno}")
        frame = frame.f_back
    return " < ".join(found)


def _set_data(tensor: FakeTensor, data: FakeTensor) -> None:
    """``tensor.data = data``, which leaves a FakeTensor on its device."""
    data_of_tensor: Any = torch.Tensor.data
    data_of_tensor.__set__(tensor, data)
    tensor.fake_device = data.fake_device


def _apply(module: torch.nn.Module, change: Any, recurse: bool = True) -> torch.nn.Module:
    """``Module._apply`` with new parameters: the data of real ones cannot be exchanged for data without values."""
    for child in module.children():
        _apply(child, change)
    for name, parameter in module._parameters.items():
        if parameter is not None:
            module._parameters[name] = torch.nn.Parameter(change(parameter), parameter.requires_grad)
    for name, buffer in module._buffers.items():
        if buffer is not None:
            module._buffers[name] = change(buffer)
    return module


# ---- torch.cuda


class _Stream:
    cuda_stream = 0

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.device = CUDA

    def wait_stream(self, other: Any) -> None: ...

    def wait_event(self, event: Any) -> None: ...

    def record_event(self, event: Any = None) -> Any:
        return event

    def __enter__(self) -> _Stream:
        return self

    def __exit__(self, *error: Any) -> None: ...


def _cuda_functions(simulated: SimulatedCuda, used: Any) -> dict[str, Any]:
    """Replacements of ``torch.cuda``'s functions; ``used()`` are the bytes of the weights on the device."""
    card = simulated.card

    def free_and_total(device: Any = None) -> tuple[int, int]:
        now = simulated.card
        return max(0, now.memory - used() - now.cached), now.memory

    class Stream(_Stream):
        def synchronize(self) -> None:
            simulated.note("syncs")

    class Event(_Stream):
        def record(self, stream: Any = None) -> None: ...

        def wait(self, stream: Any = None) -> None: ...

        def query(self) -> bool:
            return True

        def synchronize(self) -> None:
            simulated.note("syncs")

        def elapsed_time(self, end: Any) -> float:
            return 1.0

    properties = SimpleNamespace(
        name=card.name,
        major=card.capability[0],
        minor=card.capability[1],
        total_memory=card.memory,
        multi_processor_count=132,
        gcnArchName="",
    )
    return {
        "_lazy_init": lambda: None,
        "is_available": lambda: True,
        "is_initialized": lambda: True,
        "device_count": lambda: 2,
        "current_device": lambda: 0,
        "set_device": lambda device: None,
        "get_device_name": lambda device=None: card.name,
        "get_device_capability": lambda device=None: card.capability,
        "get_device_properties": lambda device=None: properties,
        "mem_get_info": free_and_total,
        "memory_stats": lambda device=None: Counter({"reserved_bytes.all.current": simulated.card.cached}),
        "get_allocator_backend": lambda: "native",
        "current_stream": lambda device=None: Stream(),
        "Stream": Stream,
        "Event": Event,
        "stream": lambda stream: contextlib.nullcontext(),
        "device": lambda device: contextlib.nullcontext(),
        "synchronize": lambda device=None: simulated.note("syncs"),
        "empty_cache": lambda: simulated.note("emptied_caches"),
        "ipc_collect": lambda: None,
        "reset_peak_memory_stats": lambda device=None: None,
        "is_bf16_supported": lambda including_emulation=True: True,
    }


@contextlib.contextmanager
def simulated_cuda(card: Card, used: Any) -> Iterator[SimulatedCuda]:
    """A process in which PyTorch finds ``card``; ComfyUI must be imported inside."""
    simulated = SimulatedCuda(card)
    torch._C._ensureCUDADeviceGuardSet()
    torch._C._set_only_lift_cpu_tensors(True)
    with (
        mock.patch.multiple(torch.cuda, **_cuda_functions(simulated, used)),
        mock.patch.object(fake_tensor, "init_gpu_context", lambda device: None),
        mock.patch.object(torch.nn.Module, "_apply", _apply),
        mock.patch.object(FakeTensor, "data", property(torch.Tensor.detach, _set_data), create=True),
        mock.patch.object(FakeTensor, "record_stream", lambda tensor, stream: None, create=True),
        mock.patch.object(FakeTensor, "tolist", lambda tensor: tensor.cpu().tolist()),
        # Not a TorchFunctionMode, which every operation would pass through.
        mock.patch.object(torch.nn.functional, "scaled_dot_product_attention", _fused_attention),
        torch.no_grad(),
        simulated,
    ):
        yield simulated
