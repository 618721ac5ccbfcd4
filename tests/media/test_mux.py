"""Muxing with the real ffmpeg: exact frames, colours, the user's audio, metadata, and failures that leave nothing."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt
import pytest

from asymtalker.media import MediaError, encode_video
from asymtalker.media.mux import AAC_FRAME
from asymtalker.tests.helpers import Frames, children, moving_frames, names

REPOSITORY = Path(__file__).parents[2]


def tones(sample_rate: int, channels: int, seconds: float = 0.6) -> npt.NDArray[np.float32]:
    """float32 [channels, N]: one sine per channel, each of its own pitch."""
    t = np.arange(int(sample_rate * seconds) + 3) / sample_rate
    pitches = 100 + 50 * np.arange(channels)
    return (0.3 * np.sin(2 * np.pi * pitches[:, None] * t)).astype(np.float32)


def decode_audio(path: Path) -> tuple[npt.NDArray[np.float32], float, int]:
    """(samples [C, N], time of the first, sample rate)."""
    with av.open(str(path)) as container:
        frames = list(container.decode(audio=0))
    blocks = []
    for frame in frames:
        block = frame.to_ndarray()
        if not frame.format.is_planar:
            block = block.reshape(-1, frame.layout.nb_channels).T
        blocks.append(block / 2**31 if block.dtype == np.int32 else block)
    assert frames[0].time is not None
    return np.concatenate(blocks, axis=1).astype(np.float32), frames[0].time, frames[0].sample_rate


def decode_video(path: Path) -> Frames:
    with av.open(str(path)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


@pytest.mark.parametrize("count", [1, 13, 33, 1533])
def test_exact_frame_count_and_duration(tmp_path: Path, count: int) -> None:
    path = tmp_path / "video.mp4"
    image = moving_frames(1, 32, 32)[0]
    audio = (tones(16000, 1, count / 25), 16000)
    result = encode_video((image for _ in range(count)), path, width=32, height=32, audio=audio)
    with av.open(str(path)) as container:
        video = container.streams.video[0]
        assert (video.frames, video.average_rate, video.codec_context.pix_fmt) == (count, 25, "yuv420p")
        assert sum(1 for _ in container.decode(video)) == count == result.num_frames
        assert video.duration is not None and video.time_base is not None
        assert video.duration * video.time_base == Fraction(count, 25)
    assert names(tmp_path) == ["video.mp4"]


def test_colours_survive(tmp_path: Path) -> None:
    patches = np.random.default_rng(0).integers(20, 236, (4, 4, 3), dtype=np.uint8)
    image = patches.repeat(16, 0).repeat(16, 1)
    encode_video([image] * 5, tmp_path / "v.mp4", width=64, height=64)
    with av.open(str(tmp_path / "v.mp4")) as container:
        context = container.streams.video[0].codec_context
        assert (context.colorspace, context.color_primaries, context.color_trc, context.color_range) == (1, 1, 1, 1)
        frame = next(container.decode(video=0))
        shown = frame.to_ndarray(format="rgb24")
    centres = (slice(4, None, 16), slice(4, None, 16))
    difference = shown[centres].astype(int) - image[centres].astype(int)
    # The planes are within rounding of BT.709; ffmpeg's quick conversion back to RGB truncates by up to two levels.
    assert np.abs(difference).mean() < 2 and np.abs(difference.mean(axis=(0, 1))).max() < 2


@pytest.mark.parametrize("channels", [1, 2, 6])
@pytest.mark.parametrize("sample_rate", [8000, 16000, 22050, 44100, 48000, 96000, 192000])
def test_audio_is_the_users_own(tmp_path: Path, sample_rate: int, channels: int) -> None:
    path = tmp_path / "v.mp4"
    waveform = tones(sample_rate, channels)
    encode_video(moving_frames(15, 32, 32), path, width=32, height=32, audio=(waveform, sample_rate))
    decoded, start, rate = decode_audio(path)
    assert rate == sample_rate and decoded.shape[0] == channels and start == 0
    assert 0 <= decoded.shape[1] - waveform.shape[1] <= (AAC_FRAME if audio_codec(path) == "aac" else 0)
    assert audio_codec(path) == ("aac" if rate <= 96000 and channels <= 5 else "flac")
    difference = np.abs(decoded[:, : waveform.shape[1]] - waveform).max(axis=1)
    assert difference.max() < 0.05
    with av.open(str(path)) as container:
        video, audio = container.streams.video[0], container.streams.audio[0]
        assert video.start_time == 0 and audio.start_time == 0


def audio_codec(path: Path) -> str:
    with av.open(str(path)) as container:
        return container.streams.audio[0].codec_context.name


def bits_per_sample(path: Path) -> int:
    """What a FLAC stream's STREAMINFO block says."""
    with av.open(str(path)) as container:
        info = container.streams.audio[0].codec_context.extradata
    assert info is not None
    return ((info[12] & 1) << 4 | info[13] >> 4) + 1


def test_flac_has_no_more_bits_than_players_decode(tmp_path: Path) -> None:
    path = tmp_path / "v.mp4"
    encode_video(moving_frames(5, 32, 32), path, width=32, height=32, audio=(tones(22254, 1), 22254))
    assert (audio_codec(path), bits_per_sample(path)) == ("flac", 24)


@pytest.mark.parametrize("channels", [3, 4, 5, 7, 8])
def test_unusual_channel_counts_keep_their_order(tmp_path: Path, channels: int) -> None:
    waveform = tones(48000, channels)
    encode_video(moving_frames(5, 32, 32), tmp_path / "v.mp4", width=32, height=32, audio=(waveform, 48000))
    decoded, _, _ = decode_audio(tmp_path / "v.mp4")
    assert np.abs(decoded[:, : waveform.shape[1]] - waveform).max() < 0.05


@pytest.mark.parametrize("seconds", [0.04, 3.0])
def test_audio_is_neither_cut_nor_padded_to_the_video(tmp_path: Path, seconds: float) -> None:
    waveform = tones(48000, 2, seconds)
    encode_video(moving_frames(25, 32, 32), tmp_path / "v.mp4", width=32, height=32, audio=(waveform, 48000))
    decoded, _, _ = decode_audio(tmp_path / "v.mp4")
    assert 0 <= decoded.shape[1] - waveform.shape[1] <= AAC_FRAME
    assert len(decode_video(tmp_path / "v.mp4")) == 25


@pytest.mark.parametrize("silent", [True, False])
def test_metadata_of_any_length_and_script(tmp_path: Path, silent: bool) -> None:
    metadata = {
        "prompt": json.dumps({"1": {"text": 'quotes " \\ ; = # \n und Umlaute ä 漢字' * 8000}}, ensure_ascii=False),
        "workflow": json.dumps({"nodes": []}),
    }
    audio = None if silent else (tones(16000, 1), 16000)
    encode_video(moving_frames(3), tmp_path / "v.mp4", width=64, height=48, audio=audio, metadata=metadata)
    with av.open(str(tmp_path / "v.mp4")) as container:
        assert {key: container.metadata[key] for key in metadata} == metadata
        assert len(container.streams.audio) == (0 if silent else 1)
    content = (tmp_path / "v.mp4").read_bytes()
    assert content.index(b"moov") < content.index(b"mdat"), "the index comes first"


def test_fractional_rate(tmp_path: Path) -> None:
    encode_video(moving_frames(5), tmp_path / "v.mp4", width=64, height=48, fps=Fraction(30000, 1001))
    with av.open(str(tmp_path / "v.mp4")) as container:
        assert container.streams.video[0].average_rate == Fraction(30000, 1001)


@pytest.mark.parametrize(("width", "height"), [(1, 1), (3, 2), (64, 47), (63, 48), (33, 31)])
def test_an_odd_size_is_made_even_and_said(tmp_path: Path, width: int, height: int) -> None:
    images = moving_frames(3, height, width)
    result = encode_video(images, tmp_path / "v.mp4", width=width, height=height, crf=0)
    decoded = decode_video(tmp_path / "v.mp4")
    even = width + width % 2, height + height % 2
    assert decoded.shape == (3, even[1], even[0], 3)
    (note,) = result.notes
    assert f"{width}x{height} pixels and is saved with {even[0]}x{even[1]}" in note
    if min(width, height) > 30:
        assert np.abs(decoded[:, :height, :width].astype(int) - images).mean() < 6
        assert np.abs(decoded[:, -1].astype(int) - decoded[:, -2]).mean() < 6


@pytest.mark.parametrize("num_samples", [1, 2, 15, 16, 17])
@pytest.mark.parametrize(("sample_rate", "channels"), [(16000, 1), (192000, 2), (48000, 8)])
def test_the_shortest_sounds(tmp_path: Path, sample_rate: int, channels: int, num_samples: int) -> None:
    waveform = tones(sample_rate, channels)[:, -num_samples:]
    encode_video(moving_frames(2), tmp_path / "v.mp4", width=64, height=48, audio=(waveform, sample_rate))
    decoded, start, rate = decode_audio(tmp_path / "v.mp4")
    assert (rate, start, decoded.shape[0]) == (sample_rate, 0, channels) and decoded.shape[1] >= num_samples


@pytest.mark.parametrize(("sample_rate", "saved"), [(65535, 65530), (96001, 96000), (191999, 191990)])
def test_a_rate_that_no_codec_holds(tmp_path: Path, sample_rate: int, saved: int) -> None:
    waveform = tones(sample_rate, 2)
    video = encode_video(moving_frames(2), tmp_path / "v.mp4", width=64, height=48, audio=(waveform, sample_rate))
    decoded, _, rate = decode_audio(tmp_path / "v.mp4")
    assert rate == saved and video.notes == (
        f"The audio was resampled from {sample_rate} Hz to {saved} Hz: no mp4 codec supports the original rate.",
    )
    assert decoded.shape[1] / rate == pytest.approx(waveform.shape[1] / sample_rate, abs=1e-3)


_BAD: list[tuple[dict[str, object], str]] = [
    ({"width": 0}, "has 0x48 pixels"),
    ({"crf": 52}, "crf is 52"),
    ({"fps": 0}, "frame rate is 0"),
    ({"audio": (np.zeros((1, 0)), 16000)}, "audio is empty"),
    ({"audio": (np.full((1, 9), np.nan), 16000)}, "NaN"),
    ({"audio": (np.zeros((9, 9)), 16000)}, "1 to 8 channels"),
    ({"audio": (np.zeros((1, 9)), 0)}, "sample rate of 0"),
    ({"audio": (np.zeros((1, 9)), 700_000)}, "sample rate of 700000 Hz; 1 to 655340"),
    ({"frames": []}, "no frames"),
    ({"frames": [np.zeros((48, 62, 3), np.uint8)]}, "Frame 0 of v.mp4 is uint8"),
    ({"frames": [np.zeros((48, 64, 3), np.float32)]}, "Frame 0 of v.mp4 is float32"),
]


@pytest.mark.parametrize(("change", "message"), _BAD)
def test_bad_input_is_named_and_leaves_nothing(tmp_path: Path, change: dict[str, object], message: str) -> None:
    arguments: dict[str, object] = {"frames": moving_frames(2), "width": 64, "height": 48, **change}
    with pytest.raises(MediaError, match=message):
        encode_video(path=tmp_path / "v.mp4", **arguments)  # type: ignore[arg-type]
    assert names(tmp_path) == [] and not children()


def test_disk_full_while_writing(make_tmpfs: Callable[[str], Path]) -> None:
    folder = make_tmpfs("600k")
    rng = np.random.default_rng(0)
    noise = (rng.integers(0, 256, (128, 128, 3), dtype=np.uint8) for _ in range(200))
    with pytest.raises(MediaError, match="could not be written"):
        encode_video(noise, folder / "v.mp4", width=128, height=128, crf=5, preset="ultrafast")
    assert names(folder) == []


def test_disk_too_small_for_the_audio(make_tmpfs: Callable[[str], Path]) -> None:
    folder = make_tmpfs("600k")
    with pytest.raises(MediaError, match=r"Not enough disk space for the audio of v\.mp4"):
        encode_video(moving_frames(3), folder / "v.mp4", width=64, height=48, audio=(tones(48000, 2, 10), 48000))
    assert names(folder) == []


def test_output_folder_that_cannot_be_written(tmp_path: Path, make_tmpfs: Callable[[str], Path]) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(MediaError, match="is not a folder"):
        encode_video(moving_frames(1), tmp_path / "file" / "v.mp4", width=64, height=48)
    folder = make_tmpfs("600k")
    subprocess.run(["mount", "-o", "remount,ro", str(folder)], check=True)
    with pytest.raises(MediaError, match="cannot be written"):
        encode_video(moving_frames(1), folder / "v.mp4", width=64, height=48)
