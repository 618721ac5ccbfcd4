"""A step of the optimiser: never with a gradient that is not finite."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from asymtalker.training.core.config import TrainingError
from asymtalker.training.core.device import training_device
from asymtalker.training.core.loop import clip_and_step


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_gradient_that_is_not_finite_changes_nothing(bad: float, caplog: pytest.LogCaptureFixture) -> None:
    network = nn.Linear(2, 1, bias=False)
    optimizer = torch.optim.AdamW(network.parameters(), lr=0.1)
    network(torch.ones(1, 2)).sum().backward()
    assert clip_and_step(network.parameters(), optimizer) == pytest.approx(math.sqrt(2))
    before, moments = network.weight.detach().clone(), optimizer.state[network.weight]["exp_avg"].clone()
    network(torch.tensor([[1.0, bad]])).sum().backward()
    assert not math.isfinite(clip_and_step(network.parameters(), optimizer))
    assert torch.equal(network.weight, before)
    assert torch.equal(optimizer.state[network.weight]["exp_avg"], moments)
    assert "skipped an optimiser step" in caplog.text
    network(torch.ones(1, 2)).sum().backward()
    clip_and_step(network.parameters(), optimizer)
    assert not torch.equal(network.weight, before) and network.weight.isfinite().all()


def test_a_device_that_cannot_be_used_is_named() -> None:
    assert training_device("cpu").type == "cpu"
    with pytest.raises(TrainingError, match="--device nowhere cannot be used"):
        training_device("nowhere")
