"""Features made on demand: the values of one pass, in bounded memory, and an identity that is the content's."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import pytest
import torch
from torch import Tensor

from asymtalker.models.audio import (
    SAMPLES_PER_FRAME,
    AudioFeatures,
    Speech,
    audio_windows,
    log_mel_features,
    num_video_frames,
)
from asymtalker.models.streaming import LOG_MEL, FeatureEncoder, SpeechFeatures, stream_features
from asymtalker.tests.models.tiny import noise

FRAMES = 33


def encode_loudness(speech: Speech, start: int, stop: int) -> Tensor:
    """Attends to the whole window, as wav2vec2 does: each frame's mean beside a sum over the window."""
    samples = speech.part(start * SAMPLES_PER_FRAME, stop * SAMPLES_PER_FRAME).reshape(stop - start, -1)
    everything = (samples.mean(dim=1) @ torch.arange(1.0, stop - start + 1)).expand(stop - start)
    return torch.stack((samples.mean(dim=1), everything), dim=1)[:, None]


GLOBAL = FeatureEncoder("global", "global", (1, 2), encode_loudness, window_frames=60, context_frames=10)


def features_of(feature_encoder: FeatureEncoder, waveform: Tensor, **options: object) -> SpeechFeatures:
    return stream_features(feature_encoder, waveform, Fraction(len(waveform), 16000), **options)  # pyright: ignore[reportArgumentType]


def identities(features: SpeechFeatures | AudioFeatures, count: int) -> list[bytes]:
    stream = features.stream()
    return [stream.identity(28 * index, FRAMES) for index in range(count)]


@pytest.mark.parametrize("samples", [1, 640 * 61 + 5, 640 * 1501])
def test_windows_are_those_of_one_pass(samples: int) -> None:
    waveform = noise(samples, seed=1)
    frames = num_video_frames(samples, 16000)
    whole = log_mel_features(waveform, frames)
    features = features_of(LOG_MEL, waveform)
    assert (features.num_frames, features.shape) == (frames, (1, 320))
    stream = features.stream()
    for start in sorted({0, max(0, frames - FRAMES), max(0, frames - 5), min(1480, frames - 1)}):
        assert torch.equal(stream.windows(start, FRAMES), audio_windows(whole, start, FRAMES))
    assert torch.equal(features.features, whole)


def test_a_reader_holds_two_windows_whatever_the_length() -> None:
    windows: list[tuple[int, int]] = []

    def counted(speech: Speech, start: int, stop: int) -> Tensor:
        windows.append((start, stop))
        return encode_loudness(speech, start, stop)

    feature_encoder = FeatureEncoder("counted", "counted", (1, 2), counted, window_frames=60, context_frames=10)
    stream = features_of(feature_encoder, noise(640 * 500)).stream()
    for start in range(0, 500 - FRAMES, 28):
        stream.windows(start, FRAMES)
    assert windows == [(start, start + 60) for start in range(0, 441, 40)], "each is encoded once"
    held = stream._held  # pyright: ignore[reportAttributeAccessIssue]
    assert len(held) == 2


@pytest.mark.parametrize("frames", [1, 40, 79, 80, 200])
def test_silence_around_a_recording_is_encoded_with_it(frames: int) -> None:
    """Before a short one, and after the end of any: a last chunk goes on in silence instead of the last frame."""
    spans: list[tuple[int, int]] = []

    def recorded(speech: Speech, start: int, stop: int) -> Tensor:
        spans.append((start, stop))
        return encode_loudness(speech, start, stop)

    encoder = FeatureEncoder("s", "s", (1, 2), recorded, window_frames=500, context_frames=10)
    encoder = replace(encoder, lead_frames=100, tail_frames=20)
    waveform = noise(640 * frames, seed=3) + 1
    features = features_of(encoder, waveform)
    found = features.stream().windows(max(0, frames - 10), 25)[0, :, 2]
    begin = min(0, frames + 20 - 100)
    assert spans == [(begin, frames + 20)] and features.num_frames == frames
    expected = encode_loudness(Speech(waveform, frames), begin, frames + 20)[-begin + max(0, frames - 10) :][:25]
    torch.testing.assert_close(found[: len(expected)], expected)
    after = found[min(10, frames) :, 0, 0]
    assert (after == 0).all() and (found[: min(10, frames), 0, 0] != 0).any()


def test_identity_is_that_of_the_windows() -> None:
    waveform = noise(640 * 200, seed=2)
    same, changed = waveform.clone(), waveform.clone()
    # Mean and variance of the whole stay: two samples change places.
    changed[[640 * 150, 640 * 151]] = waveform[[640 * 151, 640 * 150]]
    first = identities(features_of(GLOBAL, waveform), 6)
    assert identities(features_of(GLOBAL, same), 6) == first and len(set(first)) == 6
    others = identities(features_of(GLOBAL, changed), 6)
    differing = [index for index in range(6) if others[index] != first[index]]
    pairs = zip(*(encoded_windows(features_of(GLOBAL, sound), 6) for sound in (waveform, changed)), strict=True)
    assert differing == [index for index, (old, new) in enumerate(pairs) if not torch.equal(old, new)] == [4, 5]
    assert identities(features_of(GLOBAL, 2 * waveform), 6) != first


def encoded_windows(features: SpeechFeatures, count: int) -> list[Tensor]:
    stream = features.stream()
    return [stream.windows(28 * index, FRAMES) for index in range(count)]


def test_tensors_are_identified_by_their_content() -> None:
    features = noise(70, 1, 4)
    changed = features.clone()
    changed[-1] += 1
    first = identities(AudioFeatures(features, "x"), 3)
    second = identities(AudioFeatures(changed, "x"), 3)
    assert [a == b for a, b in zip(first, second, strict=True)] == [True, True, False]


@pytest.mark.parametrize("feature_encoder", [LOG_MEL, GLOBAL])
@pytest.mark.parametrize(("earlier_samples", "more_samples"), [(640 * 100 + 300, 640 * 90), (640 * 40, 640 * 3 + 1)])
def test_going_on_keeps_earlier_features(
    feature_encoder: FeatureEncoder, earlier_samples: int, more_samples: int
) -> None:
    first = features_of(feature_encoder, noise(earlier_samples, seed=3))
    both = features_of(feature_encoder, 3 * noise(more_samples, seed=4), earlier=first)
    assert both.duration == Fraction(earlier_samples + more_samples, 16000)
    whole_frames = earlier_samples // 640
    assert torch.equal(both.features[:whole_frames], first.features[:whole_frames])
    assert both.features.shape == (both.num_frames, *feature_encoder.shape)
    # Identities agree exactly where windows do.
    count = -(-first.num_frames // 28)
    same = [torch.equal(a, b) for a, b in zip(encoded_windows(first, count), encoded_windows(both, count), strict=True)]
    pairs = zip(identities(first, count), identities(both, count), strict=True)
    assert [a == b for a, b in pairs] == same
    assert same[0] == (whole_frames >= FRAMES + 2) and not same[-1]


def test_going_on_twice() -> None:
    first = features_of(GLOBAL, noise(640 * 70, seed=5))
    second = features_of(GLOBAL, noise(640 * 55, seed=6), earlier=first)
    third = features_of(GLOBAL, noise(640 * 2, seed=7), earlier=second)
    assert third.num_frames == 127
    assert torch.equal(third.features[:125], second.features)
    spans = third.encoded_windows()
    assert [span.window.keep_start for span in spans[1:]] == [span.window.keep_stop for span in spans[:-1]]


def test_going_on_from_another_encoder_is_refused() -> None:
    with pytest.raises(ValueError, match=r"continues: its features are global.*log-mel"):
        features_of(LOG_MEL, noise(640), earlier=features_of(GLOBAL, noise(640)))


def test_rolling_encodes_the_past_alone() -> None:
    waveform = noise(640 * 300, seed=8)
    longer = torch.cat((waveform, noise(640 * 50, seed=9)))
    first, second = (features_of(LOG_MEL, sound, listening="rolling") for sound in (waveform, longer))
    inside = (300 - FRAMES) // 28 + 1
    assert identities(first, inside) == identities(second, inside)
    for old, new in zip(encoded_windows(first, inside), encoded_windows(second, inside), strict=True):
        assert torch.equal(old, new)
    assert identities(first, inside + 1)[-1] != identities(second, inside + 1)[-1]
    # The last of 8 s that are normalised by themselves; sound more than 8 s back changes nothing.
    context = waveform[640 * (28 * 8 + FRAMES - 200) : 640 * (28 * 8 + FRAMES)]
    expected = audio_windows(log_mel_features(context, 200), 200 - FRAMES, FRAMES)
    torch.testing.assert_close(first.stream().windows(28 * 8, FRAMES), expected)
