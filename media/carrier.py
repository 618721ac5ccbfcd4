"""The temporary file that hands audio and metadata to ffmpeg: a QuickTime file of 32-bit float PCM with the tags on it.

One file for both because a workflow's JSON can exceed what a command line holds, and because QuickTime keeps float
samples, exact timing at any rate, sizes over 4 GB, and tag names and values verbatim.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import cast

import av
import numpy as np

from .audio_track import LAYOUTS, AudioTrack
from .disk import storage_error
from .errors import MediaError
from .ffmpeg import Watch

SILENCE = AudioTrack(np.zeros((1, 1), np.float32), 48000)
"""What a carrier of tags alone holds, as a file without a stream cannot be written."""


def write_carrier(path: Path, audio: AudioTrack, metadata: Mapping[str, str], watch: Watch) -> None:
    """Write `audio` and `metadata` to `path`, a second at a time. Raises MediaError, or what `watch` raises then."""
    try:
        with av.open(str(path), mode="w", format="mov", options={"movflags": "use_metadata_tags"}) as container:
            container.metadata.update(metadata)
            layout = LAYOUTS[audio.channels]
            stream = cast(
                av.AudioStream, container.add_stream("pcm_f32le", rate=audio.sample_rate, options={}, layout=layout)
            )
            for start in range(0, audio.num_samples, audio.sample_rate):
                block = audio.waveform[:, start : start + audio.sample_rate]
                frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(block.T).reshape(1, -1), "flt", layout)
                frame.sample_rate = audio.sample_rate
                frame.pts = start
                container.mux(stream.encode(frame))
                watch(0)
            container.mux(stream.encode(None))
    except OSError as error:  # av.FFmpegError is one where the disk or folder is the cause
        raise storage_error(path.parent, "writing the audio", error) from error
    except av.FFmpegError as error:
        raise MediaError(
            f"Audio of {audio.channels} channels at {audio.sample_rate} Hz could not be passed to ffmpeg: {error}."
        ) from error
