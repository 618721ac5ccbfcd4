"""The speech gate: closed between utterances, bit-exact in them, and streamed without changing what was made."""

from __future__ import annotations

from fractions import Fraction

import pytest
import torch
from torch import Tensor

from asymtalker.models.audio import AudioFeatures
from asymtalker.models.gate import HOP, SpeechGate
from asymtalker.models.rates import FPS, SAMPLE_RATE, SAMPLES_PER_FRAME
from asymtalker.models.streaming import LOG_MEL, MouthOptions, SpeechFeatures, stream_features
from asymtalker.tests.models.tiny import noise

FRAMES = 33
QUIET = MouthOptions(quiet_in_silence=True)
UTTERANCES = ((0.5, 1.7), (2.6, 3.8))


def recording(background: float = 0.0, seconds: float = 4.5) -> Tensor:
    """Voiced sounds at syllable rate in ``UTTERANCES`` over noise of that level."""
    t = torch.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    voice = sum(torch.sin(2 * torch.pi * 130 * k * t) / k for k in range(1, 25)) * (0.6 + 0.4 * torch.sin(25 * t))
    spoken = torch.zeros_like(t)
    for start, stop in UTTERANCES:
        spoken[round(start * SAMPLE_RATE) : round(stop * SAMPLE_RATE)] = 1
    return 0.1 * voice * spoken + background * noise(t.shape[0], seed=3)


def seconds(gate: SpeechGate, start: float, stop: float) -> Tensor:
    return gate.gains[round(start * SAMPLE_RATE / HOP) : round(stop * SAMPLE_RATE / HOP)]


@pytest.mark.parametrize("background", [0.0, 0.001, 0.01])
def test_speech_keeps_every_bit_and_pauses_are_silent(background: float) -> None:
    waveform = recording(background)
    gate = SpeechGate.of(waveform)
    gated = gate.apply(waveform, 0)
    for start, stop in UTTERANCES:
        spoken = slice(round(start * SAMPLE_RATE), round(stop * SAMPLE_RATE))
        assert torch.equal(gated[spoken], waveform[spoken])
    for start, stop in ((0, 0.35), (1.9, 2.45), (4.0, 4.5)):
        assert not gated[round(start * SAMPLE_RATE) : round(stop * SAMPLE_RATE)].any()


def test_the_gate_never_cuts() -> None:
    steps = SpeechGate.of(recording(0.01)).gains.diff().abs()
    assert 0 < steps.max() < 0.3


def test_breaths_and_clicks_are_no_speech_but_a_hiss_beside_a_vowel_is() -> None:
    waveform = recording()
    hiss = noise(SAMPLE_RATE, seed=5) * 0.006
    waveform[round(2.1 * SAMPLE_RATE) : round(2.3 * SAMPLE_RATE)] += hiss[: round(0.2 * SAMPLE_RATE)]
    waveform[round(1.7 * SAMPLE_RATE) : round(1.8 * SAMPLE_RATE)] += hiss[: round(0.1 * SAMPLE_RATE)]
    waveform[round(4.2 * SAMPLE_RATE)] += 0.9
    gate = SpeechGate.of(waveform)
    assert not seconds(gate, 2.1, 2.3).any() and not seconds(gate, 4.1, 4.3).any()
    assert (seconds(gate, 1.7, 1.8) == 1).all()


@pytest.mark.parametrize("waveform", [torch.zeros(8000), torch.zeros(1), noise(50, seed=1)])
def test_short_and_silent_recordings_have_a_gate(waveform: Tensor) -> None:
    assert SpeechGate.of(waveform).apply(waveform, 0).isfinite().all()


def test_any_part_is_that_of_the_whole() -> None:
    waveform = recording(0.01)
    gate = SpeechGate.of(waveform)
    whole = gate.apply(waveform, 0)
    for start, stop in ((0, 1), (159, 161), (23_456, 45_001), (70_000, waveform.shape[0])):
        assert torch.equal(gate.apply(waveform[start:stop], start), whole[start:stop])


def features_of(waveform: Tensor, **options: object) -> SpeechFeatures:
    duration = Fraction(waveform.shape[0], SAMPLE_RATE)
    return stream_features(LOG_MEL, waveform, duration, **options)  # pyright: ignore[reportArgumentType]


def identities(features: SpeechFeatures | AudioFeatures) -> list[bytes]:
    stream = features.stream()
    return [stream.identity(28 * index, FRAMES) for index in range(features.num_frames // 28)]


@pytest.mark.parametrize("listening", ["whole", "rolling"])
def test_jobs_are_the_same_where_nothing_changes(listening: str) -> None:
    noisy, clean = recording(0.01), recording()
    plain = identities(features_of(noisy, listening=listening))
    assert identities(features_of(noisy, listening=listening, mouth=MouthOptions())) == plain
    assert identities(features_of(noisy, listening=listening, mouth=QUIET)) != plain
    assert identities(features_of(noisy, listening=listening, mouth=MouthOptions(0.5))) != plain
    # Of a recording with silent pauses every sample stays.
    quiet = identities(features_of(clean, listening=listening, mouth=QUIET))
    assert quiet == identities(features_of(clean, listening=listening))


@pytest.mark.parametrize("listening", ["whole", "rolling"])
def test_features_of_pauses_are_those_of_silence(listening: str) -> None:
    features = features_of(recording(0.01), listening=listening, mouth=QUIET)
    windows = features.stream().windows(40, FRAMES)[0, :, 2]
    pause = windows[round(2.0 * FPS) - 40 : round(2.4 * FPS) - 40]
    torch.testing.assert_close(pause, features.silence().expand_as(pause), atol=1e-3, rtol=0)


def test_an_extended_recording_keeps_its_gate() -> None:
    first = features_of(recording(0.01, 4.0), mouth=QUIET)
    # Louder by far: by its own level the beginning would be no speech.
    longer = features_of(10 * recording(0.01), mouth=QUIET, earlier=first)
    whole_chunks = first.num_frames // 28 - 1
    assert identities(longer)[:whole_chunks] == identities(first)[:whole_chunks]
    with pytest.raises(ValueError, match=r"continues: its features have audio_strength 1 and quiet_in_silence true"):
        features_of(recording(), mouth=MouthOptions(0.5), earlier=first)


def test_the_waveform_itself_stays() -> None:
    waveform = recording(0.01)
    assert torch.equal(features_of(waveform, mouth=QUIET).speech.waveform, waveform)
    assert waveform.shape[0] % SAMPLES_PER_FRAME == 320


@pytest.mark.parametrize("strength", [-0.1, 2.0, float("nan")])
def test_impossible_strengths_are_refused(strength: float) -> None:
    with pytest.raises(ValueError, match="audio_strength must be a number in 0"):
        MouthOptions(strength)
