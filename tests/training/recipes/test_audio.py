"""Articulation from speech: the trainer without pictures, and where it meets the transformer."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from asymtalker.models.audio import MEL_CHANNELS
from asymtalker.models.checkpoint import read_checkpoint
from asymtalker.models.dit import TalkingHeadDiT
from asymtalker.training.core.articulation import ARTICULATION, articulation_loss, hidden_units, per_latent
from asymtalker.training.core.audio_projection import copy_audio_projection
from asymtalker.training.core.config import TrainingError, read_config
from asymtalker.training.core.paths import CONFIGS
from asymtalker.training.recipes import audio
from asymtalker.training.recipes.audio import AudioTraining, other_tract
from asymtalker.training.recipes.teacher import TeacherTraining, start_from


def tiny() -> AudioTraining:
    config = read_config(AudioTraining, CONFIGS / "nano_audio.toml", [])
    small = dataclasses.replace(config, batch=2, utterances=2, seconds=1.0, audio_context_dim=8, audio_hidden=48)
    return dataclasses.replace(small, steps=4, save_every=2, decay=0.0)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("audio")
    audio.train(tiny(), out, workers=0)
    return out


def network(config: AudioTraining) -> TalkingHeadDiT:
    built = TalkingHeadDiT(config.network())
    built.initialise()
    return built


def test_a_stopped_run_ends_like_one_that_was_not(trained: Path, tmp_path: Path) -> None:
    # The first half, its state kept, and the whole from there.
    audio.train(dataclasses.replace(tiny(), steps=2), tmp_path, workers=0)
    audio.train(tiny(), tmp_path, workers=0)
    half, whole = (read_checkpoint(folder / "audio.safetensors")[0] for folder in (tmp_path, trained))
    assert half.keys() == whole.keys() and all(torch.equal(half[name], whole[name]) for name in whole)
    assert len(list((trained / "speech").glob("utterance_*"))) == 2


def test_a_network_takes_the_projection_and_keeps_its_tokens(trained: Path) -> None:
    deaf = network(tiny())
    tokens = deaf.audio_proj.proj3.weight.clone()
    copy_audio_projection(deaf, trained / "audio.safetensors")
    given = read_checkpoint(trained / "audio.safetensors")[0]
    assert torch.equal(deaf.audio_proj.proj2.weight, given["audio_proj.proj2.weight"])
    # Tokens tell of articulation as they did; of the 16 other units nothing yet.
    assert torch.equal(deaf.audio_proj.proj3.weight[:, :32], tokens[:, :32])
    assert deaf.audio_proj.proj3.weight[:, 32:].abs().max() == 0
    with pytest.raises(TrainingError, match=r"audio\.safetensors holds no audio projection of this network's shape"):
        copy_audio_projection(network(dataclasses.replace(tiny(), audio_hidden=64)), trained / "audio.safetensors")


def test_a_start_with_another_projection_gives_the_transformer_alone() -> None:
    narrow, wide = network(tiny()), network(dataclasses.replace(tiny(), audio_hidden=64))
    torch.nn.init.normal_(narrow.head.head.weight)
    own = wide.audio_proj.proj1.weight.clone()
    start_from(wide, narrow.state_dict())
    assert torch.equal(wide.head.head.weight, narrow.head.head.weight)
    assert torch.equal(wide.audio_proj.proj1.weight, own)


def test_a_start_that_was_not_told_of_blinks_gives_nothing_in_place_of_them() -> None:
    before, told = network(tiny()), network(dataclasses.replace(tiny(), audio_lids=True))
    for known in (True, False):
        start_from(told, before.state_dict(), told=known)
        columns = told.audio_proj.proj3.weight
        assert torch.equal(columns[:, :-4], before.audio_proj.proj3.weight[:, :-4])
        assert bool(columns[:, -4:].any()) is known


def test_hidden_units_are_articulation() -> None:
    articulation = torch.rand(2, 33, len(ARTICULATION)) * torch.tensor([1.0, 1, 2, 1, 1, 1, 1, 1]) - torch.tensor(
        [0.0, 0, 1, 0, 0, 0, 0, 0]
    )
    units = hidden_units(articulation, tiny().network())
    assert units.shape == (2, 9, 48) and units.min() >= 0 and units[..., 32:].abs().max() == 0
    assert articulation_loss(units, articulation, 4) == 0
    # Frame 1 + 4 k + j of latent frame 1 + k is unit 8 j.
    assert torch.equal(per_latent(articulation, 4)[:, 3, 8], articulation[:, 10, 0])
    assert torch.equal(units[:, 0, 0], units[:, 0, 24])


def test_context_reaches_further_than_the_windows() -> None:
    projection = network(tiny()).audio_proj
    windows = torch.zeros(1, 33, 5, 1, MEL_CHANNELS)
    louder = windows.clone()
    # Frame 20 stands in the windows of frames 18 to 22, which are latent frames 5 (17-20) and 6 (21-24).
    for frame in range(18, 23):
        louder[0, frame, 22 - frame] = 1.0
    changed = (projection.hidden(louder) - projection.hidden(windows)).abs().amax(dim=(0, 2)) > 0
    assert changed.nonzero()[:, 0].tolist() == [4, 5, 6, 7]


def test_another_tract_keeps_the_timing() -> None:
    features = torch.zeros(30, 1, MEL_CHANNELS)
    features[10, 0, 40] = 5.0
    moved = other_tract(features, np.random.default_rng(3))
    assert (moved - moved.median()).abs().amax(dim=(1, 2)).argmax() == 10
    assert moved.shape == features.shape and not torch.equal(moved, features)


def test_condition_is_checked() -> None:
    config = read_config(TeacherTraining, CONFIGS / "nano_teacher.toml", [])
    with pytest.raises(TrainingError, match="condition_on must be one of"):
        dataclasses.replace(config, condition_on="thoughts")
