"""Sounds of every rate, layout and damage: the right channel at 16 kHz in bounded memory, or one message."""

from __future__ import annotations

import math
import random
import subprocess
import sys
from decimal import Decimal
from pathlib import Path
from types import MappingProxyType
from typing import Any

import av
import numpy as np
import pytest
import torch
import torchaudio.functional as AF
from torch import Tensor

from asymtalker.models.audio import SAMPLE_RATE, to_mono_16k
from asymtalker.models.mixing import to_mono
from asymtalker.models.resampling import LONG, resample
from asymtalker.tests.helpers import ROOT, Import

SEED = 19
USUAL_RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000, 64000, 88200, 96000, 176400, 192000)
ODD_RATES = (22254, 16001, 44099, 47999, 44056, 8001, 191_999)
GENERATOR = random.Random(SEED)
RANDOM_RATES = tuple(GENERATOR.randrange(8000, 192_001) for _ in range(20))
NOT_SOUND_RATES = (1, 7, 61, 999, 384_001, 999_983, 1_000_000)
LARGEST_PEAK = 300_000_000


def noise(*shape: int, seed: int = SEED) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def speech(seconds: float = 0.5, rate: int = SAMPLE_RATE, seed: int = SEED) -> Tensor:
    """[N]: noise that comes and goes four times a second, as syllables do."""
    samples = int(seconds * rate)
    return 0.2 * noise(samples, seed=seed) * torch.sin(2 * math.pi * 2 * torch.arange(samples) / rate).abs()


def likeness(a: Tensor, b: Tensor) -> float:
    return float(torch.corrcoef(torch.stack((a, b)))[0, 1])


# Rates.


@pytest.mark.parametrize("rate", USUAL_RATES)
def test_the_usual_rates_are_torchaudios_bit_for_bit(rate: int) -> None:
    sound = noise(rate // 3 + 7)
    assert torch.equal(resample(sound, rate, SAMPLE_RATE), AF.resample(sound, rate, SAMPLE_RATE))


@pytest.mark.parametrize("rate", [22_050, 44_100, 48_000])
def test_the_long_filter_keeps_the_band_and_folds_nothing_back(rate: int) -> None:
    """Tones below and above the new Nyquist frequency; the short filter is 0.5 % and 9 % off."""
    seconds = torch.arange(rate, dtype=torch.float64) / rate

    def tones(lowest: float, highest: float, at: Tensor) -> Tensor:
        frequencies = torch.linspace(lowest, highest, 40, dtype=torch.float64)
        return torch.sin(2 * math.pi * (frequencies[:, None] * at + frequencies[:, None] ** 2)).mean(dim=0).float()

    kept = resample(tones(80, 7500, seconds), rate, SAMPLE_RATE, LONG)[800:-800]
    expected = tones(80, 7500, torch.arange(SAMPLE_RATE, dtype=torch.float64) / SAMPLE_RATE)[800:-800]
    assert (kept - expected).square().mean().sqrt() < 1e-3 * expected.square().mean().sqrt()
    folded = resample(tones(8300, rate / 2 - 50, seconds), rate, SAMPLE_RATE, LONG)[800:-800]
    assert folded.square().mean().sqrt() < 1e-3 * tones(8300, rate / 2 - 50, seconds).square().mean().sqrt()


@pytest.mark.parametrize("rate", [15_992, 20_008])
def test_an_odd_rate_is_what_torchaudio_makes_of_it(rate: int) -> None:
    """At rates whose period it can still afford; it places the taps in float32."""
    sound = noise(rate // 5)
    ours, theirs = resample(sound, rate, SAMPLE_RATE), AF.resample(sound.double(), rate, SAMPLE_RATE)
    torch.testing.assert_close(ours.double(), theirs, atol=2e-6, rtol=0)


@pytest.mark.parametrize("rate", [*ODD_RATES, *RANDOM_RATES])
def test_a_tone_at_any_rate_stays_that_tone(rate: int) -> None:
    samples = rate // 4 + 3
    mono = to_mono_16k(torch.sin(2 * math.pi * 440 * torch.arange(samples) / rate)[None], rate)
    assert mono.shape == (-(-samples * SAMPLE_RATE // rate),)
    expected = torch.sin(2 * math.pi * 440 * torch.arange(mono.shape[0]) / SAMPLE_RATE)
    # The tone as it is given is rounded to float32.
    torch.testing.assert_close(mono[100:-100], expected[100:-100], atol=6e-3, rtol=0)


@pytest.mark.parametrize("rate", NOT_SOUND_RATES)
def test_any_rate_at_all_gives_its_length(rate: int) -> None:
    samples = max(1, rate // 20)
    mono = resample(noise(samples), rate, SAMPLE_RATE)
    assert mono.shape == (-(-samples * SAMPLE_RATE // rate),) and mono.isfinite().all()


@pytest.mark.parametrize("rate", [0, -44_100])
def test_a_rate_that_is_none_is_refused(rate: int) -> None:
    with pytest.raises(ValueError, match="sample rate"):
        resample(noise(10), rate, SAMPLE_RATE)


def test_one_second_of_any_rate_takes_little_memory() -> None:
    """In a process of its own, whose peak is that of the worst rate."""
    code = """
import resource, sys, torch
from asymtalker.models.audio import to_mono_16k
def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
torch.set_num_threads(1)
to_mono_16k(torch.randn(1, 48_000), 48_000)
before = peak()
for rate in map(int, sys.argv[1:]):
    to_mono_16k(torch.randn(1, rate), rate)
print(peak() - before)
"""
    if sys.platform == "win32":
        pytest.skip("peak memory is read as Unix gives it")
    rates = [str(rate) for rate in (22_254, 16_001, 44_099, 999_983)]
    done = subprocess.run([sys.executable, "-c", code, *rates], cwd=ROOT, capture_output=True, text=True, check=True)
    assert int(done.stdout) < LARGEST_PEAK


def test_blocks_leave_no_seam() -> None:
    """Longer than what is computed at once: the same as its parts where those have all their taps."""
    rate = 44_099
    sound = noise(3 * rate)
    whole = resample(sound, rate, SAMPLE_RATE)
    second = resample(sound[rate:], rate, SAMPLE_RATE)
    assert torch.equal(whole[SAMPLE_RATE + 100 :], second[100:])


# Channels.


@pytest.mark.parametrize("channels", [1, 2])
def test_ordinary_sound_is_its_mean_bit_for_bit(channels: int) -> None:
    voice = speech()
    waveform = torch.stack([voice + 0.02 * noise(voice.shape[0], seed=seed) for seed in range(channels)])
    mono = to_mono(waveform)
    assert mono.note is None and torch.equal(mono.samples, waveform.mean(dim=0))
    same = to_mono(voice.expand(channels, -1))
    assert same.note is None and torch.equal(same.samples, voice)


def test_two_voices_left_and_right_are_both_mixed_in() -> None:
    left, right = speech(seed=1), speech(seed=2)
    mono = to_mono(torch.stack((left, right)))
    assert mono.note is None and torch.equal(mono.samples, torch.stack((left, right)).mean(dim=0))


@pytest.mark.parametrize("balance", [-1.0, -0.9, -1.1])
def test_opposite_phase_does_not_cancel(balance: float) -> None:
    voice = speech()
    mono = to_mono(torch.stack((voice, balance * voice)))
    assert likeness(mono.samples.abs(), voice.abs()) > 0.999
    assert mono.samples.std() > 0.9 * voice.std()
    assert mono.note is not None and "cancel" in mono.note


@pytest.mark.parametrize("channels", range(2, 9))
@pytest.mark.parametrize("floor", ["silence", "hum", "offset", "hiss"])
def test_speech_on_one_channel_is_taken_alone(channels: int, floor: str) -> None:
    voice = speech()
    time = torch.arange(voice.shape[0]) / SAMPLE_RATE
    others = {
        "silence": torch.zeros_like(voice),
        "hum": 0.05 * torch.sin(2 * math.pi * 50 * time),
        "offset": torch.full_like(voice, 0.3),
        "hiss": 0.002 * noise(voice.shape[0], seed=7),
    }
    for channel in range(channels):
        waveform = others[floor].repeat(channels, 1)
        waveform[channel] = voice
        mono = to_mono(waveform)
        assert torch.equal(mono.samples, voice), channel
        assert mono.note is not None


@pytest.mark.parametrize("channels", [5, 6, 7, 8])
def test_the_centre_is_taken_where_it_has_sound(channels: int) -> None:
    """Music in all other channels, louder than the speech."""
    waveform = 0.4 * noise(channels, SAMPLE_RATE // 2)
    waveform[2] = speech()
    mono = to_mono(waveform)
    assert torch.equal(mono.samples, waveform[2])
    assert mono.note is not None and "centre" in mono.note


@pytest.mark.parametrize("channels", [5, 6, 7, 8])
def test_without_a_centre_the_fronts_are_mixed(channels: int) -> None:
    voice = speech()
    waveform = torch.zeros(channels, voice.shape[0])
    waveform[:2] = voice
    assert torch.equal(to_mono(waveform).samples, voice)


def test_a_bass_channel_is_not_the_speech() -> None:
    voice = speech()
    waveform = torch.zeros(6, voice.shape[0])
    waveform[0] = voice
    waveform[3] = torch.sin(2 * math.pi * 60 * torch.arange(voice.shape[0]) / SAMPLE_RATE)
    assert torch.equal(to_mono(waveform).samples, voice)


@pytest.mark.parametrize("channels", range(1, 9))
def test_silence_stays_silence(channels: int) -> None:
    mono = to_mono(torch.zeros(channels, 1000))
    assert mono.note is None and torch.equal(mono.samples, torch.zeros(1000))


@pytest.mark.parametrize("samples", [1, 2, 3, (1 << 18) - 1, 1 << 18, (1 << 18) + 1])
def test_any_length_is_mixed(samples: int) -> None:
    assert to_mono(noise(2, samples)).samples.shape == (samples,)


FILES = [
    ("wav", "pcm_s16le", "5.1"),
    ("wav", "pcm_f32le", "7.1"),
    ("flac", "flac", "5.1"),
    ("m4a", "aac", "5.1"),
    ("ogg", "libopus", "5.1"),
    ("ac3", "ac3", "5.1(side)"),
]


@pytest.mark.parametrize(("suffix", "codec", "layout"), FILES)
def test_the_centre_of_a_file_is_where_load_audio_puts_it(
    comfy: Import, pack: Import, tmp_path: Path, caplog: Any, suffix: str, codec: str, layout: str
) -> None:
    """Containers and codecs order their channels in different ways; core's Load Audio gives ffmpeg's order."""
    rate = 48_000
    file = tmp_path / f"sound.{suffix}"
    channels = av.AudioLayout(layout).nb_channels
    names = [channel.name for channel in av.AudioLayout(layout).channels]
    waveform = 0.05 * noise(channels, rate)
    waveform[names.index("FC")] = voice = speech(1.0, rate)
    write_sound(file, waveform, rate, codec, layout)
    loaded, loaded_rate = comfy("comfy_extras.nodes_audio").load(str(file))
    host = pack("host.audio")
    with caplog.at_level("INFO"):
        features = host.audio_features(host.LogMelAudioEncoder(), {"waveform": loaded[None], "sample_rate": rate})
    assert loaded_rate == rate and "the centre channel" in caplog.text
    mixed, spoken = features.speech.waveform, resample(voice, rate, SAMPLE_RATE)
    # Encoders delay and change the sound a little: its loudness over time is that of the speech.
    mixed_level, spoken_level = (
        part[:15_360].square().reshape(-1, 640).mean(dim=1) for part in (mixed[: spoken.shape[0]], spoken)
    )
    assert likeness(mixed_level, spoken_level) > 0.8


def write_sound(file: Path, waveform: Tensor, rate: int, codec: str, layout: str) -> None:
    with av.open(str(file), "w") as container:
        stream: Any = container.add_stream(codec, rate=rate, layout=layout)
        resampler = av.AudioResampler(format=stream.format, layout=layout, rate=rate, frame_size=stream.frame_size or 0)
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(waveform.T.numpy()).reshape(1, -1), "flt", layout)
        frame.sample_rate = rate
        for part in [*resampler.resample(frame), *resampler.resample(None)]:
            container.mux(stream.encode(part))
        container.mux(stream.encode(None))


# Values that are no usable AUDIO.

GOOD = torch.zeros(1, 1, 1600)


def audio(waveform: Any = GOOD, sample_rate: Any = 16_000) -> dict[str, Any]:
    return {"waveform": waveform, "sample_rate": sample_rate}


def _spoiled(value: float) -> Tensor:
    waveform = noise(1, 2, 1600)
    waveform[0, GENERATOR.randrange(2), GENERATOR.randrange(1600)] = value
    return waveform


UNUSABLE: list[tuple[Any, str]] = [
    (None, "audio: the video has no sound: connect"),
    (audio(None), "audio: the video has no sound: connect"),
    ({}, "audio: the AUDIO has no waveform and no sample_rate"),
    ({"waveform": GOOD}, "audio: the AUDIO has no sample_rate"),
    ({"sample_rate": 16_000}, "audio: the AUDIO has no waveform"),
    ({"samples": GOOD}, "audio: the AUDIO has no waveform"),
    ("speech.wav", "audio: expected AUDIO, got 'speech.wav'"),
    ("\ud800", r"audio: expected AUDIO, got '\\ud800'"),
    ([GOOD, 16_000], "audio: expected AUDIO, got a list"),
    (GOOD, "audio: expected AUDIO, got a Tensor"),
    (7, "audio: expected AUDIO, got 7"),
    (audio("x"), "audio: expected a tensor, got 'x'"),
    (audio(GOOD.numpy()), "audio: expected a tensor, got a ndarray"),
    (audio(GOOD.tolist()), "audio: expected a tensor, got a list"),
    (audio(GOOD.to("meta")), "audio: a tensor of this kind .*meta.* is not supported"),
    (audio(GOOD.to_sparse()), "audio: a tensor of this kind .*sparse.* is not supported"),
    (audio(GOOD.to(torch.complex64)), "audio: a tensor of this kind .*complex64.* is not supported"),
    (audio(torch.zeros(())), r"audio: one clip is needed, got a batch of shape \(\)"),
    (audio(torch.zeros(100)), r"audio: one clip is needed, got a batch of shape \(100,\)"),
    (audio(torch.zeros(1, 100)), r"audio: one clip is needed, got a batch of shape \(1, 100\)"),
    (audio(torch.zeros(1, 1, 1, 100)), "audio: one clip is needed"),
    (audio(torch.zeros(2, 1, 100)), "audio: one clip is needed, got a batch"),
    (audio(torch.zeros(0, 1, 100)), "audio: one clip is needed, got a batch"),
    (audio(torch.zeros(1, 0, 100)), "audio: 0 channels; 1 to 8 are supported"),
    (audio(torch.zeros(1, 9, 100)), "audio: 9 channels; 1 to 8 are supported"),
    (audio(torch.zeros(1, 1, 0)), "audio: the clip is empty .*: connect audio"),
    (audio(_spoiled(math.nan)), "audio: the clip contains NaN or infinite"),
    (audio(_spoiled(math.inf)), "audio: the clip contains NaN or infinite"),
    (audio(_spoiled(-math.inf)), "audio: the clip contains NaN or infinite"),
    (audio(_spoiled(1e30)), r"audio: samples reach 1e\+30"),
    (audio(GOOD.to(torch.int64)), "audio: its samples are torch.int64"),
    (audio(GOOD.to(torch.int8)), "audio: its samples are torch.int8"),
    (audio(GOOD.bool()), "audio: its samples are torch.bool"),
    *((audio(sample_rate=rate), rf"audio: {rate} Hz; 8000 to 192000 Hz") for rate in (0, -1, -44_100, 4000, 192_001)),
    (audio(sample_rate=10**9), "audio: 1000000000 Hz; 8000 to 192000 Hz"),
    (audio(sample_rate=10**5000), "audio: an int of more than 4300 digits Hz"),
    *(
        (audio(sample_rate=rate), "audio: the sample rate is .*; it must be a whole number of Hz")
        for rate in (None, "44100", "\ud800", 44_100.5, math.nan, math.inf, True, [44_100], {}, 1j, torch.zeros(2))
    ),
]


@pytest.mark.parametrize("number", range(len(UNUSABLE)))
def test_unusable_audio_is_one_message(pack: Import, number: int) -> None:
    value, message = UNUSABLE[number]
    host = pack("host.audio")
    with pytest.raises(ValueError, match=f"^{message}") as caught:
        host.audio_features(host.LogMelAudioEncoder(), value)
    str(caught.value).encode()


@pytest.mark.parametrize(("level", "is_told"), [(0.0, True), (1e-4, True), (3e-3, False)])
def test_silence_is_told(pack: Import, caplog: pytest.LogCaptureFixture, level: float, is_told: bool) -> None:
    host = pack("host.audio")
    with caplog.at_level("INFO"):
        host.audio_features(host.LogMelAudioEncoder(), audio(level * speech()[None, None]))
    assert ("audio: it is silent or nearly silent" in caplog.text) == is_told


USABLE = [
    (noise(1, 1, 1600), 16_000),
    (noise(1, 1, 1600).requires_grad_(), 16_000),
    (noise(1, 1, 1600).double(), 16_000),
    (noise(1, 1, 1600).bfloat16(), 16_000.0),
    (noise(1, 1, 3200)[..., ::2], np.int64(16_000)),
    (noise(1600, 1, 1).permute(2, 1, 0), torch.tensor(16_000)),
    ((noise(1, 1, 1600).clamp(-1, 1) * 32_767).to(torch.int16), np.float32(16_000)),
    ((noise(1, 1, 1600).clamp(-1, 1) * 2_147_000_000).to(torch.int32), Decimal(16_000)),
    ((noise(1, 1, 1600).clamp(-1, 1) * 127 + 128).to(torch.uint8), 16_000),
    (32_767 * noise(1, 1, 1600).clamp(-1, 1), 16_000),
]


@pytest.mark.parametrize("number", range(len(USABLE)))
def test_other_types_of_sound_are_the_same_sound(pack: Import, number: int) -> None:
    waveform, rate = USABLE[number]
    host = pack("host.audio")
    value = MappingProxyType(audio(waveform, rate))
    samples, checked_rate = host.checked_audio(value)
    assert checked_rate == 16_000 and samples.dtype == torch.float32 and not samples.requires_grad
    assert likeness(samples[0], waveform.detach().float()[0, 0]) > 0.999
    assert host.audio_features(host.LogMelAudioEncoder(), value).features.isfinite().all()


@pytest.mark.parametrize(("codec", "is_read"), [("pcm_u8", False), ("pcm_s16le", True), ("pcm_s24le", True)])
def test_what_the_help_page_says_of_load_audio(comfy: Import, tmp_path: Path, codec: str, is_read: bool) -> None:
    write_sound(tmp_path / "sound.wav", speech()[None], SAMPLE_RATE, codec, "mono")
    load = comfy("comfy_extras.nodes_audio").load
    if is_read:
        assert load(str(tmp_path / "sound.wav"))[0].shape == (1, SAMPLE_RATE // 2)
        return
    with pytest.raises(ValueError, match="Unsupported wav dtype"):
        load(str(tmp_path / "sound.wav"))
