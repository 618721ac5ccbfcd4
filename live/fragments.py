"""A stretch of video as a fragment of an mp4 that browsers play while it grows (ISO BMFF byte streams of W3C MSE).

Fragments are encoded separately, on request. Each begins with a key frame and carries its time in the video. All
sound lies on one grid of AAC frames and is encoded with the frames before it, so joints are inaudible.
"""

from __future__ import annotations

import io
import itertools
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, cast

import av
import numpy as np
import numpy.typing as npt
from av.video.reformatter import ColorRange, Colorspace, VideoReformatter

from ..media.audio_track import AudioTrack
from ..media.errors import MediaError
from ..media.mux import AAC_BITS_PER_CHANNEL, AAC_FRAME
from ..media.segments import Frames

CRF = 23
AAC_RUN_UP_FRAMES = 4
AAC_RUN_OUT_FRAMES = 2
_BT709 = 1
_LIMITED_RANGE = 1


@dataclass(frozen=True)
class Fragment:
    """`init` is the same for every fragment of a video; `mime_type` names its codecs for `SourceBuffer`."""

    init: bytes
    media: bytes
    mime_type: str


def encode_fragment(
    frames: Iterable[Frames], first_frame: int, num_frames: int, fps: Fraction, sound: AudioTrack | None
) -> Fragment:
    """H.264 and AAC of video frames [first_frame, first_frame + num_frames), fast rather than small.

    frames: uint8 [H, W, 3] with even sides; sound: the whole video's, mono, at a rate that AAC has.
    Raises MediaError when the frames or the sound cannot be encoded.
    """
    buffer = io.BytesIO()
    # The fragment keeps its place in the whole video's time; otherwise ffmpeg begins the first one that it writes at 0.
    options = {"movflags": "empty_moov+default_base_moof+frag_custom+frag_discont", "avoid_negative_ts": "disabled"}
    try:
        with av.open(buffer, mode="w", format="mp4", options=options) as container:
            images = iter(frames)
            first = next(images)
            video = _video_stream(container, first.shape[:2], fps)
            audio = None if sound is None else _audio_stream(container, sound)
            container.start_encoding()
            packets = list(_video_packets(video, first, images, first_frame, fps))
            if sound is not None and audio is not None:
                start, stop = (
                    _grid(frame, fps, sound.sample_rate) for frame in (first_frame, first_frame + num_frames)
                )
                packets += _audio_packets(audio, sound, start, stop)
            for packet in packets:
                container.mux(packet)
    except (av.FFmpegError, StopIteration) as error:
        raise MediaError(f"Frames from {first_frame} on could not be encoded for the player: {error}.") from error
    init, media = _split(buffer.getvalue())
    return Fragment(init, media, _mime_type(init, sound is not None))


def _video_stream(container: Any, size: tuple[int, ...], fps: Fraction) -> av.VideoStream:
    options = {"preset": "ultrafast", "tune": "zerolatency", "crf": str(CRF)}
    stream = cast(av.VideoStream, container.add_stream("libx264", rate=fps, options=options))
    stream.height, stream.width = size
    stream.pix_fmt = "yuv420p"
    context = stream.codec_context
    context.color_primaries = context.color_trc = context.colorspace = _BT709
    context.color_range = _LIMITED_RANGE
    # One thread: the network needs the other cores.
    context.thread_count = 1
    return stream


def _audio_stream(container: Any, sound: AudioTrack) -> av.AudioStream:
    # The default coder corrupts the first frame of sound that starts at once.
    options = {"aac_coder": "fast"}
    stream = cast(av.AudioStream, container.add_stream("aac", rate=sound.sample_rate, options=options, layout="mono"))
    stream.codec_context.bit_rate = min(AAC_BITS_PER_CHANNEL, 6144 * sound.sample_rate // AAC_FRAME)
    return stream


def _video_packets(
    stream: av.VideoStream, first: Frames, others: Iterable[Frames], first_frame: int, fps: Fraction
) -> Iterator[av.Packet]:
    # One for all frames: setting it up takes as long as a frame.
    reformatter = VideoReformatter()
    for number, image in enumerate(itertools.chain([first], others), start=first_frame):
        frame = reformatter.reformat(
            av.VideoFrame.from_ndarray(image, format="rgb24"),
            format="yuv420p",
            dst_colorspace=Colorspace.ITU709,
            dst_color_range=ColorRange.MPEG,
        )
        frame.pts, frame.time_base = number, 1 / fps
        yield from stream.encode(frame)
    yield from stream.encode(None)


def _grid(frame: int, fps: Fraction, sample_rate: int) -> int:
    """The first border of AAC frames, in samples, that is not before the beginning of video frame `frame`."""
    sample = int(frame * sample_rate / fps)
    return -(-sample // AAC_FRAME) * AAC_FRAME


def _audio_packets(stream: av.AudioStream, sound: AudioTrack, start: int, stop: int) -> list[av.Packet]:
    """AAC of samples [start, stop), both on the grid; where the sound is over, silence."""
    begin, end = start - AAC_RUN_UP_FRAMES * AAC_FRAME, stop + AAC_RUN_OUT_FRAMES * AAC_FRAME
    packets: list[av.Packet] = []
    for sample in range(begin, end, AAC_FRAME):
        block = _samples(sound.waveform, sample, sample + AAC_FRAME)
        frame = av.AudioFrame.from_ndarray(block, format="fltp", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = sound.sample_rate, sample, 1 / Fraction(sound.sample_rate)
        packets += stream.encode(frame)
    return [packet for packet in packets if packet.pts is not None and start <= packet.pts < stop]


def _samples(waveform: npt.NDArray[np.float32], start: int, stop: int) -> npt.NDArray[np.float32]:
    """[1, stop - start] of a waveform that silence surrounds."""
    block = np.zeros((1, stop - start), np.float32)
    first, last = max(start, 0), min(stop, waveform.shape[1])
    if first < last:
        block[:, first - start : last - start] = waveform[:1, first:last]
    return block


def _boxes(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """(type, whole box) of the boxes that lie side by side in `data`."""
    position = 0
    while position < len(data):
        size, kind = struct.unpack_from(">I4s", data, position)
        yield kind, data[position : position + size]
        position += size


def _split(data: bytes) -> tuple[bytes, bytes]:
    """(initialisation, media) of a fragmented mp4."""
    parts = {kinds: b"".join(box for kind, box in _boxes(data) if kind in kinds) for kinds in (_INIT, _MEDIA)}
    return parts[_INIT], parts[_MEDIA]


_INIT, _MEDIA = (b"ftyp", b"moov"), (b"moof", b"mdat")


def _mime_type(init: bytes, has_sound: bool) -> str:
    """The codecs parameter (RFC 6381): profile, constraints and level as H.264 has them, AAC-LC."""
    at = init.index(b"avcC") + 5
    codecs = [f"avc1.{init[at : at + 3].hex()}", *(["mp4a.40.2"] if has_sound else [])]
    return f'video/mp4; codecs="{", ".join(codecs)}"'
