"""Training state on disk: everything a resumed run needs to equal an uninterrupted one, without pickles."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ...models.checkpoint import CheckpointError, read_checkpoint, write_checkpoint


class Ema:
    """Exponential moving average of a network's parameters; what ships."""

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.decay = decay
        self.shadow = {name: p.detach().clone() for name, p in network.named_parameters()}

    @torch.no_grad()
    def update(self, network: nn.Module, step: int) -> None:
        """Warm up so that the average is not held back by the first weights."""
        decay = min(self.decay, (1 + step) / (10 + step))
        for name, parameter in network.named_parameters():
            self.shadow[name].lerp_(parameter, 1 - decay)


@dataclass
class TrainingState:
    """Networks, optimisers and averages under names, and the number of steps done.

    The order of data and noise follows from (seed, step), so no generator's state belongs here.
    """

    networks: dict[str, nn.Module]
    optimizers: dict[str, torch.optim.Optimizer]
    averages: dict[str, Ema]
    config: Mapping[str, Any]
    step: int = 0

    @property
    def leads(self) -> bool:
        """Whether this process writes files."""
        return True

    def tensors(self) -> dict[str, Tensor]:
        """All of it under one name each."""
        tensors: dict[str, Tensor] = {}
        for name, network in self.networks.items():
            tensors |= {f"network.{name}.{key}": value for key, value in network.state_dict().items()}
        for name, ema in self.averages.items():
            tensors |= {f"average.{name}.{key}": value for key, value in ema.shadow.items()}
        for name, optimizer in self.optimizers.items():
            for index, values in optimizer.state_dict()["state"].items():
                tensors |= {f"optimizer.{name}.{index}.{key}": torch.as_tensor(v) for key, v in values.items()}
        return tensors

    def metadata(self) -> dict[str, str]:
        return {"step": str(self.step), "training_config": json.dumps(dict(self.config))}

    def save(self, path: Path) -> None:
        """Write all or nothing."""
        path.parent.mkdir(parents=True, exist_ok=True)
        write_checkpoint(path, self.tensors(), self.metadata())

    def place(self, tensor: Tensor, like: Tensor) -> Tensor:
        """A tensor of the file as the run holds it: on the device of ``like``."""
        return tensor.to(like.device)

    def resume(self, path: Path) -> bool:
        """Take up the run at ``path``; False where there is none.

        Raises:
            CheckpointError: the file is damaged, or was made with another configuration.
        """
        if not path.exists():
            return False
        tensors, metadata = read_checkpoint(path)
        saved = json.loads(metadata["training_config"])
        wanted = json.loads(json.dumps(dict(self.config)))
        # A run may be prolonged or brought to an end sooner, and be sampled in another way.
        if changed := sorted(k for k in {*saved, *wanted} - {"steps", "sampling"} if saved.get(k) != wanted.get(k)):
            raise CheckpointError(
                f"{path} was made with other values of {changed}: use another folder or that configuration"
            )
        for name, network in self.networks.items():
            network.load_state_dict(self._placed(tensors, f"network.{name}.", network.state_dict()))
        for name, ema in self.averages.items():
            ema.shadow = self._placed(tensors, f"average.{name}.", ema.shadow)
        for name, optimizer in self.optimizers.items():
            parameters = [p for group in optimizer.param_groups for p in group["params"]]
            state: dict[int, dict[str, Tensor]] = {}
            for key, value in _below(tensors, f"optimizer.{name}.").items():
                index, field = key.split(".", 1)
                like = parameters[int(index)]
                is_moment = value.shape == like.shape
                state.setdefault(int(index), {})[field] = self.place(value, like) if is_moment else value
            optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
        self.step = int(metadata["step"])
        return True

    def _placed(self, tensors: Mapping[str, Tensor], prefix: str, likes: Mapping[str, Tensor]) -> dict[str, Tensor]:
        found = _below(tensors, prefix)
        return {key: self.place(value, likes[key]) if key in likes else value for key, value in found.items()}


def _below(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
