"""The Sampler's VIDEO: frames in a spool on disk behind core's video interface."""

from __future__ import annotations

import io
import json
import logging
import tempfile
import threading
import uuid
import weakref
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, ClassVar

import av
import folder_paths
import numpy as np
import torch
from comfy_api.latest import Input, InputImpl, Types
from typing_extensions import override

from ...media import (
    HELD_NAME,
    FolderBusyError,
    FolderLock,
    MediaError,
    SpoolReader,
    encode_video,
    mark_saved,
    remove_spool,
)

Frame = np.ndarray[Any, np.dtype[np.uint8]]

SAVED_CRF = 18

GENERATED_MARK = {
    "comment": "AI-generated video: made with ComfyUI-AsymTalker from a portrait and speech.",
    "software": "ComfyUI-AsymTalker",
    # The IPTC's term for media made by a trained model.
    "digital_source_type": "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia",
}
"""Tags that say in the file what it is."""


def marked(metadata: Mapping[str, Any] | None) -> dict[str, Any]:
    """``metadata`` with the tags of a generated video, which replace its own of the same names in any case."""
    others = {key: value for key, value in (metadata or {}).items() if key.lower() not in GENERATED_MARK}
    return {**others, **GENERATED_MARK}


@dataclass
class _Fate:
    """What becomes of a finished spool: ``keep`` is one of ``jobs.KEEP``."""

    keep: str
    saved: bool = False


class SpoolHandle:
    """Shared ownership of one spool folder in this process.

    When the last owner goes, or at exit, the folder goes too, unless its video was never saved or is to be extended.
    Other processes cannot remove it before.
    """

    _owned: ClassVar[weakref.WeakValueDictionary[Path, SpoolHandle]] = weakref.WeakValueDictionary()

    def __init__(self, folder: Path, keep: str) -> None:
        self.folder = folder
        self._fate = _Fate(keep)
        weakref.finalize(self, _let_go, FolderLock(folder, shared=True, name=HELD_NAME), self._fate)

    @classmethod
    def of(cls, folder: Path, keep: str) -> SpoolHandle:
        """The handle of ``folder``: two videos over the same finished job keep it as long as either lives."""
        handle = cls._owned.get(folder)
        if handle is None:
            handle = cls._owned[folder] = cls(folder, keep)
        handle._fate.keep = keep
        return handle

    def saved(self) -> None:
        """Note that all frames were saved, or given to the graph."""
        self._fate.saved = True
        mark_saved(self.folder)


def _let_go(hold: FolderLock, fate: _Fate) -> None:
    hold.release()
    if fate.keep == "for extending" or (fate.keep == "until saved" and not fate.saved):
        return
    try:
        remove_spool(hold.folder)
    except FolderBusyError:
        logging.debug("AsymTalker: another process still needs %s and removes it", hold.folder)
    except MediaError as error:
        logging.warning("AsymTalker: finished frames stay in %s: %s", hold.folder, error)


class StreamedVideo(InputImpl.VideoFromFile, ABC):
    """A silent VIDEO whose frames are made or read as they are needed, never all at once unless asked for.

    It is a video file of the host that is written only when something needs the file itself: a method that a later host
    adds is answered by the host's own code over that file. (The host's abstract class is no base: its next abstract
    method would make this class one that cannot be made.)
    """

    def __init__(self) -> None:
        # What the host's class keeps of its file is set when one of its methods first needs it: see __getattr__.
        self._has_file = False
        self._file: Path | None = None
        self._writing = threading.Lock()

    def __getattr__(self, name: str) -> Any:
        """The host's own attributes, private ones alone: public names are probed by anyone who meets the object."""
        if not name.startswith("_") or name.startswith("__") or self.__dict__.get("_has_file", True):
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        source = self.get_stream_source()
        self._has_file = True
        super().__init__(source)
        return getattr(self, name)

    @abstractmethod
    def frames(self) -> Iterator[Frame]:
        """Frames uint8 [H, W, 3] in order, in bounded memory."""

    @abstractmethod
    def get_dimensions(self) -> tuple[int, int]:
        """(width, height) in pixels."""

    @abstractmethod
    def get_frame_count(self) -> int:
        """Number of frames."""

    @abstractmethod
    def get_frame_rate(self) -> Fraction:
        """Frames per second."""

    def note_saved(self) -> None:
        """Tell that all frames have reached a file or the graph: they need not be kept for another attempt."""

    @override
    def get_stream_source(self) -> str:
        """Path of an mp4 with these frames, written when it is first asked for.

        It stays in ComfyUI's temporary folder, which the server empties: what was made of it may outlive this object.
        """
        with self._writing:
            if self._file is None or not self._file.is_file():
                file = Path(folder_paths.get_temp_directory()) / f"asymtalker_{uuid.uuid4().hex}.mp4"
                write_mp4(self, file, None, crf=SAVED_CRF, metadata=GENERATED_MARK)
                self._file = file
            return str(self._file)

    @override
    def get_components(self) -> Types.VideoComponents:
        """All frames as an IMAGE batch [n, H, W, 3] in 0..1 (in memory, as the interface wants)."""
        width, height = self.get_dimensions()
        images = torch.empty((self.get_frame_count(), height, width, 3))
        for index, frame in enumerate(self.frames()):
            images[index] = torch.from_numpy(frame) / 255.0
        self.note_saved()
        return Types.VideoComponents(images=images, audio=None, frame_rate=self.get_frame_rate())

    def save_to(
        self,
        path: str | io.BytesIO,
        format: Types.VideoContainer = Types.VideoContainer.AUTO,
        codec: Types.VideoCodec = Types.VideoCodec.AUTO,
        metadata: dict[str, Any] | None = None,
        **newer_options: Any,
    ) -> None:
        """Encode to an H.264 mp4 without loading the video; ``newer_options`` of later ComfyUI versions are ignored.

        Raises:
            ValueError: another container or codec than mp4 and H.264 is asked for (core's own videos say the same).
        """
        if format not in (Types.VideoContainer.AUTO, Types.VideoContainer.MP4):
            raise ValueError(f"only the mp4 container can be written, got {format}")
        if codec not in (Types.VideoCodec.AUTO, Types.VideoCodec.H264):
            raise ValueError(f"only the H.264 codec can be written, got {codec}")
        write_mp4(self, path, None, crf=SAVED_CRF, metadata=marked(metadata))

    def get_duration(self) -> float:
        """Length in seconds."""
        return float(self.get_frame_count() / self.get_frame_rate())

    def get_container_format(self) -> str:
        """What ``save_to`` writes."""
        return "mp4"


class SpooledVideo(StreamedVideo):
    """The Sampler's VIDEO over a finished spool."""

    def __init__(self, handle: SpoolHandle) -> None:
        super().__init__()
        self._handle = handle
        self._reader = SpoolReader(handle.folder)

    def note_saved(self) -> None:
        """The frames may go once nothing refers to them any more."""
        self._handle.saved()

    def frames(self) -> Iterator[Frame]:
        """Frames uint8 [H, W, 3] in order, in bounded memory."""
        return self._reader.frames()

    def get_dimensions(self) -> tuple[int, int]:
        """(width, height) in pixels."""
        return self._reader.size

    def get_frame_count(self) -> int:
        """Number of frames."""
        return self._reader.num_frames

    def get_frame_rate(self) -> Fraction:
        """Frames per second."""
        return self._reader.fps


def write_mp4(
    video: Input.Video,
    path: str | Path | io.BytesIO,
    audio: tuple[np.ndarray[Any, Any], int] | None,
    *,
    crf: int,
    metadata: Mapping[str, Any] | None,
    if_taken: Callable[[], Path] | None = None,
) -> Path | None:
    """Encode any VIDEO, streaming, with ``audio`` (waveform float32 [channels, N], sample rate) to an mp4.

    Returns:
        The file: ``path``, or what ``if_taken`` called it because that was taken meanwhile (see ``encode_video``).

    Raises:
        MediaError: nothing is left at ``path`` when encoding fails.
    """
    if isinstance(path, io.BytesIO):
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "video.mp4"
            write_mp4(video, file, audio, crf=crf, metadata=metadata)
            path.write(file.read_bytes())
        return None
    width, height = video.get_dimensions()
    tags = {key: value if isinstance(value, str) else json.dumps(value) for key, value in (metadata or {}).items()}
    encoded = encode_video(
        video_frames(video),
        path,
        width=width,
        height=height,
        fps=frame_rate(video),
        audio=audio,
        crf=crf,
        metadata=tags,
        if_taken=if_taken,
    )
    if isinstance(video, StreamedVideo):
        video.note_saved()
    return encoded.path


def video_frames(video: Input.Video) -> Iterator[Frame]:
    """Frames uint8 [H, W, 3] of any VIDEO; the pack's own and files are streamed, others are in memory anyway."""
    if isinstance(video, StreamedVideo):
        yield from video.frames()
    elif isinstance(video, InputImpl.VideoFromFile):
        with av.open(video.get_stream_source(), mode="r") as container:
            for frame in container.decode(video=0):
                yield frame.to_ndarray(format="rgb24")
    else:
        for image in video.get_components().images:
            yield (image * 255).round().clamp(0, 255).to(torch.uint8).cpu().numpy()


def frame_rate(video: Input.Video) -> Fraction:
    """Frames per second; older ComfyUI versions only tell it with the frames."""
    if hasattr(video, "get_frame_rate"):
        return Fraction(video.get_frame_rate())
    return Fraction(video.get_components().frame_rate)
