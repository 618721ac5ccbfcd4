"""Frames and the user's own audio to an mp4, through imageio-ffmpeg, in bounded memory.

The file appears under its name only when it is whole: ffmpeg writes into a working folder beside it, the result is read
back and checked, and only then gets its name. imageio-ffmpeg ignores ffmpeg's exit status, hence the reading back.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

import av
import numpy as np

from ..models.rates import FPS
from .audio_track import AudioTrack
from .carrier import SILENCE, write_carrier
from .disk import check_disk, storage_error
from .errors import MediaError
from .ffmpeg import Watch, encoding_failure, write_frames
from .workfolder import publish, working_folder

# The rates in AAC's table (ISO 14496-3, 1.6.3.4).
AAC_SAMPLE_RATES = frozenset({7350, 8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000, 64000, 88200, 96000})
# With more, AAC has a bass channel that keeps nothing above 120 Hz (6), a reordered layout (7), or planes that crash
# PyAV 18, with which ComfyUI reads audio (8).
AAC_MAX_CHANNELS = 5
AAC_FRAME = 1024
AAC_BITS_PER_CHANNEL = 128_000

# The shortest block that FLAC has is of 16; of less than this, resampling leaves nothing.
FLAC_MIN_SAMPLES = 64
# Above it, ffmpeg's older FLAC encoders hold multiples of 10 Hz alone.
FLAC_MAX_ODD_RATE = 65_534

AudioCodec = Literal["aac", "flac"]


@dataclass(frozen=True)
class EncodedVideo:
    """What `encode_video` wrote; `notes` say in sentences what of the input had to be changed."""

    path: Path
    num_frames: int
    num_bytes: int
    notes: tuple[str, ...] = ()


def encode_video(
    frames: Iterable[Any],
    path: str | os.PathLike[str],
    *,
    width: int,
    height: int,
    fps: Fraction | float = FPS,
    audio: AudioTrack | tuple[Any, int] | None = None,
    crf: int = 18,
    preset: str = "medium",
    lossless_audio: bool = False,
    metadata: Mapping[str, str] | None = None,
    if_taken: Callable[[], Path] | None = None,
    watch: Watch = lambda num_frames: None,
) -> EncodedVideo:
    """Write an mp4 of H.264 (yuv420p, BT.709) and AAC, replacing `path`; the index is at its front.

    frames: uint8 [H, W, 3], arrays or CPU tensors, pulled one at a time; an exception they raise passes through
        unchanged after ffmpeg was stopped and its files removed. H.264 needs even sizes: the last row or column of an
        odd one is repeated.
    audio: a track, or (waveform float32 [C, N], sample rate), 1 to 8 channels, written at its own rate, channels and
        length, neither cut nor padded to the video: as AAC where that supports it, else as FLAC (lossless, 24 bits).
    lossless_audio: FLAC also where AAC supports the audio: for a file that is encoded once more.
    crf: x264's constant quality, 0 (lossless) to 51.
    metadata: tags of the file, as ComfyUI's own savers write `prompt` and `workflow`.
    if_taken: gives another name in the same folder where `path` exists when the file is whole, again until one is free,
        instead of replacing it: two writers that chose the same name get a file each.
    watch: called with the number of frames written, after each and several times a second meanwhile; what it raises
        ends the encoding as an exception of `frames` does, also while ffmpeg does not respond.
    Raises MediaError when an input is unusable, the disk is full, or ffmpeg fails; nothing is left behind then.
    """
    path = Path(path)
    _check_picture(width, height, crf)
    track = None if audio is None else _track(audio)
    codec = None if track is None else "flac" if lossless_audio else _audio_codec(track)
    carrier = _carrier(track, codec)
    tags = metadata or {}
    with working_folder(path) as work:
        tag_bytes = sum(len(value.encode()) for value in tags.values())
        check_disk(work, carrier.waveform.nbytes + tag_bytes, f"the audio of {path.name}")
        write_carrier(work / "audio.mov", carrier, tags, watch)
        result = work / "video.mp4"
        arguments = {
            "fps": _rate_argument(fps),
            "quality": None,
            "codec": "libx264",
            "macro_block_size": 1,
            "ffmpeg_log_level": "error",
            "output_params": _output_params(crf, preset, codec, track),
            "audio_path": str(work / "audio.mov"),
        }
        shape = height, width, 3
        num_frames = write_frames(frames, path, shape=shape, watch=watch, arguments=arguments, result=result)
        _verify(result, path, num_frames, track, watch)
        num_bytes = result.stat().st_size
        try:
            path = publish(result, path, if_taken)
        except OSError as error:
            raise storage_error(path.parent, f"saving {path.name}", error) from error
    return EncodedVideo(path, num_frames, num_bytes, tuple(_notes(width, height, codec, track)))


def _check_picture(width: int, height: int, crf: int) -> None:
    if min(width, height) < 1:
        raise MediaError(f"The video has {width}x{height} pixels; it needs at least one in each direction.")
    if not 0 <= crf <= 51:
        raise MediaError(f"crf is {crf}; x264 takes 0 (lossless) to 51 (smallest file).")


def _notes(width: int, height: int, codec: AudioCodec | None, track: AudioTrack | None) -> Iterator[str]:
    even = width + width % 2, height + height % 2
    if (width, height) != even:
        yield (
            f"The video has {width}x{height} pixels and is saved with {even[0]}x{even[1]}, as H.264 needs even sizes: "
            "the last column or row is repeated."
        )
    if track is not None and codec == "flac" and (rate := _flac_rate(track)) != track.sample_rate:
        yield (
            f"The audio was resampled from {track.sample_rate} Hz to {rate} Hz: no mp4 codec supports the original "
            "rate."
        )


def _carrier(track: AudioTrack | None, codec: AudioCodec | None) -> AudioTrack:
    """The track for ffmpeg; if it is too short for its codec, silence is appended."""
    if track is None:
        return SILENCE
    if codec == "flac" and track.num_samples < FLAC_MIN_SAMPLES:
        missing = FLAC_MIN_SAMPLES - track.num_samples
        return AudioTrack(np.pad(track.waveform, ((0, 0), (0, missing))), track.sample_rate)
    return track


def _track(audio: AudioTrack | tuple[Any, int]) -> AudioTrack:
    if isinstance(audio, AudioTrack):
        return AudioTrack.checked(audio.waveform, audio.sample_rate)
    return AudioTrack.checked(*audio)


def _audio_codec(track: AudioTrack) -> AudioCodec:
    return "aac" if track.sample_rate in AAC_SAMPLE_RATES and track.channels <= AAC_MAX_CHANNELS else "flac"


def _flac_rate(track: AudioTrack) -> int:
    """The track's own rate, or the nearest below that every FLAC encoder holds."""
    rate = track.sample_rate
    return rate if rate <= FLAC_MAX_ODD_RATE else rate // 10 * 10


def _bitrate(track: AudioTrack) -> int:
    # AAC holds at most 6144 bits per channel in a frame; ffmpeg warns and clamps above it.
    ceiling = 6144 * track.channels * track.sample_rate // AAC_FRAME
    return min(AAC_BITS_PER_CHANNEL * track.channels, ceiling)


def _rate_argument(fps: Fraction | float) -> Fraction | float:
    """Whole rates as float, which every version of imageio-ffmpeg takes; others exactly."""
    rate = Fraction(fps).limit_denominator(100_000)
    if rate <= 0:
        raise MediaError(f"The frame rate is {fps}; it must be positive.")
    return float(rate) if rate.denominator == 1 else rate


def _output_params(crf: int, preset: str, codec: AudioCodec | None, track: AudioTrack | None) -> list[str]:
    colour = (
        "scale=out_color_matrix=bt709:out_range=tv:flags=bicubic+accurate_rnd+full_chroma_int,format=yuv420p,"
        "setparams=color_primaries=bt709:color_trc=bt709:colorspace=bt709:range=tv"
    )
    params = ["-vf", colour, "-crf", str(crf), "-preset", preset]
    if track is None:
        params += ["-an"]
    elif codec == "aac":
        # ffmpeg's default coder corrupts the first frame of sound that starts at once; this one does not.
        params += ["-c:a", "aac", "-aac_coder", "fast", "-b:a", str(_bitrate(track))]
    else:
        # To older muxers FLAC in mp4 is experimental. To newer encoders "-strict experimental" means 32 bits, which few
        # players decode.
        params += ["-c:a", "flac", "-ar", str(_flac_rate(track)), "-sample_fmt", "s32", "-f_strict", "experimental"]
    params += ["-map_metadata", "1"]
    for name in ("major_brand", "minor_version", "compatible_brands", "encoder"):
        params += ["-metadata", f"{name}="]
    return [*params, "-movflags", "+faststart+use_metadata_tags", "-f", "mp4"]


def _verify(result: Path, path: Path, num_frames: int, track: AudioTrack | None, watch: Watch) -> None:
    """Read the whole file's packets back. Raises MediaError unless every frame and all of the audio are there."""
    packets, audio_end = 0, Fraction(0)
    try:
        with av.open(str(result), mode="r") as container:
            for packet in container.demux():
                if packet.size == 0 or packet.is_corrupt:
                    continue
                if packet.stream.type == "video":
                    packets += 1
                    watch(num_frames)
                elif packet.stream.type == "audio" and packet.pts is not None and packet.time_base is not None:
                    audio_end = max(audio_end, (packet.pts + (packet.duration or 0)) * packet.time_base)
    except (av.FFmpegError, OSError) as error:
        raise encoding_failure(path, f"the file cannot be read back ({error})") from error
    if packets != num_frames:
        raise encoding_failure(path, f"{packets} of {num_frames} frames are in the file")
    if track is not None and (audio_end == 0 or audio_end < track.duration_s - Fraction(AAC_FRAME, track.sample_rate)):
        arrived, expected = float(audio_end), float(track.duration_s)
        raise encoding_failure(path, f"{arrived:.2f} of {expected:.2f} s of audio are in the file")
