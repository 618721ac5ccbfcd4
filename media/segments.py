"""One chunk of RGB frames as lossless compressed bytes, encoded and decoded in this process by PyAV.

Three codecs, because no single one is small and fast on both kinds of content (measured at 512x512, one thread):

| codec | smooth generated video | camera-like noise | frames a second of one core |
|---|---|---|---|
| H.264 lossless RGB, ultrafast | 140 kB a frame | 333 to 383 kB | 170 to 250 |
| FFV1 | 239 kB | 309 to 350 kB | 70 |
| Ut Video, median prediction | 272 kB | 349 to 385 kB | 300 |

A chunk is tried with H.264 first, and only where that needs more than `H264_BUDGET` of the raw size with FFV1. Where
frames arrive faster than one thread compresses them, a writer changes to several threads, and then to Ut Video.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Literal, cast, get_args

import av
import numpy as np
import numpy.typing as npt
from av.video.reformatter import VideoReformatter

from .errors import MediaError

Frames = npt.NDArray[np.uint8]
"""uint8 RGB, [n, H, W, 3] for a chunk or [H, W, 3] for a frame."""

Codec = Literal["h264", "ffv1", "utvideo"]
CODECS: tuple[Codec, ...] = get_args(Codec)

H264_BUDGET = 0.30
"""Share of the raw bytes (3.5 GB for 600 s of 512x512 at 25 fps) above which FFV1 is tried."""

MAX_THREADS = min(4, os.cpu_count() or 1)

NUT_MAGIC = b"nut/multimedia container"


@dataclass(frozen=True)
class _Encoder:
    name: str
    pixel_format: str
    container: str
    options: dict[str, str]


_ENCODERS: dict[Codec, _Encoder] = {
    "h264": _Encoder("libx264rgb", "rgb24", "matroska", {"qp": "0", "preset": "ultrafast"}),
    "ffv1": _Encoder("ffv1", "bgr0", "matroska", {"level": "3", "slices": "4", "slicecrc": "1"}),
    # Matroska has no name for this codec.
    "utvideo": _Encoder("utvideo", "gbrp", "nut", {"pred": "median"}),
}


@dataclass(frozen=True)
class Compression:
    """The codec that a chunk is tried with first, and its threads.

    One thread to begin with: the cores belong to the network that generates the next chunk meanwhile.
    """

    codec: Codec = "h264"
    threads: int = 1

    def faster(self) -> Compression:
        """What to change to where frames arrive faster than they are compressed."""
        if self.threads < MAX_THREADS:
            return replace(self, threads=MAX_THREADS)
        return replace(self, codec="utvideo") if _has_utvideo() else self


def encode_segment(frames: Frames, fps: Fraction, compression: Compression) -> tuple[bytes, Codec]:
    """Compress [n, H, W, 3] losslessly; returns the bytes and the codec that won."""
    preferred, threads = compression.codec, compression.threads
    data = _encode(frames, fps, preferred, threads)
    if preferred == "h264" and len(data) > H264_BUDGET * frames.nbytes:
        smaller = _encode(frames, fps, "ffv1", threads)
        if len(smaller) < len(data):
            return smaller, "ffv1"
    return data, preferred


def decode_segment(data: bytes) -> Iterator[Frames]:
    """The frames [H, W, 3] of one segment, one at a time. Raises MediaError if `data` cannot be decoded."""
    try:
        form = "nut" if data.startswith(NUT_MAGIC) else "matroska"
        with av.open(io.BytesIO(data), mode="r", format=form) as container:
            container.streams.video[0].codec_context.thread_count = 1
            # One for all frames: setting it up takes as long as a frame.
            reformatter = VideoReformatter()
            for frame in container.decode(video=0):
                yield cast(Frames, reformatter.reformat(frame, format="rgb24").to_ndarray())
    except av.FFmpegError as error:
        raise MediaError(f"A stored chunk of frames cannot be decoded: {error}.") from error


def _has_utvideo() -> bool:
    """Whether this build of FFmpeg has the codec and its container; PyAV's own builds do."""
    return "utvideo" in av.codecs_available and "nut" in av.formats_available


def _encode(frames: Frames, fps: Fraction, codec: Codec, threads: int) -> bytes:
    encoder = _ENCODERS[codec]
    buffer = io.BytesIO()
    try:
        with av.open(buffer, mode="w", format=encoder.container) as container:
            stream = cast(av.VideoStream, container.add_stream(encoder.name, rate=fps, options=encoder.options))
            stream.height, stream.width = frames.shape[1:3]
            stream.pix_fmt = encoder.pixel_format
            stream.codec_context.thread_count = threads
            stream.codec_context.thread_type = "AUTO"
            for image in frames:
                frame = av.VideoFrame.from_ndarray(image, format="rgb24")
                container.mux(stream.encode(frame.reformat(format=encoder.pixel_format)))
            container.mux(stream.encode(None))
    except av.FFmpegError as error:
        raise MediaError(
            f"Frames of shape {frames.shape} could not be compressed with {encoder.name}: {error}."
        ) from error
    return buffer.getvalue()
