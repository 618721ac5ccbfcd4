"""One chunk of RGB frames as lossless compressed bytes, encoded and decoded in this process by PyAV.

Two codecs, because no single one is both small and cheap on both kinds of content (measured at 512x512, one thread):

| codec | smooth generated video | camera-like noise |
|---|---|---|
| H.264 lossless RGB, ultrafast | 129 kB, 4 ms a frame | 347 kB, 8 ms |
| FFV1 | 177 kB, 19 ms | 227 kB, 19 ms |

So a chunk is tried with H.264 first, and only where that needs more than `H264_BUDGET` of the raw size with FFV1.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from fractions import Fraction
from typing import Literal, cast, get_args

import av
import numpy as np
import numpy.typing as npt
from av.video.reformatter import VideoReformatter

from .errors import MediaError

Frames = npt.NDArray[np.uint8]
"""uint8 RGB, [n, H, W, 3] for a chunk or [H, W, 3] for a frame."""

Codec = Literal["h264", "ffv1"]
CODECS: tuple[Codec, ...] = get_args(Codec)

H264_BUDGET = 0.30
"""Share of the raw bytes (3.5 GB for 600 s of 512x512 at 25 fps) above which FFV1 is tried."""

_ENCODERS: dict[Codec, tuple[str, str, dict[str, str]]] = {
    "h264": ("libx264rgb", "rgb24", {"qp": "0", "preset": "ultrafast"}),
    "ffv1": ("ffv1", "bgr0", {"level": "3", "slices": "4", "slicecrc": "1"}),
}


def encode_segment(frames: Frames, fps: Fraction, preferred: Codec) -> tuple[bytes, Codec]:
    """Compress [n, H, W, 3] losslessly, starting with `preferred`; returns the bytes and the codec that won."""
    data = _encode(frames, fps, preferred)
    if preferred == "h264" and len(data) > H264_BUDGET * frames.nbytes:
        smaller = _encode(frames, fps, "ffv1")
        if len(smaller) < len(data):
            return smaller, "ffv1"
    return data, preferred


def decode_segment(data: bytes) -> Iterator[Frames]:
    """The frames [H, W, 3] of one segment, one at a time. Raises MediaError if `data` cannot be decoded."""
    try:
        with av.open(io.BytesIO(data), mode="r", format="matroska") as container:
            container.streams.video[0].codec_context.thread_count = 1
            # One for all frames: setting it up takes as long as a frame.
            reformatter = VideoReformatter()
            for frame in container.decode(video=0):
                yield cast(Frames, reformatter.reformat(frame, format="rgb24").to_ndarray())
    except av.FFmpegError as error:
        raise MediaError(f"A stored chunk of frames cannot be decoded: {error}.") from error


def _encode(frames: Frames, fps: Fraction, codec: Codec) -> bytes:
    encoder, pixel_format, options = _ENCODERS[codec]
    buffer = io.BytesIO()
    try:
        with av.open(buffer, mode="w", format="matroska") as container:
            stream = cast(av.VideoStream, container.add_stream(encoder, rate=fps, options=options))
            stream.height, stream.width = frames.shape[1:3]
            stream.pix_fmt = pixel_format
            # One thread: the cores belong to the network that generates the next chunk meanwhile.
            stream.codec_context.thread_count = 1
            for image in frames:
                frame = av.VideoFrame.from_ndarray(image, format="rgb24")
                container.mux(stream.encode(frame.reformat(format=pixel_format)))
            container.mux(stream.encode(None))
    except av.FFmpegError as error:
        raise MediaError(f"Frames of shape {frames.shape} could not be compressed with {encoder}: {error}.") from error
    return buffer.getvalue()
