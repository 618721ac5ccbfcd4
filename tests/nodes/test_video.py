"""The pack's VIDEO as core and other nodes use it: trimmed, cropped, resized, saved; and videos that come in."""

from __future__ import annotations

import errno
import io
import json
import tracemalloc
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from PIL import Image

from .conftest import Import

NUM_FRAMES = 50
SIZE = (96, 64)
"""Width and height."""

Video = Any
Frames = np.ndarray[Any, np.dtype[np.uint8]]


def grey(number: float) -> float:
    """Brightness 0..255 of a frame, by which it is recognised."""
    return 20 + 4 * number


def pictures(num_frames: int = NUM_FRAMES, size: tuple[int, int] = SIZE) -> Frames:
    """uint8 [n, H, W, 3]: grey, brighter with every frame, with a red upper left quarter."""
    frames = np.empty((num_frames, size[1], size[0], 3), np.uint8)
    frames[:] = np.array([grey(number) for number in range(num_frames)])[:, None, None, None]
    frames[:, : size[1] // 2, : size[0] // 2] = (230, 10, 10)
    return frames


def numbers(frames: Any) -> list[int]:
    """Which of the pictures these are, by the pixel in the lower right corner."""
    return [round((float(frame[-1, -1, 1]) - grey(0)) / 4) for frame in frames]


def is_red(frame: Frames, x: int, y: int) -> bool:
    return bool(frame[y, x, 0] > 180 and frame[y, x, 1] < 60)


@pytest.fixture
def video(pack: Import, folders: Path) -> Video:
    """The Sampler's kind of VIDEO over a spool of the pictures, in two chunks."""
    media = pack("media")
    folder = folders / "user" / "asymtalker" / "spool" / "job"
    with media.SpoolWriter(folder, media.SpoolHeader("job", *SIZE)) as spool:
        spool.append(pictures()[:33])
        spool.append(pictures()[33:])
    module = pack("nodes.host.video")
    return module.SpooledVideo(module.SpoolHandle.of(folder, "for extending"))


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """Write the pictures to an mp4, turned on its side by a display matrix if ``degrees`` are given."""

    def write(name: str = "in.mp4", degrees: int = 0, num_frames: int = NUM_FRAMES) -> Path:
        path = tmp_path / name
        with av.open(str(path), mode="w") as container:
            stream: Any = container.add_stream("libx264", rate=25, options={"crf": "1"})
            stream.width, stream.height, stream.pix_fmt = *SIZE, "yuv420p"
            for picture in pictures(num_frames):
                container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
            container.mux(stream.encode(None))
        if degrees:
            data = path.read_bytes()
            # The track header's matrix (ISO 14496-12, 8.3.2): the identity becomes a quarter turn.
            upright = b"".join(value.to_bytes(4, "big") for value in (65536, 0, 0, 0, 65536, 0, 0, 0, 1 << 30))
            turned = b"".join(
                value.to_bytes(4, "big", signed=True) for value in (0, 65536, 0, -65536, 0, 0, 0, 0, 1 << 30)
            )
            track = data.index(b"tkhd")
            at = data.index(upright, track)
            path.write_bytes(data[:at] + turned + data[at + len(turned) :])
        return path

    return write


def decoded(file: Any) -> list[Frames]:
    with av.open(file) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


def can(comfy: Import, container: str) -> bool:
    return container in comfy("comfy_api.latest").Types.VideoContainer.as_input()


def newer_host(comfy: Import) -> Any:
    """The host's API; skips where its file videos cannot be trimmed."""
    api: Any = comfy("comfy_api.latest")
    if not hasattr(api.InputImpl.VideoFromFile, "as_trimmed"):
        pytest.skip("this ComfyUI cannot trim videos")
    return api


@pytest.mark.parametrize(
    ("start", "duration", "expected"),
    [
        (0.4, 0.2, range(10, 15)),
        (10 / 25, 5 / 25, range(10, 15)),
        (0.41, 0.2, range(11, 16)),
        (-0.2, 0.0, range(45, 50)),
        (1.8, 9.0, range(45, 50)),
        (0.0, 0.04, range(1)),
        (None, None, range(50)),
    ],
)
def test_trimming_is_exact_to_the_frame(
    comfy: Import, video: Video, folders: Path, start: float, duration: float, expected: range
) -> None:
    trimmed = video.as_trimmed(start, duration, strict_duration=False)
    assert numbers(trimmed.frames()) == list(expected)
    assert trimmed.get_frame_count() == len(expected)
    assert trimmed.get_duration() == pytest.approx(len(expected) / 25)
    assert numbers(trimmed.frames(1, NUM_FRAMES)) == list(expected)[1:], "nothing beyond the span"
    assert not (folders / "temp").exists(), "nothing is written for it"


def test_every_frame_s_own_time_is_that_frame(video: Video) -> None:
    """As core's Crop Video (Temporal) asks: by floats that are rarely the time itself."""
    for number in range(NUM_FRAMES):
        assert numbers(video.as_trimmed(number / 25, 1 / 25, strict_duration=False).frames()) == [number]
    assert numbers(video.as_trimmed(0.4, 1.0).as_trimmed(0.2, 0.4).frames()) == list(range(15, 25)), "of a trimmed one"


def test_a_span_without_frames_is_none(video: Video) -> None:
    assert video.as_trimmed(2.0, 1.0) is None
    assert video.as_trimmed(1.0, 1.04, strict_duration=True) is None
    assert video.as_trimmed(1.0, 1.0, strict_duration=True).get_frame_count() == 25
    assert video.as_trimmed(0.0, 0.0) is video


def test_saving_a_part_does_not_end_the_frames_of_the_whole(video: Video, folders: Path, tmp_path: Path) -> None:
    saved = folders / "user" / "asymtalker" / "spool" / "job" / "saved"
    video.as_trimmed(0.0, 1.0).save_to(str(tmp_path / "part.mp4"))
    assert numbers(decoded(str(tmp_path / "part.mp4"))) == list(range(25)) and not saved.exists()
    video.as_resized(48, 32, "area").save_to(str(tmp_path / "small.mp4"))
    assert saved.exists()


def test_cropping_and_resizing_are_done_frame_by_frame(comfy: Import, video: Video, tmp_path: Path) -> None:
    cropped = video.as_cropped(41, 3, 1000, 40)
    assert cropped.get_dimensions() == (56, 40)
    np.testing.assert_array_equal(next(cropped.frames()), pictures()[0, 2:42, 40:96])
    for whole in ((0, 0, 0, 0), (0, 0, 96, 64), (-5, -5, 200, 200)):
        assert video.as_cropped(*whole) is video
    resized = cropped.as_resized(28, 21, "bilinear", "center")
    images = torch.from_numpy(pictures()[:1, 2:42, 40:96].astype(np.float32) / 255).movedim(-1, 1)
    scaled = comfy("comfy.utils").common_upscale(images, 28, 21, "bilinear", "center").movedim(1, -1)
    torch.testing.assert_close(
        torch.from_numpy(next(resized.frames())) / 255.0, scaled[0], atol=0.5 / 255 + 1e-5, rtol=0
    )
    part = video.as_resized(48, 32, "lanczos", "disabled", (10, 10, 20, 16)).as_trimmed(1.0, 0.2)
    assert part.get_dimensions() == part.get_display_dimensions() == (20, 16)
    assert part.get_components().images.shape == (5, 16, 20, 3)
    part.save_to(str(tmp_path / "part.mp4"))
    assert numbers(decoded(str(tmp_path / "part.mp4"))) == list(range(25, 30))


def test_cores_trim_node_takes_it(comfy: Import, video: Video) -> None:
    newer_host(comfy)
    trim = comfy("comfy_extras.nodes_video").VideoSlice.execute
    (part,) = trim(video, 0.4, 0.2, False).result
    assert numbers(part.frames()) == list(range(10, 15))
    with pytest.raises(ValueError, match="Failed to slice"):
        trim(video, 0.4, 2.0, True)


def test_what_a_video_says_of_itself(video: Video, folders: Path) -> None:
    assert (video.get_bit_depth(), video.get_color_space(), video.get_container_format()) == (8, "sRGB", "mp4")
    assert video.get_frame_rate() == Fraction(25) and video.get_duration() == 2.0
    assert video.get_active_trim_window() == (0.0, 0.0) and not video.has_pending_frame_edits()
    assert not (folders / "temp").exists(), "no file is written to tell it"


def test_the_stream_source_is_one_file_made_when_asked_for(comfy: Import, video: Video, folders: Path) -> None:
    part = video.as_trimmed(0.4, 0.2).as_cropped(48, 32, 48, 32)
    path = part.get_stream_source()
    assert Path(path).parent == folders / "temp" and part.get_stream_source() == path
    assert numbers(decoded(path)) == list(range(10, 15)) and decoded(path)[0].shape == (32, 48, 3)
    Path(path).unlink()
    assert numbers(decoded(part.get_stream_source())) == list(range(10, 15)), "made again when it was removed"
    plain = comfy("comfy_api.latest").InputImpl.VideoFromFile(part.get_stream_source())
    assert plain.get_frame_count() == 5


@pytest.mark.parametrize(("options", "expected"), [({}, 18), ({"crf": 30.0}, 30), ({"crf": 0}, 0)])
def test_crf_reaches_the_encoder(video: Video, tmp_path: Path, options: dict[str, float], expected: int) -> None:
    video.save_to(str(tmp_path / "saved.mp4"), "mp4", "h264", **options)
    # x264 writes its settings into the stream.
    content = (tmp_path / "saved.mp4").read_bytes()
    assert (b"rc=crf" in content and b"crf=%d.0" % expected in content) or (expected == 0 and b"rc=cqp" in content)


@pytest.mark.parametrize(
    ("container", "codec", "options", "expected"),
    [
        ("webm", "auto", {}, ("matroska,webm", "av1", 8)),
        ("webm", "av1", {"crf": 40.0, "color_space": "sRGB"}, ("matroska,webm", "av1", 8)),
        ("mkv", "auto", {}, ("matroska,webm", "h264", 8)),
        ("mkv", "h264", {"crf": 30.0}, ("matroska,webm", "h264", 8)),
        ("mp4", "av1", {}, ("mov,mp4,m4a,3gp,3g2,mj2", "av1", 8)),
        ("mp4", "h264", {"bit_depth": 10}, ("mov,mp4,m4a,3gp,3g2,mj2", "h264", 10)),
        ("auto", "h264", {"crf": 30.0, "color_space": "sRGB"}, ("mov,mp4,m4a,3gp,3g2,mj2", "h264", 8)),
    ],
)
def test_what_the_host_can_write_is_written(
    comfy: Import,
    video: Video,
    folders: Path,
    tmp_path: Path,
    container: str,
    codec: str,
    options: dict[str, Any],
    expected: tuple[str, str, int],
) -> None:
    if not can(comfy, "webm"):
        pytest.skip("this ComfyUI writes mp4 alone")
    path = tmp_path / f"saved.{container}" if container != "auto" else tmp_path / "saved.mp4"
    video.save_to(str(path), container, codec, metadata={"prompt": {"1": "x"}, "comment": "mine"}, **options)
    with av.open(str(path)) as file:
        tags = {key.lower(): value for key, value in file.metadata.items()}
        stream = file.streams.video[0]
        assert (file.format.name, stream.codec.canonical_name, stream.format.components[0].bits) == expected
    assert json.loads(tags["prompt"]) == {"1": "x"} and "AI-generated" in tags["comment"]
    frames = decoded(str(path))
    greys = np.array([frame[-1, -1, 1] for frame in frames], float)
    # Decoders round 10-bit greys down by up to two steps, and coarse encoders keep flat greys less well.
    assert len(frames) == NUM_FRAMES and np.abs(greys - pictures()[:, -1, -1, 1]).max() <= 4
    assert is_red(frames[7], 20, 10)
    assert list((folders / "temp").glob("*")) == [], "work files are gone"


def test_memory_files_and_suffixes(comfy: Import, video: Video, tmp_path: Path) -> None:
    buffer = io.BytesIO()
    video.save_to(buffer)
    buffer.seek(0)
    assert numbers(decoded(buffer)) == list(range(NUM_FRAMES))
    if can(comfy, "webm"):
        video.as_trimmed(0.0, 0.2).save_to(tmp_path / "by_suffix.webm")
        with av.open(str(tmp_path / "by_suffix.webm")) as file:
            assert file.streams.video[0].codec.canonical_name == "av1"


def test_what_nobody_writes_is_refused_before_any_work(
    comfy: Import, pack: Import, video: Video, folders: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "refused.mp4"
    with pytest.raises(ValueError, match=r"codec: this ComfyUI writes auto, h264.*, not hevc"):
        video.save_to(str(path), codec="hevc")
    with pytest.raises(ValueError, match="sheen: this ComfyUI does not support this option"):
        video.save_to(str(path), sheen=3)
    if can(comfy, "webm"):
        with pytest.raises(ValueError, match="color_space: the video is in sRGB, not in HDR"):
            video.save_to(str(path), color_space="HDR")
        # Frames that nobody may read: the answer comes before the first of them.
        monkeypatch.setattr(type(video), "frames", None)
        with pytest.raises(ValueError, match="format, codec: this ComfyUI cannot write webm with codec h264"):
            video.save_to(str(path), "webm", "h264")
    assert not path.exists()


def test_a_file_that_the_host_cannot_finish_is_not_left(
    comfy: Import, pack: Import, video: Video, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "films" / "film.mp4"
    path.parent.mkdir()
    path.write_bytes(b"an older film")

    def save_half(
        self: Any, path: str, *, format: Any, codec: Any, metadata: Any, bit_depth: int, crf: int = 0
    ) -> None:
        Path(path).write_bytes(b"half a film")
        raise OSError(errno.ENOSPC, "No space left on device")

    host = comfy("comfy_api.latest").InputImpl.VideoFromFile
    monkeypatch.setattr(pack("nodes.host.video_file"), "check_encoding", lambda encoding, look: None)
    monkeypatch.setattr(host, "save_to", save_half)
    with pytest.raises(pack("media").MediaError, match="The disk is full"):
        video.save_to(str(path), bit_depth=10)
    assert [entry.read_bytes() for entry in path.parent.iterdir()] == [b"an older film"]


def test_more_frames_than_memory_holds_are_refused_with_the_numbers(comfy: Import, pack: Import, video: Video) -> None:
    class Long(type(video)):
        def get_frame_count(self) -> int:
            return 250_000_000

    video.__class__ = Long
    with pytest.raises(
        MemoryError,
        match=r"video: all 250000000 frames of 96x64 at once take about \d+\.\d GB, and \d+\.\d GB is free\..*Save",
    ):
        video.get_components()


def test_files_are_read_as_they_are(comfy: Import, pack: Import, write: Callable[..., Path]) -> None:
    api: Any = comfy("comfy_api.latest")
    source = pack("nodes.host.incoming").frames_of(api.InputImpl.VideoFromFile(str(write())))
    assert (source.get_dimensions(), source.get_frame_count(), source.get_frame_rate()) == (SIZE, NUM_FRAMES, 25)
    assert numbers(source.frames()) == list(range(NUM_FRAMES)) and numbers(source.frames(3, 6)) == [3, 4, 5]
    memory = api.InputImpl.VideoFromFile(io.BytesIO(write().read_bytes()))
    assert numbers(pack("nodes.host.incoming").frames_of(memory).frames(48)) == [48, 49]


def test_a_turned_file_is_read_upright(comfy: Import, pack: Import, write: Callable[..., Path]) -> None:
    """As telephones store videos."""
    api: Any = comfy("comfy_api.latest")
    source = pack("nodes.host.incoming").frames_of(api.InputImpl.VideoFromFile(str(write(degrees=90))))
    assert source.get_dimensions() == (SIZE[1], SIZE[0])
    frame = next(source.frames())
    assert frame.shape == (SIZE[0], SIZE[1], 3)
    assert is_red(frame, SIZE[1] - 5, 5) and not is_red(frame, 5, 5), "the upper left corner is now the upper right"


@pytest.mark.parametrize(
    ("start", "duration", "expected"),
    [(0.4, 0.2, range(10, 15)), (1.6, 0.0, range(40, 50)), (-0.4, 0.0, range(40, 50)), (0.0, 0.2, range(5))],
)
def test_a_file_trimmed_by_the_host_is_read_trimmed(
    comfy: Import, pack: Import, write: Callable[..., Path], start: float, duration: float, expected: range
) -> None:
    trimmed = newer_host(comfy).InputImpl.VideoFromFile(str(write())).as_trimmed(start, duration, False)
    source = pack("nodes.host.incoming").frames_of(trimmed)
    assert numbers(source.frames()) == list(expected) and source.get_frame_count() == len(expected)


def test_edits_that_only_the_host_can_make_are_made_by_it(
    comfy: Import, pack: Import, folders: Path, write: Callable[..., Path]
) -> None:
    """A crop in a later host's file video, which its file does not show."""
    api = newer_host(comfy)

    class Cropped(api.InputImpl.VideoFromFile):
        def get_dimensions(self) -> tuple[int, int]:
            return 48, 32

        def save_to(self, path: Any, format: Any, codec: Any, crf: float | None = None) -> None:
            parts = api.Types.VideoComponents(
                images=torch.from_numpy(pictures()[:, 32:, 48:] / np.float32(255)), frame_rate=Fraction(25)
            )
            api.InputImpl.VideoFromComponents(parts).save_to(path, format, codec, crf=crf)

    source = pack("nodes.host.incoming").frames_of(Cropped(str(write())))
    assert source.get_dimensions() == (48, 32) and numbers(source.frames()) == list(range(NUM_FRAMES))
    assert np.abs(next(source.frames()).astype(int) - int(grey(0))).max() <= 2, "without loss"
    del source
    assert list((folders / "temp").iterdir()) == []


@pytest.mark.parametrize("kind", ["edited", "pasted", "file"])
def test_frames_are_in_memory_one_at_a_time(
    comfy: Import, pack: Import, video: Video, write: Callable[..., Path], kind: str
) -> None:
    side = 512
    if kind == "file":
        source = pack("nodes.host.incoming").frames_of(comfy("comfy_api.latest").InputImpl.VideoFromFile(str(write())))
        frame_bytes = SIZE[0] * SIZE[1] * 3
    else:
        source = video.as_trimmed(0.1).as_resized(side, side, "bicubic").as_cropped(0, 0, side, side - 2)
        frame_bytes = side * side * 3
    if kind == "pasted":
        crop = pack("media.crop").Crop(0, 0, side, side, side)
        square = video.as_resized(side, side, "bicubic")
        source = pack("nodes.host.face_crop").paste_face(square, torch.zeros(1, side, side, 3), crop, 0.1, None)
    list(source.frames(0, 2))
    tracemalloc.start()
    try:
        num_frames = sum(1 for _ in source.frames())
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert num_frames > 45 and peak < 12 * frame_bytes + 1_000_000, f"{peak / frame_bytes:.0f} frames at once"


def test_a_file_without_a_length_is_read(comfy: Import, pack: Import, tmp_path: Path) -> None:
    file = tmp_path / "one_picture.gif"
    Image.new("RGB", (32, 32), (40, 40, 40)).save(file)
    source = pack("nodes.host.incoming").frames_of(comfy("comfy_api.latest").InputImpl.VideoFromFile(str(file)))
    assert [int(frame.mean().round()) for frame in source.frames()] == [40]


def test_what_is_no_video_is_refused_by_name(comfy: Import, pack: Import, tmp_path: Path) -> None:
    api: Any = comfy("comfy_api.latest")
    frames_of = pack("nodes.host.incoming").frames_of
    (tmp_path / "text.mp4").write_text("no video")
    with pytest.raises(ValueError, match=r"video: it cannot be read .*convert it to an mp4"):
        frames_of(api.InputImpl.VideoFromFile(str(tmp_path / "text.mp4")))
    with av.open(str(tmp_path / "sound.mp4"), mode="w") as container:
        stream: Any = container.add_stream("aac", rate=16_000, layout="mono")
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 1600), np.float32), "fltp", "mono")
        sound.sample_rate = 16_000
        container.mux(stream.encode(sound))
        container.mux(stream.encode(None))
    with pytest.raises(ValueError, match="video: the file has no video stream, only sound"):
        frames_of(api.InputImpl.VideoFromFile(str(tmp_path / "sound.mp4")))


def test_mux_and_face_paste_take_an_edited_video(
    comfy: Import, pack: Import, folders: Path, write: Callable[..., Path]
) -> None:
    trimmed = newer_host(comfy).InputImpl.VideoFromFile(str(write(degrees=90))).as_trimmed(0.4, 0.2, False)
    audio = {"waveform": torch.zeros(1, 1, 3_200), "sample_rate": 16_000}
    _, result = pack("nodes.host.saving").save_with_audio(trimmed, audio, "edited", 1, True, None, None)
    frames = decoded(str(folders / "output" / result.filename))
    assert frames[0].shape == (SIZE[0], SIZE[1], 3) and len(frames) == 5
    assert numbers([np.rot90(frame) for frame in frames]) == list(range(10, 15))

    square = newer_host(comfy).InputImpl.VideoFromComponents(
        comfy("comfy_api.latest").Types.VideoComponents(
            images=torch.from_numpy(pictures(size=(64, 64)) / np.float32(255)), frame_rate=Fraction(25)
        )
    )
    crop = pack("media.crop").Crop(100, 50, 64, 200, 150)
    pasted = pack("nodes.host.face_crop").paste_face(
        square.as_trimmed(0.4, 0.2), torch.zeros(1, 150, 200, 3), crop, 0.0, None
    )
    assert pasted.get_frame_count() == 5 and pasted.get_dimensions() == (200, 150)
    part = pasted.as_trimmed(0.04, 0.08).as_cropped(100, 50, 64, 64)
    assert numbers(part.frames()) == [11, 12]
