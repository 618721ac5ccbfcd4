"""Figures against values that are known."""

from __future__ import annotations

import numpy as np
import pytest
import torch

pytest.importorskip(
    "skia", reason="no Skia, or none of the libraries it draws with (libegl1, libgl1)", exc_type=ImportError
)

from asymtalker.training.core.config import TrainingError
from asymtalker.training.evaluation.measure import Reading, correlation, frame_steps, psnr, window_figures
from asymtalker.training.evaluation.probe import TRACKS, FaceProbe
from asymtalker.training.evaluation.subjects import opening_proxy, read_speech, synthetic_subject


def test_correlation_finds_the_lag() -> None:
    track = np.random.default_rng(0).standard_normal(200)
    value, lag = correlation(np.roll(track, 2), track)
    assert lag == pytest.approx(2, abs=0.1)
    assert value == pytest.approx(1.0, abs=1e-6)
    assert correlation(np.zeros(50), track[:50]) == (-1.0, 0)


def test_psnr_of_a_known_error() -> None:
    black = torch.zeros(2, 4, 4, 3, dtype=torch.uint8)
    assert psnr(black, black + 255) == pytest.approx(0.0)
    assert psnr(black, black + 51) == pytest.approx(20 * np.log10(5), abs=1e-6)


def test_steps_are_mean_differences() -> None:
    frames = torch.zeros(3, 4, 4, 3, dtype=torch.uint8)
    frames[1:] = 51
    np.testing.assert_allclose(frame_steps(frames), [0.2, 0.0])


def reading_of(tracks: np.ndarray, identity: np.ndarray, steps: np.ndarray, seams: list[int]) -> Reading:
    sharpness = [1.0] + [0.5] * len(seams)
    return Reading([tracks], [identity], [steps], seams, sharpness, None, len(tracks))


def test_window_figures_of_a_half_sized_copy() -> None:
    rng = np.random.default_rng(1)
    truth = rng.standard_normal((100, len(TRACKS))).astype(np.float32)
    steps = np.full(100, 0.01)
    steps[[33, 61]] = 0.03
    reading = reading_of(0.5 * truth, np.linspace(0, 1, 100), steps, [33, 61])
    figures = window_figures(reading, truth, truth[:, 0], 0.0, 4.0)
    assert figures["sync"] == pytest.approx(1.0, abs=1e-5)
    assert figures["lag"] == pytest.approx(0, abs=0.1)
    assert figures["head_motion"] == pytest.approx(0.5, abs=1e-5)
    assert figures["mouth_motion"] == pytest.approx(0.5, abs=1e-5)
    assert figures["identity"] == pytest.approx(0.5, abs=1e-6)
    assert figures["seam"] == pytest.approx(3.0, abs=1e-6)
    assert figures["sharpness"] == pytest.approx(2 / 3)


def test_reading_takes_chunks_as_they_come() -> None:
    torch.manual_seed(0)
    probe = FaceProbe(8, 5).eval().requires_grad_(False)
    frames = torch.randint(0, 255, (7, 256, 256, 3), dtype=torch.uint8)
    whole, parts = Reading(), Reading()
    portrait = torch.zeros(5)
    whole.add(probe, portrait, frames, 1.0)
    for part in frames.split([3, 4]):
        parts.add(probe, portrait, part, 1.0)
    assert (parts.num_frames, parts.seams) == (7, [3])
    np.testing.assert_allclose(np.concatenate(parts.tracks), np.concatenate(whole.tracks), atol=1e-5)
    np.testing.assert_allclose(np.concatenate(parts.steps), np.concatenate(whole.steps), atol=1e-7)


def test_identity_distance_of_strangers_is_one() -> None:
    probe = FaceProbe(8, 4)
    probe.spread = torch.tensor(2.0)
    embeddings = torch.tensor([[0.0, 0, 0, 0], [2.0, 0, 0, 0]])
    assert probe.identity_distance(embeddings, torch.zeros(4)).tolist() == [0.0, 1.0]


def test_subject_is_the_same_again_and_its_truth_is_drawn() -> None:
    subject, again = (synthetic_subject(1, 0, 1.0) for _ in range(2))
    assert torch.equal(subject.audio, again.audio)
    assert subject.truth is not None
    assert subject.truth.shape == (25, len(TRACKS))
    assert psnr(subject.true_frames(0, 1), subject.portrait[None]) > 30


def test_proxy_follows_loud_vowels() -> None:
    time = np.arange(16000) / 16000
    vowel = np.sin(2 * np.pi * 700 * time) * (np.sin(2 * np.pi * 2 * time) > 0)
    proxy = opening_proxy(vowel.astype(np.float32), 25)
    assert proxy[2:5].mean() > 5 * max(proxy[9:11].mean(), 0.01)


def test_proxy_is_in_time_with_the_drawn_mouth() -> None:
    subject = synthetic_subject(1, 1, 10.0)
    assert subject.truth is not None
    likeness, lag = correlation(subject.truth[:, 0], opening_proxy(subject.audio.numpy(), subject.num_frames))
    assert abs(lag) < 0.6 and likeness > 0.6


def test_what_is_no_audio_is_named(tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("audio") / "speech.wav"
    path.write_bytes(b"no audio")
    with pytest.raises(TrainingError, match=r"speech\.wav"):
        read_speech(path)
