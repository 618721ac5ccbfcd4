"""Training configurations: TOML files read into frozen dataclasses; unknown keys are refused."""

from __future__ import annotations

import dataclasses
import math
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

T = TypeVar("T")


class TrainingError(ValueError):
    """A configuration or a data file that training cannot use; the message names it and the reason."""


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """What every run's configuration has.

    ``steps`` of ``batch`` samples each, drawn from ``seed``. The learning rate rises over ``warmup`` steps and falls
    over the last ``decay`` (0..1] of the run, see ``learning_rate``. What is published are weights averaged with
    ``ema_decay``; state and averages are written every ``save_every`` steps.
    """

    seed: int
    steps: int
    batch: int
    learning_rate: float
    warmup: int
    decay: float
    ema_decay: float
    save_every: int

    def record(self) -> dict[str, Any]:
        """The settings, without those at their default: runs from before a setting existed can still be resumed."""
        values = dataclasses.asdict(self)
        return {item.name: values[item.name] for item in dataclasses.fields(self) if values[item.name] != item.default}


def read_config(kind: type[T], path: Path, overrides: list[str], changes: Mapping[str, Any] | None = None) -> T:
    """A ``kind`` from the TOML file ``path``, changed by ``key=value`` overrides (values in TOML syntax) and values.

    Raises:
        TrainingError: no such file, not TOML, an unknown key, or a missing one.
    """
    try:
        values = tomllib.loads(path.read_text("utf-8"))
        for override in overrides:
            values |= tomllib.loads(override)
        values |= changes or {}
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise TrainingError(f"cannot read the configuration {path}: {error}") from error
    names = {field.name for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
    if unknown := sorted(values.keys() - names):
        raise TrainingError(f"{path}: unknown keys {unknown}; {kind.__name__} has {sorted(names)}")
    try:
        return kind(**values)
    except TypeError as error:
        raise TrainingError(f"{path}: {error}") from error


def learning_rate(step: int, steps: int, peak: float, warmup: int, decay: float) -> float:
    """Linear warm-up, ``peak``, then a cosine to a twentieth of it over the last ``decay`` (0..1] of the run."""
    if step < warmup:
        return peak * (step + 1) / warmup
    start = max(warmup, steps * (1 - decay))
    progress = max(0.0, step - start) / max(1, steps - start)
    return peak * (0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * min(1.0, progress))))


def set_learning_rate(optimizer: Any, rate: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = rate * group.get("lr_ratio", 1.0)
