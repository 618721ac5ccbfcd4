"""Configurations read off checkpoints, and what is refused."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
import torch
from torch import Tensor

from asymtalker.models.config import AudioConfig, ConfigError, DiTConfig, SamplingConfig
from asymtalker.models.dit import TalkingHeadDiT
from asymtalker.scripts._environment import ROOT
from asymtalker.tests.models.tiny import TINY

NUM_PARAMETERS = {"pro": 1_507_694_912, "lite": 1_526_864_256}
VAE_STRIDES = {"pro": (4, 8, 8), "lite": (8, 32, 32)}


def published(family: str) -> dict[str, Tensor]:
    """The published checkpoint's tensors without their data."""
    shapes = json.loads((ROOT / "tests" / "data" / f"keys_{family}.json").read_text(encoding="utf-8"))
    return {name: torch.empty(shape, device="meta") for name, shape in shapes.items()}


def tiny_tensors() -> dict[str, Tensor]:
    return TalkingHeadDiT(TINY, device="meta").state_dict()


def with_config(**changes: Any) -> dict[str, str]:
    return {"config": json.dumps({**TINY.to_dict(), **changes})}


@pytest.mark.parametrize("family", ["pro", "lite"])
def test_published_keys_are_reproduced(family: str) -> None:
    expected = published(family)
    config = DiTConfig.from_state_dict(expected)
    found = TalkingHeadDiT(config, device="meta").state_dict()
    assert {name: tuple(value.shape) for name, value in found.items()} == {
        name: tuple(value.shape) for name, value in expected.items()
    }
    assert len(found) == 843
    assert sum(math.prod(value.shape) for value in found.values()) == NUM_PARAMETERS[family]


@pytest.mark.parametrize("family", ["pro", "lite"])
def test_published_dimensions_need_no_metadata(family: str) -> None:
    config = DiTConfig.from_state_dict(published(family))
    assert (config.dim, config.ffn_dim, config.num_heads, config.num_layers) == (1536, 8960, 12, 30)
    assert config.vae_stride == VAE_STRIDES[family]
    assert config.in_dim == 2 * config.latent_channels
    assert (config.audio.blocks, config.audio.channels, config.audio.context_tokens) == (12, 768, 32)


def test_metadata_round_trip() -> None:
    assert DiTConfig.from_state_dict(tiny_tensors(), TINY.to_metadata()) == TINY


def test_another_architecture_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"not a checkpoint of the AsymTalker family.*patch_embedding"):
        DiTConfig.from_state_dict({"model.diffusion_model.input_blocks.0.0.weight": torch.zeros(1)})


def test_a_plain_video_model_is_refused() -> None:
    tensors = {name: value for name, value in tiny_tensors().items() if not name.startswith("audio_proj")}
    with pytest.raises(ConfigError, match="audio_proj"):
        DiTConfig.from_state_dict(tensors, TINY.to_metadata())


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ({"config": "{"}, "not JSON"),
        ({"config": "[1]"}, "JSON object, got list"),
        (with_config(dim=96), "dim is 96 in the config, but 48 in the tensors"),
        (with_config(patch_size=[1, 1, 1]), r"patch_size is \(1, 1, 1\) in the config, but \(1, 2, 2\) in the tensors"),
        (with_config(num_heads=5), "not a multiple of num_heads 5"),
        (with_config(audio={"blocks": 2, "channels": 6}), "2 x 6 features"),
        (None, "4 latent channels match no published VAE"),
    ],
)
def test_wrong_metadata_is_refused(metadata: dict[str, str] | None, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        DiTConfig.from_state_dict(tiny_tensors(), metadata)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dim": 0}, "dim must be an integer in 1"),
        ({"num_heads": 3}, "head_dim 16 cannot be split"),
        ({"in_dim": 9}, "in_dim must be 2 x out_dim"),
        ({"patch_size": (2, 2, 2)}, "compresses time in the VAE only"),
        ({"vae_stride": (4, 16)}, "three positive integers"),
        ({"freq_dim": 33}, "freq_dim must be even"),
    ],
)
def test_impossible_dimensions_are_refused(changes: dict[str, Any], message: str) -> None:
    values = {**TINY.to_dict(), "vae_stride": (4, 16, 16), "patch_size": (1, 2, 2), "audio": TINY.audio, **changes}
    with pytest.raises(ConfigError, match=message):
        DiTConfig(**values)


def test_audio_window_must_be_odd() -> None:
    with pytest.raises(ConfigError, match="must be odd"):
        AudioConfig(window=4)


@pytest.mark.parametrize(("stride_t", "vectors"), [(4, 8), (8, 12)])
def test_audio_vectors_of_a_later_latent_frame(stride_t: int, vectors: int) -> None:
    assert AudioConfig().later_vectors(stride_t) == vectors


def test_latent_frames() -> None:
    assert [TINY.latent_frames(frames) for frames in (1, 5, 33)] == [1, 2, 9]
    with pytest.raises(ConfigError, match="got 32"):
        TINY.latent_frames(32)


def test_sampling_metadata() -> None:
    wish = SamplingConfig(sampler="euler", steps=20, shift=5.0, guidance=3.0)
    assert SamplingConfig.from_metadata(wish.to_metadata()) == wish
    assert SamplingConfig.from_metadata(None) == SamplingConfig("few_step", 4, 5.0, 1.0, 33)
    with pytest.raises(ConfigError, match="`sampling` metadata is wrong"):
        SamplingConfig.from_metadata({"sampling": '{"stepz": 4}'})


@pytest.mark.parametrize(
    "wrong",
    [{"sampler": "ddim"}, {"steps": 0}, {"steps": 51}, {"shift": 0.0}, {"guidance": 0.5}, {"frames_per_chunk": 1}],
)
def test_wrong_sampling_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="must be"):
        SamplingConfig(**wrong)
