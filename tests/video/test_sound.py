"""The speech in the VIDEO: whole, trimmed, through every way of saving, and never copied while it only travels."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch

from asymtalker.tests.helpers import Import

NUM_FRAMES, RATE = 50, 8_000
SECONDS = NUM_FRAMES / 25

MakeVideo = Callable[..., Any]


def tone(pitch: float, rate: int = RATE, channels: int = 2, seconds: float = SECONDS) -> torch.Tensor:
    """A waveform [channels, N], at half the volume in the second channel."""
    wave = 0.5 * torch.sin(2 * torch.pi * pitch * torch.arange(round(seconds * rate)) / rate)
    return torch.stack([wave, wave / 2][:channels])


def pitch_of(wave: np.ndarray[Any, Any], rate: int) -> float:
    """The loudest frequency in Hz."""
    spectrum = np.abs(np.fft.rfft(wave * np.hanning(len(wave))))
    return float(np.fft.rfftfreq(len(wave), 1 / rate)[spectrum.argmax()])


@pytest.fixture
def make_video(pack: Import, folders: Path) -> MakeVideo:
    """Return a function that gives the Sampler's kind of VIDEO, two seconds long, with recordings."""

    def make(*recordings: tuple[torch.Tensor, int]) -> Any:
        media, spooled, listening = pack("media"), pack("video.spooled"), pack("models.streaming")
        folder = folders / "user" / "asymtalker" / "spool" / "job"
        with media.SpoolWriter(folder, media.SpoolHeader("job", 32, 32)) as spool:
            spool.append(np.full((NUM_FRAMES, 32, 32, 3), 90, np.uint8))
        parts = tuple(listening.Recording(*recording) for recording in recordings)
        return spooled.SpooledVideo(spooled.SpoolHandle.of(folder, "for extending"), None, parts)

    return make


def sound_in(file: str | Path) -> tuple[np.ndarray[Any, Any], int]:
    """Samples [channels, N] and rate of a file's sound."""
    with av.open(str(file)) as container:
        stream = container.streams.audio[0]
        resampler = av.AudioResampler(format="fltp")
        parts = [part.to_ndarray() for frame in container.decode(stream) for part in resampler.resample(frame)]
        return np.concatenate(parts, axis=1), stream.rate


def test_core_saves_the_speech_with_its_own_rate_and_channels(make_video: MakeVideo, tmp_path: Path) -> None:
    wave = tone(440)
    make_video((wave, RATE)).save_to(str(tmp_path / "core.mp4"))
    sound, rate = sound_in(tmp_path / "core.mp4")
    assert rate == RATE and sound.shape[0] == 2 and abs(sound.shape[1] - wave.shape[1]) < 2048
    assert abs(pitch_of(sound[0], rate) - 440) < 5


def test_another_container_of_the_host_has_it_too(comfy: Import, make_video: MakeVideo, tmp_path: Path) -> None:
    if "mkv" not in comfy("comfy_api.latest").Types.VideoContainer.as_input():
        pytest.skip("this ComfyUI writes mp4 alone")
    make_video((tone(440), RATE)).save_to(str(tmp_path / "core.mkv"), format="mkv", codec="h264")
    sound, rate = sound_in(tmp_path / "core.mkv")
    assert abs(sound.shape[1] / rate - SECONDS) < 0.3 and abs(pitch_of(sound[0], rate) - 440) < 5


def test_components_and_the_stream_source_have_it_bit_for_bit_and_encoded(make_video: MakeVideo) -> None:
    wave = tone(440)
    video = make_video((wave, RATE))
    audio = video.get_components().audio
    assert audio["sample_rate"] == RATE and torch.equal(audio["waveform"], wave[None])
    # Shared with the node that gave it, as long as nothing is written.
    assert audio["waveform"].data_ptr() == wave.data_ptr()
    sound, rate = sound_in(video.get_stream_source())
    assert abs(pitch_of(sound[0], rate) - 440) < 5


def test_a_span_has_its_part_of_it(make_video: MakeVideo) -> None:
    wave = torch.cat((tone(440, seconds=1), tone(880, seconds=1)), dim=1)
    video = make_video((wave[:, : 3 * RATE // 2], RATE))
    sound = video.as_trimmed(1.0, 0.4).sound()
    assert sound.num_samples == 0.4 * RATE and abs(pitch_of(sound.waveform[0], RATE) - 880) < 5
    assert video.as_trimmed(1.4).sound().num_samples == round(0.1 * RATE) and video.as_trimmed(1.6).sound() is None


def test_recordings_that_follow_one_another_become_one(make_video: MakeVideo) -> None:
    """An extended video: the second recording has another rate and one channel."""
    first, second = tone(440, seconds=1), tone(880, 16_000, 1, seconds=1)
    sound = make_video((first, RATE), (second, 16_000)).sound()
    assert sound.sample_rate == RATE and sound.waveform.shape == (2, 2 * RATE)
    assert np.array_equal(sound.waveform[:, :RATE], first.numpy())
    assert [round(pitch_of(channel, RATE), -1) for channel in sound.waveform[:, RATE:]] == [880, 880]


def test_mux_and_save_takes_the_video_s_own_sound_unless_it_is_given_another(
    pack: Import, make_video: MakeVideo, folders: Path
) -> None:
    video, save = make_video((tone(440), RATE)), pack("video.saving").save_with_audio
    other = {"waveform": tone(880, 44_100)[None], "sample_rate": 44_100}
    for audio, pitch in ((None, 440), (other, 880)):
        saved, _ = save(video, audio, "test", 18, True, None, None)
        sound, rate = sound_in(saved.get_stream_source())
        assert abs(pitch_of(sound[0], rate) - pitch) < 5
    # Of a file, trimmed or not, in the same way.
    again, _ = save(saved, None, "again", 18, True, None, None)
    sound, rate = sound_in(again.get_stream_source())
    assert rate == 44_100 and abs(pitch_of(sound[0], rate) - 880) < 5


def test_audio_features_hand_the_recording_on(pack: Import) -> None:
    audio = pack("host.audio")
    waveform = tone(440)
    given = {"waveform": waveform[None], "sample_rate": RATE}
    features = audio.audio_features(audio.LogMelAudioEncoder(), given)
    (recording,) = audio.recordings_of(features)
    assert recording.sample_rate == RATE and recording.waveform.data_ptr() == waveform.data_ptr()
    longer = audio.audio_features(audio.LogMelAudioEncoder(), given, continues=features)
    assert [part.waveform.shape for part in audio.recordings_of(longer)] == [waveform.shape] * 2


@pytest.mark.parametrize(("seconds", "is_told"), [(1.0, False), (1.5, True)])
def test_a_dubbed_video_may_be_longer_than_its_own_speech(
    pack: Import, make_video: MakeVideo, folders: Path, monkeypatch: pytest.MonkeyPatch, seconds: float, is_told: bool
) -> None:
    shown: list[str] = []
    monkeypatch.setattr(pack("host.progress"), "show", lambda node_id, text: shown.append(text))
    video = make_video((tone(440, seconds=1.0), RATE))
    audio = {"waveform": tone(440, seconds=seconds)[None], "sample_rate": RATE}
    pack("video.saving").save_with_audio(video, audio, "test", 18, True, None, None, "4")
    assert any("trim the longer one" in text for text in shown) == is_told
