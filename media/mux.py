"""Frames and the user's own audio to an mp4, through imageio-ffmpeg, in bounded memory.

The file appears under its name only when it is whole: ffmpeg writes into a working folder beside it, the result is read
back and checked, and only then renamed. imageio-ffmpeg ignores ffmpeg's exit status, hence the reading back.
"""

from __future__ import annotations

import contextlib
import inspect
import os
import shutil
import time
import uuid
from collections.abc import Callable, Generator, Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal, Protocol, cast

import av
import imageio_ffmpeg
import numpy as np

from .carrier import SILENCE, AudioTrack, write_carrier
from .errors import MediaError, format_bytes, free_bytes, storage_error
from .housekeeping import check_disk
from .locks import LOCK_NAME, FolderBusyError, FolderGoneError, FolderLock

# The rates in AAC's table (ISO 14496-3, 1.6.3.4).
AAC_SAMPLE_RATES = frozenset({7350, 8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000, 64000, 88200, 96000})
# With more, AAC has a bass channel that keeps nothing above 120 Hz (6), a reordered layout (7), or planes that crash
# PyAV 18, with which ComfyUI reads audio (8).
AAC_MAX_CHANNELS = 5
AAC_FRAME = 1024
AAC_BITS_PER_CHANNEL = 128_000
WORK_SUFFIX = ".part"
_DISK_IS_FULL_BYTES = 1 << 20
_REMOVAL_ATTEMPTS = 20
_REMOVAL_PAUSE_S = 0.1

AudioCodec = Literal["aac", "flac"]

_FrameWriter = Generator[None, Any, None]


class _Process(Protocol):
    """The part of a running ffmpeg's handle used here."""

    def wait(self, timeout: float | None = None) -> int: ...


class _Abandoned(BaseException):
    """Thrown into imageio-ffmpeg's writer, which kills ffmpeg on what is not an Exception and else lets it finish."""


@dataclass(frozen=True)
class EncodedVideo:
    """What `encode_video` wrote."""

    path: Path
    num_frames: int
    num_bytes: int
    audio_codec: AudioCodec | None


def encode_video(
    frames: Iterable[Any],
    path: str | os.PathLike[str],
    *,
    width: int,
    height: int,
    fps: Fraction | float = 25,
    audio: tuple[Any, int] | None = None,
    crf: int = 18,
    preset: str = "medium",
    audio_codec: AudioCodec | None = None,
    audio_bitrate: int | None = None,
    metadata: Mapping[str, str] | None = None,
    if_taken: Callable[[], Path] | None = None,
) -> EncodedVideo:
    """Write an mp4 of H.264 (yuv420p, BT.709) and AAC, replacing `path`; the index is at its front.

    frames: uint8 [H, W, 3], arrays or CPU tensors, pulled one at a time; an exception they raise passes through
        unchanged after ffmpeg was stopped and its files removed.
    audio: (waveform float32 [C, N], sample rate), 1 to 8 channels, written at its own rate, channels and length,
        neither cut nor padded to the video.
    crf: x264's constant quality, 0 (lossless) to 51.
    audio_codec: "aac", "flac" (lossless, 24 bits), or None: AAC where it can carry the audio as it is, else FLAC.
    audio_bitrate: AAC's bits per second of all channels; by default 128 kbit/s for each.
    metadata: tags of the file, as ComfyUI's own savers write `prompt` and `workflow`.
    if_taken: gives another name in the same folder where `path` exists when the file is whole, again until one is free,
        instead of replacing it: two writers that chose the same name get a file each.
    Raises MediaError when an input is unusable, the disk is full, or ffmpeg fails; nothing is left behind then.
    """
    path = Path(path)
    if min(width, height) < 2 or width % 2 or height % 2:
        raise MediaError(f"H.264 video needs even width and height of at least 2; got {width}x{height}.")
    if not 0 <= crf <= 51:
        raise MediaError(f"crf is {crf}; x264 takes 0 (lossless) to 51 (smallest file).")
    track = None if audio is None else AudioTrack.checked(*audio)
    codec = None if track is None else _audio_codec(track, audio_codec)
    carrier = track or SILENCE
    with _working_folder(path) as work:
        check_disk(work, carrier.waveform.nbytes, f"the audio of {path.name}")
        write_carrier(work / "audio.mov", carrier, metadata or {})
        result = work / "video.mp4"
        output = _output_params(crf, preset, codec, _bitrate(track, audio_bitrate))
        writer = imageio_ffmpeg.write_frames(
            str(result),
            (width, height),
            # imageio-ffmpeg has no types; those of the defaults are guessed.
            fps=_rate_argument(fps),  # pyright: ignore[reportArgumentType]
            quality=None,  # pyright: ignore[reportArgumentType]
            codec="libx264",
            macro_block_size=1,
            ffmpeg_log_level="error",
            output_params=output,
            audio_path=str(work / "audio.mov"),
        )
        num_frames = _write(cast(_FrameWriter, writer), frames, (height, width, 3), path)
        _verify(result, path, num_frames, track)
        num_bytes = result.stat().st_size
        try:
            path = _publish(result, path, if_taken)
        except OSError as error:
            raise storage_error(path.parent, f"saving {path.name}", error) from error
    return EncodedVideo(path, num_frames, num_bytes, codec)


def _publish(result: Path, path: Path, if_taken: Callable[[], Path] | None) -> Path:
    """Give the whole file its name, which is returned."""
    while if_taken is not None:
        try:
            # Whoever creates the name owns it: looking first and renaming then would leave a gap for another writer.
            path.open("xb").close()
            break
        except FileExistsError:
            path = if_taken()
    result.replace(path)
    return path


def _audio_codec(track: AudioTrack, wanted: AudioCodec | None) -> AudioCodec:
    if wanted == "aac" and track.sample_rate not in AAC_SAMPLE_RATES:
        raise MediaError(
            f"AAC cannot hold {track.sample_rate} Hz, only {sorted(AAC_SAMPLE_RATES)}. Resample the audio or use FLAC."
        )
    fits_aac = track.sample_rate in AAC_SAMPLE_RATES and track.channels <= AAC_MAX_CHANNELS
    return wanted or ("aac" if fits_aac else "flac")


def _bitrate(track: AudioTrack | None, bitrate: int | None) -> int:
    if track is None:
        return 0
    # AAC holds at most 6144 bits per channel in a frame; ffmpeg warns and clamps above it.
    ceiling = 6144 * track.channels * track.sample_rate // AAC_FRAME
    return min(bitrate or AAC_BITS_PER_CHANNEL * track.channels, ceiling)


def _rate_argument(fps: Fraction | float) -> Fraction | float:
    """Whole rates as float, which every version of imageio-ffmpeg takes; others exactly."""
    rate = Fraction(fps).limit_denominator(100_000)
    if rate <= 0:
        raise MediaError(f"The frame rate is {fps}; it must be positive.")
    return float(rate) if rate.denominator == 1 else rate


def _output_params(crf: int, preset: str, audio_codec: AudioCodec | None, audio_bitrate: int) -> list[str]:
    colour = (
        "scale=out_color_matrix=bt709:out_range=tv:flags=bicubic+accurate_rnd+full_chroma_int,format=yuv420p,"
        "setparams=color_primaries=bt709:color_trc=bt709:colorspace=bt709:range=tv"
    )
    params = ["-vf", colour, "-crf", str(crf), "-preset", preset]
    if audio_codec is None:
        params += ["-an"]
    elif audio_codec == "aac":
        # ffmpeg's default coder garbles the first frame of sound that starts at once; this one does not.
        params += ["-c:a", "aac", "-aac_coder", "fast", "-b:a", str(audio_bitrate)]
    else:
        params += ["-c:a", audio_codec, "-sample_fmt", "s32", "-strict", "experimental"]
    params += ["-map_metadata", "1"]
    for name in ("major_brand", "minor_version", "compatible_brands", "encoder"):
        params += ["-metadata", f"{name}="]
    return [*params, "-movflags", "+faststart+use_metadata_tags", "-f", "mp4"]


def _write(writer: _FrameWriter, frames: Iterable[Any], shape: tuple[int, int, int], path: Path) -> int:
    """Feed all frames to ffmpeg and wait for it; returns their number."""
    writer.send(None)
    process = cast("_Process | None", inspect.getgeneratorlocals(writer).get("p"))
    num_frames = 0
    try:
        for frame in frames:
            array = np.ascontiguousarray(frame)
            if array.dtype != np.uint8 or array.shape != shape:
                raise MediaError(
                    f"Frame {num_frames} of {path.name} is {array.dtype} of shape {list(array.shape)}; it must be "
                    f"uint8 of shape {list(shape)}."
                )
            _send(writer, array, path, num_frames)
            num_frames += 1
        if num_frames == 0:
            raise MediaError(f"There are no frames to write to {path.name}.")
    except BaseException:
        with contextlib.suppress(_Abandoned, StopIteration):
            writer.throw(_Abandoned())
        if process is not None:
            # Killed, but not gone until waited for: its files could not be removed yet on Windows.
            process.wait(timeout=30)
        raise
    writer.close()
    if process is not None and (status := process.wait(timeout=30)) != 0:
        raise _failure(path, f"ffmpeg ended with status {status}")
    return num_frames


def _send(writer: _FrameWriter, frame: np.ndarray[Any, np.dtype[np.uint8]], path: Path, number: int) -> None:
    try:
        writer.send(frame)
    except (OSError, StopIteration) as error:
        raise _failure(path, f"ffmpeg stopped at frame {number}") from error


def _failure(path: Path, what: str) -> MediaError:
    free = free_bytes(path.parent)
    if free < _DISK_IS_FULL_BYTES:
        return MediaError(
            f"The disk is full: {path} could not be written ({what}), {format_bytes(free)} is left. "
            "Free some space or choose a folder on another disk, then queue the job again."
        )
    return MediaError(
        f"{path} could not be written: {what}. ffmpeg's own message is in the console; "
        f"{format_bytes(free)} of disk space is free."
    )


def _verify(result: Path, path: Path, num_frames: int, track: AudioTrack | None) -> None:
    """Read the whole file's packets back. Raises MediaError unless every frame and all of the audio are there."""
    packets, audio_end = 0, Fraction(0)
    try:
        with av.open(str(result), mode="r") as container:
            for packet in container.demux():
                if packet.size == 0 or packet.is_corrupt:
                    continue
                if packet.stream.type == "video":
                    packets += 1
                elif packet.pts is not None and packet.time_base is not None:
                    audio_end = max(audio_end, (packet.pts + (packet.duration or 0)) * packet.time_base)
    except (av.FFmpegError, OSError) as error:
        raise _failure(path, f"the file cannot be read back ({error})") from error
    if packets != num_frames:
        raise _failure(path, f"{packets} of {num_frames} frames arrived in the file")
    if track is not None and audio_end < track.duration_s - Fraction(AAC_FRAME, track.sample_rate):
        arrived, expected = float(audio_end), float(track.duration_s)
        raise _failure(path, f"{arrived:.2f} of {expected:.2f} s of audio arrived in the file")


@contextlib.contextmanager
def _working_folder(path: Path) -> Generator[Path, None, None]:
    """A locked folder beside `path`, removed afterwards together with those that dead processes left there."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _sweep(path.parent)
        work = path.parent / f".{path.stem}.{uuid.uuid4().hex[:12]}{WORK_SUFFIX}"
        work.mkdir()
    except OSError as error:
        raise storage_error(path.parent, f"saving {path.name}", error) from error
    try:
        lock = FolderLock(work)
        try:
            yield work
        finally:
            lock.release()
    finally:
        shutil.rmtree(work)


def _sweep(folder: Path) -> None:
    """Remove the working folders in `folder` whose process was killed: those whose lock is free."""
    for work in folder.glob(f".*.????????????{WORK_SUFFIX}"):
        if not (work / LOCK_NAME).is_file():
            continue
        try:
            with FolderLock(work, patience_s=0) as lock:
                # On a disk without locks it may be another server's.
                is_abandoned = lock.is_exclusive
        except (FolderBusyError, FolderGoneError):
            continue
        if is_abandoned:
            _remove_abandoned(work)


def _remove_abandoned(work: Path) -> None:
    """Remove a dead process's folder, into which its ffmpeg, which outlives it for a moment, may still write."""
    for _ in range(_REMOVAL_ATTEMPTS):
        shutil.rmtree(work, ignore_errors=True)
        if not work.exists():
            return
        time.sleep(_REMOVAL_PAUSE_S)
    # By this the next sweep knows it.
    (work / LOCK_NAME).touch()
