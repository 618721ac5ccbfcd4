"""When the lids close, and how a network is told of it."""

from dataclasses import replace

import pytest
import torch

from asymtalker.models.audio import AudioFeatures, RecordingFeatures
from asymtalker.models.blinks import known_lids, lids, silenced, with_blinks
from asymtalker.models.config import AudioConfig, ConfigError, DiTConfig
from asymtalker.models.dit import TalkingHeadDiT

CHANNELS = 4
TOLD = DiTConfig(
    dim=24, ffn_dim=48, num_heads=2, num_layers=1, in_dim=8, out_dim=4,
    audio=AudioConfig(blocks=1, channels=CHANNELS, intermediate_dim=16, context_tokens=2, lids=True),
)  # fmt: skip


def features(frames: int = 500) -> AudioFeatures:
    generator = torch.Generator().manual_seed(0)
    return AudioFeatures(torch.randn(frames, 1, CHANNELS, generator=generator), "test")


def told(seed: int, per_minute: float) -> RecordingFeatures:
    return with_blinks(features(), TOLD.audio, seed, per_minute)


def blinks(track: torch.Tensor) -> int:
    closed = (track == 1).int()
    return int((closed.diff(prepend=closed.new_zeros(1)) == 1).sum())


@pytest.mark.parametrize("seed", range(12))
def test_ten_seconds_have_two_to_five_blinks(seed: int) -> None:
    assert 2 <= blinks(lids(seed, 0, 250, 20)) <= 5


def test_any_part_of_a_track_is_that_of_the_whole() -> None:
    whole = lids(7, 0, 500, 20)
    for start, frames in ((0, 33), (28, 33), (111, 200), (490, 10)):
        assert torch.equal(lids(7, start, frames, 20), whole[start : start + frames])
    assert torch.equal(lids(7, -2, 10, 20)[2:], whole[:8])


@pytest.mark.parametrize("seed", range(20))
def test_videos_begin_with_open_eyes(seed: int) -> None:
    assert not lids(seed, -2, 4, 60).any()


def test_known_lids_are_open_before_and_after() -> None:
    track = known_lids(torch.tensor([0.1, 0.2, 0.3]))
    assert track(-2, 4).tolist() == pytest.approx([0, 0, 0.1, 0.2])
    assert track(2, 4).tolist() == pytest.approx([0.3, 0, 0, 0])
    assert not track(-9, 5).any() and not track(7, 5).any()


def test_rate_seed_and_none() -> None:
    assert blinks(lids(0, 0, 1500, 30)) in (29, 30, 31)
    assert not torch.equal(lids(0, 0, 250, 20), lids(1, 0, 250, 20))
    assert not lids(0, 0, 250, 0).any()


def test_windows_have_the_lids_of_their_frames() -> None:
    plain = features().stream()
    windows = told(7, 20).stream().windows(28, 33)
    assert torch.equal(windows[..., :-1], plain.windows(28, 33))
    assert torch.equal(windows[0, :, 2, 0, -1], lids(7, 28, 33, 20))
    assert torch.equal(windows[0, 1:, 1, 0, -1], windows[0, :-1, 2, 0, -1])


def test_identity_follows_speech_and_blinks() -> None:
    same, quick = told(7, 20).stream(), told(7, 60).stream()
    assert same.identity(0, 100) == told(7, 20).stream().identity(0, 100)
    assert same.identity(0, 100) != quick.identity(0, 100)
    assert same.identity(0, 100) != features().stream().identity(0, 100)


def test_silence_keeps_the_blinks() -> None:
    windows = told(7, 60).stream().windows(0, 33)
    silent = silenced(windows, TOLD.audio, torch.full((1, CHANNELS + 1), 0.5))
    assert torch.equal(silent[..., -1], windows[..., -1]) and (silent[..., :-1] == 0.5).all()
    assert not silenced(windows[..., :-1], AudioConfig()).any()


def test_each_frame_of_a_latent_frame_has_a_unit() -> None:
    network = TalkingHeadDiT(TOLD)
    network.initialise()
    windows = told(7, 60).stream().windows(0, 33)
    units = network.audio_proj.hidden(windows)[0, :, -4:]
    track = lids(7, 0, 33, 60)
    assert torch.equal(units[1:].flatten(), track[1:]) and (units[0] == track[0]).all()


def test_networks_that_are_not_told_get_the_audio_alone() -> None:
    audio = features()
    assert with_blinks(audio, AudioConfig(), 7, 20) is audio


def test_wrong_number_of_channels_is_named() -> None:
    network = TalkingHeadDiT(TOLD)
    with pytest.raises(ValueError, match="takes 5 channels of audio, got 4"):
        network.audio_proj(features().stream().windows(0, 33))


def test_lids_are_true_or_false_and_fit_the_hidden_units() -> None:
    with pytest.raises(ConfigError, match=r"audio\.lids must be true or false"):
        AudioConfig(lids=1)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"audio\.lids take 4 of 2 hidden units"):
        replace(TOLD, audio=replace(TOLD.audio, intermediate_dim=2))


def test_configuration_says_whether_lids_are_told() -> None:
    network = TalkingHeadDiT(TOLD)
    assert DiTConfig.from_state_dict(network.state_dict(), TOLD.to_metadata()).audio.lids
