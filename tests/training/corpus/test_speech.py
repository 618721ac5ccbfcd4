"""Speech, visemes and whole clips."""

import argparse
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

pytest.importorskip(
    "skia", reason="no Skia, or none of the libraries it draws with (libegl1, libgl1)", exc_type=ImportError
)

from asymtalker.models.rates import SAMPLE_RATE
from asymtalker.training.corpus.augment import augment
from asymtalker.training.corpus.clip import identity_of, make_clip, make_poses, make_speech
from asymtalker.training.corpus.motion import POSE_FIELDS, Pose
from asymtalker.training.corpus.render import opening
from asymtalker.training.corpus.speech import Espeak, Phoneme, Voice, resample
from asymtalker.training.corpus.viseme import CHANNELS, mouth_track
from asymtalker.training.corpus.write import add_arguments, run

VOICE = Voice("en-us", "f3", 160, 50, 50)


def test_phonemes_cover_the_audio_in_order() -> None:
    with Espeak() as engine:
        utterance = engine.speak("Five brave wolves moved over there.", VOICE)
    starts = [p.start for p in utterance.phonemes]
    assert starts == sorted(starts)
    assert utterance.phonemes[-1].end == pytest.approx(utterance.seconds, abs=0.05)
    assert {"f", "v", "m", "w"} <= {p.symbol for p in utterance.phonemes}
    assert np.abs(utterance.audio).max() > 0.1


def test_a_fresh_engine_says_the_same_again() -> None:
    said = []
    for _ in range(2):
        with Espeak() as engine:
            said.append([engine.speak("Hello there.", VOICE).audio for _ in range(2)])
    for first, second in zip(*said, strict=True):
        np.testing.assert_array_equal(first, second)


def test_unknown_voice_is_named_in_the_error() -> None:
    with Espeak() as engine, pytest.raises(ValueError, match=r"xx-nowhere\+f3"):
        engine.speak("Hello.", Voice("xx-nowhere", "f3", 160, 50, 50))


def test_resampling_keeps_a_tone() -> None:
    t = np.arange(22050) / 22050
    out = resample(np.sin(2 * np.pi * 440 * t).astype(np.float32), 22050)
    assert out.shape == (16000,)
    np.testing.assert_allclose(out, np.sin(2 * np.pi * 440 * np.arange(16000) / 16000), atol=1e-3)


@pytest.mark.parametrize("symbol", ["p", "b", "m"])
@pytest.mark.parametrize("shift", [0.0, 0.011, 0.023, 0.037])
def test_bilabials_close_the_lips_wherever_they_fall(symbol: str, shift: float) -> None:
    phonemes = (
        Phoneme("ɑː", 0.2, 0.5 + shift),
        Phoneme(symbol, 0.5 + shift, 0.56 + shift),
        Phoneme("ɑː", 0.56 + shift, 0.9),
    )
    audio = (0.3 * np.sin(np.arange(SAMPLE_RATE) * 0.2)).astype(np.float32)
    track = mouth_track(phonemes, audio, 25)
    assert track.shape == (25, len(CHANNELS))
    gaps = [opening(Pose(**dict(zip(CHANNELS, row.tolist(), strict=True)))) for row in track]
    assert min(gaps[10:17]) < 0.05
    assert max(gaps) > 0.6
    assert gaps[0] < 0.02


def test_rounded_and_spread_vowels_differ() -> None:
    audio = (0.3 * np.sin(np.arange(SAMPLE_RATE) * 0.2)).astype(np.float32)
    rounded, spread = (mouth_track((Phoneme(s, 0.2, 0.8),), audio, 25)[12] for s in ("uː", "iː"))
    rounding, width = CHANNELS.index("rounding"), CHANNELS.index("width")
    assert rounded[rounding] > 0.8 > 0.2 > spread[rounding]
    assert spread[width] > 0.7 > 0.2 > rounded[width]


def test_clip_is_a_function_of_seed_and_index() -> None:
    clip, again = make_clip(1, 7, 9), make_clip(1, 7, 9)
    assert clip.frames.shape == (9, 256, 256, 3)
    assert clip.audio.shape == (9 * 640,)
    assert clip.audio.dtype == np.float32
    assert clip.poses.shape == (9, len(POSE_FIELDS))
    assert clip.mouth_boxes.shape == (9, 4)
    assert clip.portrait.shape == (256, 256, 3)
    for name in ("frames", "audio", "poses", "opening", "width", "rounding", "mouth_boxes", "portrait"):
        np.testing.assert_array_equal(getattr(clip, name), getattr(again, name))
    assert identity_of(1, 7) == clip.identity != identity_of(1, 8)


@pytest.mark.parametrize("index", [0, 1, 2])
def test_speech_starts_early_and_the_mouth_is_lively(index: int) -> None:
    speech = make_speech(4, index, 6.0)
    assert speech.audio.shape == (6 * SAMPLE_RATE,)
    assert np.abs(speech.audio[: int(0.4 * SAMPLE_RATE)]).max() > 0.02
    gaps = [opening(Pose.from_row(row)) for row in make_poses(4, index, speech, 150)]
    assert max(gaps) > 0.4
    assert min(gaps) < 0.02


def test_augmentation_follows_its_generator_and_keeps_the_length() -> None:
    audio = (0.2 * np.sin(np.arange(16000) * 0.1)).astype(np.float32)
    out = augment(audio, np.random.default_rng(5))
    assert out.shape == audio.shape
    assert out.dtype == np.float32
    assert np.abs(out).max() <= 1.0
    np.testing.assert_array_equal(out, augment(audio, np.random.default_rng(5)))
    assert not np.array_equal(out, augment(audio, np.random.default_rng(6)))
    assert np.isfinite(augment(np.zeros(1600, np.float32), np.random.default_rng(5))).all()


def test_command_writes_whole_clips_and_keeps_those_there(tmp_path: Path) -> None:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    given = ["--out", str(tmp_path), "--seed", "2", "--start", "5", "--count", "2", "--frames", "5"]
    args = parser.parse_args(given)
    assert run(args) == 0
    files = sorted(tmp_path.iterdir())
    assert len(files) == 2
    assert load_file(files[0])["frames"].shape == (5, 256, 256, 3)
    times = [f.stat().st_mtime_ns for f in files]
    assert run(args) == 0
    assert [f.stat().st_mtime_ns for f in sorted(tmp_path.iterdir())] == times
    assert run(parser.parse_args([*given, "--size", "64"])) == 0
    (small,) = set(tmp_path.glob("*_64px_*5.safetensors"))
    assert load_file(small)["frames"].shape == (5, 64, 64, 3)
