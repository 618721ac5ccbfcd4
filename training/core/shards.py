"""What the recipes of the published size (1.3B) share: sharding, mixed precision, micro-batches.

A step's global ``batch`` is divided into micro-batches whose samples and noise follow from (seed, step, place in the
batch). Processes take them in turns, so that a run's result does not depend on their number.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from ...models.checkpoint import read_published, write_checkpoint
from ...models.config import DiTConfig
from ...models.dit import TalkingHeadDiT
from .config import RunConfig, TrainingError
from .data import Batch, PreparedClips, load_samples
from .distributed import World, gather_state, load_state, shard, whole
from .family import geometry
from .loop import GRADIENT_NORM, step_if_finite
from .state import Ema

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class FullConfig(RunConfig):
    """What sharded runs have in common.

    ``model`` is "pro" or "lite", ``network`` changes fields of its geometry. ``batch`` samples make a step, computed
    ``micro_batch`` at a time. ``mixed_precision`` and ``recompute`` as in ``distributed.shard``.
    """

    model: str
    micro_batch: int
    mixed_precision: bool
    recompute: bool
    network: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Drawn:
    """A micro-batch and its own source of noise."""

    batch: Batch
    generator: torch.Generator


class Shards:
    """Builds the networks of a run and runs its micro-batches.

    Raises:
        TrainingError: the batch cannot be divided among the processes.
    """

    def __init__(self, config: FullConfig, world: World) -> None:
        self.config, self.world = config, world
        self.per_step, rest = divmod(config.batch, config.micro_batch)
        if rest or self.per_step % world.size:
            raise TrainingError(
                f"a batch of {config.batch} in micro-batches of {config.micro_batch} cannot be divided among "
                f"{world.size} processes"
            )

    def network(self, start: Path | None, *, trained: bool = True) -> TalkingHeadDiT:
        """The sharded network, with the weights of ``start`` or initial ones.

        Raises:
            TrainingError: ``start`` is a checkpoint of another shape.
        """
        config = self.config
        wanted = geometry(config.model, config.network)
        tensors = _initial_tensors(wanted, config.seed) if start is None else read_published(start)[0]
        network = TalkingHeadDiT(wanted, device="meta")
        recompute = config.recompute and trained
        shard(network, self.world, mixed_precision=config.mixed_precision, recompute=recompute)
        network.to_empty(device=self.world.device)
        try:
            load_state(network, tensors)
        except TrainingError as error:
            raise TrainingError(f"{start} is no {config.model} network: {error}") from error
        return network.train(trained).requires_grad_(trained)

    def micro_batches(self, clips: PreparedClips, step: int, workers: int) -> Iterator[list[Drawn]]:
        """For each step from ``step`` on, this process' micro-batches."""
        config, world = self.config, self.world
        places = range(world.rank, self.per_step, world.size)
        numbers = [n * self.per_step + place for n in range(step, config.steps) for place in places]
        size = config.micro_batch
        batches = load_samples(clips, [list(range(n * size, (n + 1) * size)) for n in numbers], workers)
        remaining = iter(numbers)
        for _ in range(step, config.steps):
            yield [self._drawn(next(batches), config.seed * 1_000_003 + next(remaining)) for _ in places]

    def _drawn(self, batch: Batch, seed: int) -> Drawn:
        device = self.world.device
        return Drawn(batch.to(device), torch.Generator(device).manual_seed(seed))

    def accumulate(self, items: Sequence[T], loss: Callable[[T], Mapping[str, float]]) -> dict[str, float]:
        """Call ``loss``, which adds an item's gradients, for each micro-batch's item; terms averaged over all."""
        totals: dict[str, float] = {}
        for item in items:
            with self.precision():
                for name, value in loss(item).items():
                    totals[name] = totals.get(name, 0.0) + value / len(items)
        return {name: self.world.mean(value) for name, value in totals.items()}

    @contextmanager
    def precision(self) -> Iterator[None]:
        """The context for losses: tensors are created on the device by default, and autocast is set."""
        device = self.world.device
        with device, torch.autocast(device.type, torch.bfloat16, enabled=self.config.mixed_precision):
            yield

    def update(self, network: nn.Module, optimizer: torch.optim.Optimizer, num_batches: int) -> float:
        """One step with the mean gradient of ``num_batches`` on each process; returns its norm."""
        for parameter in network.parameters():
            if parameter.grad is not None:
                parameter.grad.div_(num_batches)
        norm = whole(nn.utils.clip_grad_norm_(network.parameters(), GRADIENT_NORM)).item()
        step_if_finite(optimizer, norm)
        return norm

    def publish(self, average: Ema, path: Path, metadata: Mapping[str, str]) -> None:
        """Write the averaged network as a checkpoint that the loader reads, in bfloat16; every process calls it."""
        tensors = gather_state(average.shadow, self.world)
        if self.world.leads:
            config = geometry(self.config.model, self.config.network)
            halved = {name: tensor.to(torch.bfloat16) for name, tensor in tensors.items()}
            write_checkpoint(path, halved, config.to_metadata() | dict(metadata))


def _initial_tensors(config: DiTConfig, seed: int) -> dict[str, Tensor]:
    torch.manual_seed(seed)
    network = TalkingHeadDiT(config)
    network.initialise()
    return network.state_dict()
