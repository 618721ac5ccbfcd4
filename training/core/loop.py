"""The parts that all training loops share: resume, learning rate, averages, reports, saving."""

from __future__ import annotations

import csv
import logging
import math
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import torch
from torch import nn
from torch.utils.tensorboard import SummaryWriter

from ...models.files import replacing
from .config import RunConfig, learning_rate, set_learning_rate
from .device import CPU
from .images import figure
from .state import TrainingState

log = logging.getLogger(__name__)

REPORT_EVERY = 20
GRADIENT_NORM = 1.0


def clip_and_step(
    parameters: Iterable[nn.Parameter], optimizer: torch.optim.Optimizer, limit: float = GRADIENT_NORM
) -> float:
    """One step of ``optimizer`` with gradients clipped to the norm ``limit``; returns their norm before."""
    norm = nn.utils.clip_grad_norm_(list(parameters), limit).item()
    step_if_finite(optimizer, norm)
    return norm


def step_if_finite(optimizer: torch.optim.Optimizer, norm: float) -> None:
    """Step and clear the gradients; where their ``norm`` is not finite, only clear them.

    A single such step would make every weight and every moment of the optimiser NaN.
    """
    if math.isfinite(norm):
        optimizer.step()
    else:
        log.warning("skipped an optimiser step: the norm of its gradient is %s", norm)
    optimizer.zero_grad()


class TrainingRun:
    """A run in the folder ``out``, resumed where it was stopped.

    It keeps ``state.safetensors``, ``losses.csv`` with its picture ``losses.png``, and TensorBoard's files; ``publish``
    writes what others use (checkpoints, sample strips) whenever the state was saved.
    """

    def __init__(
        self,
        name: str,
        out: Path,
        config: RunConfig,
        state: TrainingState,
        publish: Callable[[], None],
        device: torch.device = CPU,
    ) -> None:
        self.device = device
        self.name, self.out, self.config, self.state, self.publish = name, out, config, state, publish
        if state.resume(out / "state.safetensors"):
            log.info("resuming the run in %s at step %d", out, state.step)
        self.writer = SummaryWriter(str(out / "tensorboard"), purge_step=state.step) if state.leads else None
        self.rows = _read_losses(out / "losses.csv", state.step) if state.leads else []

    def generator(self, part: int = 0) -> torch.Generator:
        """Noise of the current step, on the run's device: it follows from (seed, step), also in a resumed run.

        part: number of the process, whose share of the batch has noise of its own.
        """
        return torch.Generator(self.device).manual_seed(
            self.config.seed * 1_000_003 + self.state.step + part * 1_000_000_007
        )

    def set_learning_rate(self) -> None:
        """Set this step's rate in every optimiser."""
        config = self.config
        rate = learning_rate(self.state.step, config.steps, config.learning_rate, config.warmup, config.decay)
        for optimizer in self.state.optimizers.values():
            set_learning_rate(optimizer, rate)

    def finish_step(self, terms: Mapping[str, float]) -> None:
        """Count the step, average the weights, report ``terms`` and save when it is time."""
        state = self.state
        state.step += 1
        for name, average in state.averages.items():
            average.update(state.networks[name], state.step)
        if self.writer is not None:
            self._report(self.writer, terms)
        if state.step % self.config.save_every == 0 or state.step == self.config.steps:
            state.save(self.out / "state.safetensors")
            if self.writer is not None:
                _write_losses(self.out / "losses.csv", self.rows)
                plot_losses(self.rows, self.out / "losses.png")
            self.publish()

    def _report(self, writer: SummaryWriter, terms: Mapping[str, float]) -> None:
        step = self.state.step
        for name, value in terms.items():
            writer.add_scalar(f"{self.name}/{name}", value, step)
        self.rows.append((step, dict(terms)))
        if step % REPORT_EVERY == 0:
            log.info("step %d: %s", step, ", ".join(f"{name} {value:.4f}" for name, value in terms.items()))

    def close(self) -> None:
        if self.writer is not None:
            self.writer.close()


Rows = list[tuple[int, dict[str, float]]]


def _read_losses(path: Path, last_step: int) -> Rows:
    if not path.exists():
        return []
    with path.open(newline="") as file:
        rows = [(int(row.pop("step")), {k: float(v) for k, v in row.items() if v}) for row in csv.DictReader(file)]
    return [row for row in rows if row[0] <= last_step]


def _write_losses(path: Path, rows: Rows) -> None:
    names = sorted({name for _, terms in rows for name in terms})
    with replacing(path) as partial, partial.open("w", newline="") as file:
        table = csv.DictWriter(file, ["step", *names])
        table.writeheader()
        table.writerows({"step": step, **terms} for step, terms in rows)


def plot_losses(rows: Rows, path: Path) -> None:
    """Every term over the steps, a running mean on a logarithmic scale, one panel each."""
    names = sorted({name for _, terms in rows for name in terms})
    with figure(path, (9, 2 * len(names)), len(names)) as panels:
        for name, axes in zip(names, panels, strict=True):
            points = [(step, terms[name]) for step, terms in rows if name in terms]
            window = max(1, len(points) // 100)
            groups = [points[i : i + window] for i in range(0, len(points), window)]
            axes.plot([g[-1][0] for g in groups], [sum(v for _, v in g) / len(g) for g in groups])
            axes.set_yscale("log")
            axes.set_ylabel(name)
        panels[-1].set_xlabel("step")
