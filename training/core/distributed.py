"""Networks larger than one device: parameters, gradients, averages and optimiser state sharded over processes.

PyTorch's FSDP2 does the sharding (``torchrun`` starts the processes, one for each GPU; without it there is one).
Names of parameters stay as they are, so that what is gathered is an ordinary checkpoint.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.utils.checkpoint import checkpoint

from ...models.checkpoint import write_checkpoint
from ...models.dit import TalkingHeadDiT
from .config import TrainingError
from .state import TrainingState

# What the trainers call beside `forward`.
NETWORK_METHODS = ("encode_audio", "audio_keys_values", "velocity")


@dataclass(frozen=True)
class World:
    """The processes of a run: ``rank`` of ``size``, each computing on its ``device``."""

    rank: int
    size: int
    device: torch.device
    mesh: DeviceMesh

    @property
    def leads(self) -> bool:
        """Whether this process writes files."""
        return self.rank == 0

    def mean(self, value: float) -> float:
        """``value`` averaged over the processes."""
        total = torch.tensor(value, dtype=torch.float64, device=self.device)
        dist.all_reduce(total)
        return total.item() / self.size


@contextmanager
def joined_world() -> Iterator[World]:
    """The processes that torchrun started, or the only one there is; NCCL on GPUs, gloo on CPUs."""
    has_gpu = torch.cuda.is_available()
    kind = "cuda" if has_gpu else "cpu"
    device = torch.device(kind, int(os.environ.get("LOCAL_RANK", "0"))) if has_gpu else torch.device(kind)
    if has_gpu:
        torch.cuda.set_device(device)
    backend = "nccl" if has_gpu else "gloo"
    if "RANK" in os.environ:
        dist.init_process_group(backend)
    else:
        dist.init_process_group(backend, store=dist.HashStore(), rank=0, world_size=1)
    try:
        size = dist.get_world_size()
        yield World(dist.get_rank(), size, device, init_device_mesh(kind, (size,)))
    finally:
        dist.destroy_process_group()


@torch.no_grad()
def average_gradients(parameters: Iterable[nn.Parameter], world: World) -> None:
    """Replace the gradients of whole networks by their mean over the processes; every process has to call it."""
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    total = torch.cat([gradient.flatten() for gradient in gradients])
    dist.all_reduce(total)
    for gradient, part in zip(gradients, total.split([g.numel() for g in gradients]), strict=True):
        gradient.copy_(part.view_as(gradient)).div_(world.size)


def shard(network: TalkingHeadDiT, world: World, *, mixed_precision: bool, recompute: bool) -> None:
    """Shard ``network``, in place, block by block.

    Args:
        mixed_precision: gather parameters in bfloat16 and reduce gradients in float32; the shards stay float32.
        recompute: keep no activations within a block, compute them again when its gradient is.
    """
    policy = MixedPrecisionPolicy(
        param_dtype=torch.bfloat16 if mixed_precision else None,
        reduce_dtype=torch.float32,
        # Time steps up to 1000 do not fit into bfloat16; autocast casts what may be cast.
        cast_forward_inputs=False,
    )
    # The root too goes back to its shards after a forward pass: not every one is followed by a backward pass.
    apply = partial(fully_shard, mesh=world.mesh, mp_policy=policy, reshard_after_forward=True)
    for block in network.blocks:
        # Its keys and values are computed outside the block's own forward pass, once for all denoising steps.
        apply(block.cross_attn)
        register_fsdp_forward_method(block.cross_attn, "key_value")
        if recompute:
            # As a function around the method: a module around the block would change the parameters' names.
            block.forward = partial(checkpoint, block.forward, use_reentrant=False)  # pyright: ignore[reportAttributeAccessIssue]
        apply(block)
    apply(network)
    for name in NETWORK_METHODS:
        register_fsdp_forward_method(network, name)


def place(tensor: Tensor, like: Tensor) -> Tensor:
    """``tensor``, which every process holds whole, on the device of ``like`` and sharded in its way."""
    if not isinstance(like, DTensor):
        return tensor.to(like.device, like.dtype)
    moved = tensor.to(like.device, like.dtype)
    return distribute_tensor(moved, like.device_mesh, like.placements, src_data_rank=None)


def whole(tensor: Tensor) -> Tensor:
    """The gathered ``tensor``; every process has to call it."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


@torch.no_grad()
def load_state(network: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Fill a sharded ``network`` from a whole checkpoint.

    Raises:
        TrainingError: tensors are missing, or have other shapes.
    """
    own = network.state_dict()
    if missing := sorted(own.keys() - tensors.keys()):
        raise TrainingError(f"the checkpoint lacks {len(missing)} tensors of this network, such as {missing[0]}")
    for name, parameter in own.items():
        if tensors[name].shape != parameter.shape:
            raise TrainingError(
                f"{name} is {list(tensors[name].shape)} in the checkpoint and {list(parameter.shape)} in the network"
            )
        parameter.copy_(place(tensors[name], parameter))


@torch.no_grad()
def gather_state(tensors: Mapping[str, Tensor], world: World) -> dict[str, Tensor]:
    """Whole ``tensors`` on the CPU of the process that leads, nothing on the others; all have to call it."""
    gathered: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        complete = whole(tensor)
        if world.leads:
            gathered[name] = complete.cpu()
    return gathered


@dataclass
class ShardedState(TrainingState):
    """Training state of sharded networks: one ordinary file, whatever the number of processes."""

    world: World | None = None

    @property
    def leads(self) -> bool:
        return self._joined.leads

    @property
    def _joined(self) -> World:
        if self.world is None:
            raise ValueError("the sharded state of a run needs its processes")
        return self.world

    def save(self, path: Path) -> None:
        """Gather and write, all or nothing; every process has to call it."""
        tensors = gather_state(self.tensors(), self._joined)
        if self.leads:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_checkpoint(path, tensors, self.metadata())
        dist.barrier()

    def place(self, tensor: Tensor, like: Tensor) -> Tensor:
        return place(tensor, like)
