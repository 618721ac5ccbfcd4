"""The frame spool: bit-exact round trip, resume after every kind of interruption, locks, and disk errors made real."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from asymtalker.media import MediaError, SpoolHeader, SpoolReader, SpoolWriter
from asymtalker.media.manifest import MANIFEST_NAME
from asymtalker.media.segments import CODECS, Codec, Compression, decode_segment, encode_segment
from asymtalker.media.spool import WriterLag
from asymtalker.tests.helpers import Frames, moving_frames

REPOSITORY = Path(__file__).parents[2]


def header(height: int = 48, width: int = 64, job_id: str = "job") -> SpoolHeader:
    return SpoolHeader(job_id, width, height, metadata={"seed": 7})


def read_all(folder: Path) -> Frames:
    return np.stack(list(SpoolReader(folder).frames()))


def write_chunks(folder: Path, *chunks: Frames) -> None:
    with SpoolWriter(folder, header(*chunks[0].shape[1:3])) as writer:
        for index, chunk in enumerate(chunks):
            writer.append(chunk, f"state {index}".encode(), {"sharpness": float(index)})


@pytest.mark.parametrize(("height", "width"), [(48, 64), (256, 256), (2, 2), (51, 63), (3, 7)])
@pytest.mark.parametrize("noise", [0.0, 60.0])
def test_frames_come_back_bit_exact(tmp_path: Path, height: int, width: int, noise: float) -> None:
    chunks = [moving_frames(count, height, width, seed=count, noise=noise) for count in (5, 1, 3)]
    write_chunks(tmp_path, *chunks)
    np.testing.assert_array_equal(read_all(tmp_path), np.concatenate(chunks))


@pytest.mark.parametrize("noise", [0, 255])
def test_both_codecs_are_used_and_lossless(tmp_path: Path, noise: int) -> None:
    frames = np.random.default_rng(0).integers(0, noise + 1, (4, 64, 64, 3), dtype=np.uint8)
    write_chunks(tmp_path, frames)
    assert SpoolReader(tmp_path).segments[0].codec == ("ffv1" if noise else "h264")
    np.testing.assert_array_equal(read_all(tmp_path), frames)


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize(("height", "width"), [(64, 64), (3, 7), (2, 2)])
def test_every_codec_is_lossless_with_any_number_of_threads(
    codec: Codec, threads: int, height: int, width: int
) -> None:
    frames = moving_frames(7, height, width)
    data, _ = encode_segment(frames, Fraction(25), Compression(codec, threads))
    np.testing.assert_array_equal(np.stack(list(decode_segment(data))), frames)


def test_a_spool_may_change_its_codec(tmp_path: Path) -> None:
    """As when frames begin to arrive faster: what was stored before stays as it is, and a later run goes on."""
    frames = moving_frames(15)
    write_chunks(tmp_path, frames[:5])
    with SpoolWriter(tmp_path, header()) as writer:
        while writer.compression.codec != "utvideo":
            writer.compress_faster()
        writer.append(frames[5:10])
    with SpoolWriter(tmp_path, header()) as writer:
        writer.append(frames[10:])
    assert [segment.codec for segment in SpoolReader(tmp_path).segments] == ["ffv1", "utvideo", "ffv1"]
    np.testing.assert_array_equal(read_all(tmp_path), frames)


def test_a_writer_is_behind_by_the_share_of_time_that_others_wait_for_it() -> None:
    now = 0.0
    lag = WriterLag(lambda: now)
    behind: list[bool] = []
    for work_s, wait_s in [(10, 0), (1, 1), (1, 0), (1, 0.5), (1, 0.05), (1, 0.3)]:
        now += work_s
        with lag.waiting():
            now += wait_s
        behind.append(lag.is_behind())
    assert behind == [False, False, False, True, False, True]


def test_reader_knows_what_it_holds(tmp_path: Path) -> None:
    write_chunks(tmp_path, moving_frames(5), moving_frames(4))
    reader = SpoolReader(tmp_path)
    assert (reader.num_frames, reader.fps, reader.size) == (9, Fraction(25), (64, 48))
    assert reader.header.metadata == {"seed": 7}
    assert [segment.stats for segment in reader.segments] == [{"sharpness": 0.0}, {"sharpness": 1.0}]
    assert (reader.state(0), reader.state(-1)) == (b"state 0", b"state 1")


@pytest.mark.parametrize(("start", "stop"), [(0, 0), (0, 13), (4, 6), (5, 6), (11, None), (13, None)])
def test_any_range_can_be_read(tmp_path: Path, start: int, stop: int | None) -> None:
    frames = moving_frames(13)
    write_chunks(tmp_path, frames[:5], frames[5:10], frames[10:])
    part = list(SpoolReader(tmp_path).frames(start, stop))
    np.testing.assert_array_equal(np.array(part).reshape(-1, 48, 64, 3), frames[start:stop])


def test_range_beyond_the_end_is_refused(tmp_path: Path) -> None:
    write_chunks(tmp_path, moving_frames(3))
    with pytest.raises(MediaError, match=r"Frames 0 to 4 were requested, but .* has 3"):
        SpoolReader(tmp_path).frames(0, 4)


def test_wrong_frames_are_refused(tmp_path: Path) -> None:
    with (
        SpoolWriter(tmp_path, header()) as writer,
        pytest.raises(MediaError, match=r"got uint8 of shape \[2, 48, 62, 3\]"),
    ):
        writer.append(moving_frames(2, 48, 62))


def test_resume_continues_after_the_last_chunk(tmp_path: Path) -> None:
    frames = moving_frames(12)
    write_chunks(tmp_path, frames[:4], frames[4:8])
    with SpoolWriter(tmp_path, header()) as writer:
        assert (writer.num_segments, writer.num_frames, writer.state(-1)) == (2, 8, b"state 1")
        writer.append(frames[8:])
    np.testing.assert_array_equal(read_all(tmp_path), frames)


def test_exception_keeps_what_was_handed_over(tmp_path: Path) -> None:
    frames = moving_frames(6)
    with pytest.raises(KeyboardInterrupt), SpoolWriter(tmp_path, header()) as writer:
        writer.append(frames, b"s")
        raise KeyboardInterrupt
    np.testing.assert_array_equal(read_all(tmp_path), frames)


def test_truncate_redoes_the_last_chunk(tmp_path: Path) -> None:
    frames = moving_frames(9)
    write_chunks(tmp_path, frames[:4], frames[4:6])
    with SpoolWriter(tmp_path, header()) as writer:
        writer.truncate(1)
        assert (writer.num_frames, writer.state(-1)) == (4, b"state 0")
        writer.append(frames[4:])
    np.testing.assert_array_equal(read_all(tmp_path), frames)


@pytest.mark.parametrize("damage", ["shortened", "flipped", "missing"])
def test_torn_last_segment_is_dropped_and_redone(tmp_path: Path, damage: str) -> None:
    frames = moving_frames(12)
    write_chunks(tmp_path, frames[:4], frames[4:8], frames[8:])
    last = tmp_path / "000002.segment"
    content = bytearray(last.read_bytes())
    content[len(content) // 2] ^= 1
    if damage == "missing":
        last.unlink()
    else:
        last.write_bytes(content[: len(content) // 2] if damage == "shortened" else content)
    np.testing.assert_array_equal(read_all(tmp_path), frames[:8])
    with SpoolWriter(tmp_path, header()) as writer:
        assert (writer.num_frames, writer.state(-1)) == (8, b"state 1")
        writer.append(frames[8:])
    np.testing.assert_array_equal(read_all(tmp_path), frames)


@pytest.mark.parametrize("cut", [1, 20, 10_000])
def test_cut_manifest_line_is_dropped_and_redone(tmp_path: Path, cut: int) -> None:
    frames = moving_frames(8)
    write_chunks(tmp_path, frames[:4], frames[4:])
    manifest = tmp_path / MANIFEST_NAME
    manifest.write_bytes(manifest.read_bytes()[:-cut])
    with SpoolWriter(tmp_path, header()) as writer:
        kept = 0 if cut == 10_000 else 4
        assert writer.num_frames == kept
        writer.append(frames[kept:])
    np.testing.assert_array_equal(read_all(tmp_path), frames)


def test_damage_in_the_middle_is_an_error_not_wrong_frames(tmp_path: Path) -> None:
    write_chunks(tmp_path, moving_frames(4), moving_frames(4))
    first = tmp_path / "000000.segment"
    first.write_bytes(bytes(first.stat().st_size))
    with pytest.raises(MediaError, match=r"000000\.segment is damaged \(frames 0 to 3\)"):
        list(SpoolReader(tmp_path).frames())


_CHILD = """
import sys
import numpy as np
from asymtalker.media import SpoolHeader, SpoolWriter
frames = np.load(sys.argv[2])
with SpoolWriter(sys.argv[1], SpoolHeader("job", 64, 48)) as writer:
    print("open", flush=True)
    while writer.num_frames < len(frames):
        first = writer.num_frames
        writer.append(frames[first:first + 3], str(first + 3).encode())
        writer.flush()
        print("stored", flush=True)
"""


@pytest.mark.slow
def test_kill_9_at_random_moments_then_resume(tmp_path: Path) -> None:
    frames = moving_frames(400)
    np.save(tmp_path / "frames.npy", frames)
    folder = tmp_path / "spool"
    command = [sys.executable, "-c", _CHILD, str(folder), str(tmp_path / "frames.npy")]
    random = np.random.default_rng(0)
    progress = [0]
    # By chunks and not by time alone, so that a busy machine is killed in mid-work too.
    for chunks, delay in zip((0, 3, 7, 12), random.uniform(0.0, 0.02, 4), strict=True):
        with subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE) as child:
            assert child.stdout is not None and child.stdout.readline() == b"open\n"
            for _ in range(chunks):
                assert child.stdout.readline() == b"stored\n"
            time.sleep(delay)
            child.send_signal(signal.SIGKILL)
        if folder.exists() and (folder / MANIFEST_NAME).exists():
            progress.append(SpoolReader(folder).num_frames)
            np.testing.assert_array_equal(read_all(folder) if progress[-1] else frames[:0], frames[: progress[-1]])
    assert progress == sorted(progress) and 0 < progress[-1] < len(frames), "killed while writing"
    with SpoolWriter(folder, header()) as writer:
        assert writer.state(-1) == str(writer.num_frames).encode()
        while writer.num_frames < len(frames):
            writer.append(frames[writer.num_frames : writer.num_frames + 100])
            writer.flush()
    np.testing.assert_array_equal(read_all(folder), frames)
    assert not list(folder.glob("*.part"))


def test_second_writer_is_refused_and_lock_dies_with_its_holder(tmp_path: Path) -> None:
    with SpoolWriter(tmp_path, header()), pytest.raises(MediaError, match=f"in use by process {os.getpid()}"):
        SpoolWriter(tmp_path, header())
    SpoolWriter(tmp_path, header()).close()


def test_second_process_is_refused(tmp_path: Path) -> None:
    code = "import sys; from asymtalker.media import *; SpoolWriter(sys.argv[1], SpoolHeader('job', 64, 48))"
    with SpoolWriter(tmp_path, header()):
        result = subprocess.run(
            [sys.executable, "-c", code, str(tmp_path)], cwd=REPOSITORY, capture_output=True, text=True, check=False
        )
    assert result.returncode != 0 and f"in use by process {os.getpid()}" in result.stderr


def test_another_job_is_refused(tmp_path: Path) -> None:
    write_chunks(tmp_path, moving_frames(2))
    with pytest.raises(MediaError, match="holds frames of another job"):
        SpoolWriter(tmp_path, header(job_id="other"))


def test_unreadable_header_starts_afresh(tmp_path: Path) -> None:
    write_chunks(tmp_path, moving_frames(2))
    (tmp_path / "job.json").write_text("")
    with SpoolWriter(tmp_path, header()) as writer:
        assert writer.num_frames == 0
    assert not list(tmp_path.glob("*.segment"))


def test_disk_full_names_the_folder_and_keeps_whole_chunks(make_tmpfs: Callable[[str], Path]) -> None:
    folder = make_tmpfs("1m") / "spool"
    noise = np.random.default_rng(0).integers(0, 256, (40, 4, 48, 64, 3), dtype=np.uint8)
    with (
        pytest.raises(MediaError, match=f"disk is full: storing frames in {folder}"),
        SpoolWriter(folder, header()) as writer,
    ):
        for chunk in noise:
            writer.append(chunk)
    reader = SpoolReader(folder)
    assert 0 < reader.num_frames < 160
    np.testing.assert_array_equal(read_all(folder), noise.reshape(-1, 48, 64, 3)[: reader.num_frames])
    assert not list(folder.glob("*.part")) and len(list(folder.glob("*.segment"))) == len(reader.segments)


def test_folder_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "spool").write_text("")
    with pytest.raises(MediaError, match="is not a folder"):
        SpoolWriter(tmp_path / "spool", header())


def test_read_only_folder(make_tmpfs: Callable[[str], Path]) -> None:
    folder = make_tmpfs("1m")
    write_chunks(folder / "old", moving_frames(3))
    subprocess.run(["mount", "-o", "remount,ro", str(folder)], check=True)
    with pytest.raises(MediaError, match="cannot be written"):
        SpoolWriter(folder / "new", header())
    assert len(read_all(folder / "old")) == 3


def test_an_error_stays_until_the_writer_is_closed(make_tmpfs: Callable[[str], Path]) -> None:
    folder = make_tmpfs("1m")
    writer = SpoolWriter(folder / "spool", header())
    writer.append(moving_frames(3))
    writer.flush()
    (folder / "filler").write_bytes(bytes(os.statvfs(folder).f_bavail * os.statvfs(folder).f_frsize))
    writer.append(moving_frames(3))
    with pytest.raises(MediaError, match="disk is full"):
        writer.flush()
    with pytest.raises(MediaError, match="disk is full"):
        writer.append(moving_frames(3))
    with pytest.raises(MediaError, match="disk is full"):
        writer.close()
    assert SpoolReader(folder / "spool").num_frames == 3


def camera_like(count: int, size: int) -> Frames:
    """Texture with a photograph's 1/f spectrum, moving, luma noise of 1.2 levels, chroma noise at half resolution."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:size, :size] / size
    waves = [(rng.normal(0, scale, 2), rng.uniform(0, 6, 3)) for scale in np.geomspace(1, 80, 24)]
    frames = np.empty((count, size, size, 3), np.uint8)
    for index in range(count):
        dx, dy = 4 * np.sin(index / 7) / size, 3 * np.cos(index / 9) / size
        image = np.full((size, size, 3), 120.0)
        for (fx, fy), phase in waves:
            angle = 2 * np.pi * (fx * (x + dx) + fy * (y + dy))
            image += 60 / (1 + np.hypot(fx, fy)) * np.sin(angle[..., None] + phase)
        chroma = rng.normal(0, 0.6, (size // 2, size // 2, 3)).repeat(2, 0).repeat(2, 1)
        frames[index] = (image + rng.normal(0, 1.2, (size, size, 1)) + chroma).clip(0, 255)
    return frames


def test_camera_like_content_stays_under_the_disk_bound() -> None:
    frames = camera_like(2, 512)
    data, _ = encode_segment(frames, Fraction(25), Compression())
    assert len(data) / len(frames) * 600 * 25 <= 4e9
