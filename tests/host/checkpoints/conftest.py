"""A small network that the bundled VAE goes with."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch


@pytest.fixture
def network(scene: SimpleNamespace) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """Tensors and metadata of a network that works on the bundled VAE and log-mel features."""
    model = scene.model.model
    return model.diffusion_model.state_dict(), model.checkpoint.config.to_metadata()
