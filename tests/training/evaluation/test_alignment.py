"""Recordings aligned with what they say: known voices whose phonemes the engine told."""

from __future__ import annotations

import gzip
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("espeakng_loader", reason="no espeak-ng to speak with")
pytest.importorskip("pocketsphinx", reason="no PocketSphinx to align with")

from asymtalker.models.rates import FPS, SAMPLE_RATE
from asymtalker.training.core.config import TrainingError
from asymtalker.training.corpus.speech import Espeak, Voice
from asymtalker.training.corpus.viseme import mouth_track
from asymtalker.training.evaluation.alignment import align, read_transcripts
from asymtalker.training.evaluation.measure import correlation

TEXT = "Please enter your agent number, followed by the pound key."


@pytest.fixture(scope="module")
def spoken() -> tuple[np.ndarray, np.ndarray]:
    """Audio, and the mouth's opening by the engine's own phonemes."""
    # A slow voice: the aligner's sounds last three hundredths of a second at least.
    with Espeak() as engine:
        said = engine.speak(TEXT, Voice("en-us", "Gene", rate=136, pitch=79, pitch_range=34))
    num_frames = len(said.audio) * FPS // SAMPLE_RATE
    return said.audio, mouth_track(said.phonemes, said.audio, num_frames)[:, 0]


def test_mouths_open_as_the_engine_says(spoken: tuple[np.ndarray, np.ndarray]) -> None:
    audio, expected = spoken
    phonemes = align(audio, TEXT)
    assert all(a.end <= b.start + 1e-9 for a, b in pairwise(phonemes))
    sync, lag = correlation(mouth_track(phonemes, audio, len(expected))[:, 0], expected)
    assert sync > 0.8 and abs(lag) < 0.6


def test_the_neural_voice_tells_its_phonemes_in_time() -> None:
    neural = pytest.importorskip("asymtalker.training.corpus.neural")
    if not neural.available():
        pytest.skip("the neural voice is optional: pip install hibari-tts onnx onnxruntime")
    said = neural.speak_neural(TEXT, np.random.default_rng(0), pitch=1.0, tract=1.0, speed=1.0)
    expected, aligned = (
        mouth_track(phonemes, said.audio, len(said.audio) * FPS // SAMPLE_RATE)[:, 0]
        for phonemes in (said.phonemes, align(said.audio, TEXT))
    )
    sync, lag = correlation(aligned, expected)
    assert sync > 0.8 and abs(lag) < 0.6


def test_words_without_a_pronunciation_are_named(spoken: tuple[np.ndarray, np.ndarray]) -> None:
    with pytest.raises(TrainingError, match="qzxv"):
        align(spoken[0], "Please qzxv")


def test_text_that_cannot_have_been_said_is_refused() -> None:
    with pytest.raises(TrainingError, match="does not say"):
        align(np.zeros(SAMPLE_RATE // 10, np.float32), TEXT)


@pytest.mark.parametrize("name", ["said.txt", "said.txt.gz"])
def test_transcripts_are_read(tmp_path: Path, name: str) -> None:
    raw = b"; a comment: with a colon\n\nhello: Hello there.\nvm/bye: See you: later.\n"
    (tmp_path / name).write_bytes(gzip.compress(raw) if name.endswith("gz") else raw)
    assert read_transcripts(tmp_path / name) == {"hello": "Hello there.", "vm/bye": "See you: later."}


def test_unusable_transcripts_are_named(tmp_path: Path) -> None:
    (tmp_path / "empty.txt").write_text("nothing of use\n")
    for path in (tmp_path / "empty.txt", tmp_path / "missing.txt"):
        with pytest.raises(TrainingError, match=path.name):
            read_transcripts(path)
