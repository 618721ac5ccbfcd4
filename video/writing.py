"""Frames to video files: the pack's own mp4 as a stream, and through the host whatever else the host can write."""

from __future__ import annotations

import dataclasses
import inspect
import io
import logging
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any, Protocol

import av
import folder_paths
import numpy as np
from comfy_api.latest import InputImpl, Types

from ..host.progress import SavingProgress
from ..media import EncodedVideo, MediaError, encode_video
from ..media.audio_track import AudioTrack
from ..media.disk import storage_error
from ..media.ffmpeg import Watch
from ..media.workfolder import publish, working_folder
from .tags import file_tags

Frame = np.ndarray[Any, np.dtype[np.uint8]]

Target = str | Path | io.BytesIO
"""Where a video goes: a path, or a file in memory."""

SAVED_CRF = 18
LOSSLESS_CRF = 0


class FrameSource(Protocol):
    """Frames that are made or read one at a time: what can be written in bounded memory."""

    def frames(self, start: int = 0, stop: int | None = None) -> Iterator[Frame]:
        """Frames [start, stop) as uint8 [H, W, 3], in order."""
        ...

    def get_dimensions(self) -> tuple[int, int]:
        """(width, height) in pixels."""
        ...

    def get_frame_count(self) -> int:
        """Number of frames."""
        ...

    def get_frame_rate(self) -> Fraction:
        """Frames per second."""
        ...

    def sound(self) -> AudioTrack | None:
        """The sound that belongs to the frames, from the first one on; None: there is none."""
        ...

    def note_saved(self) -> None:
        """Note that all frames have reached a file or the graph."""
        ...


@dataclass(frozen=True)
class Look:
    """What an encoder needs to know of frames: pixels, and frames per second."""

    width: int
    height: int
    fps: Fraction


@dataclass(frozen=True)
class Encoding:
    """How a video is to be encoded, in the terms of core's Save Video; None and "auto" leave the choice open.

    ``others`` are options of later hosts.
    """

    container: str = "auto"
    codec: str = "auto"
    crf: float | None = None
    bit_depth: int | None = None
    color_space: str | None = None
    others: Mapping[str, Any] = field(default_factory=dict)

    @property
    def is_own(self) -> bool:
        """Whether the pack's own encoder writes it: an mp4 of H.264 with 8 bits."""
        plain = self.bit_depth in (None, 8) and self.color_space in (None, "auto", "sRGB") and not self.others
        return plain and self.container in ("auto", "mp4") and self.codec in ("auto", "h264")

    def host_options(self) -> dict[str, Any]:
        """Keyword arguments for ``save_to`` of the host's own videos.

        Raises:
            ValueError: the host has no such container, codec or option; names the widget.
        """
        named = {"crf": self.crf, "bit_depth": self.bit_depth, "color_space": self.color_space, **self.others}
        options = {name: value for name, value in named.items() if value is not None and value != "auto"}
        known = inspect.signature(InputImpl.VideoFromFile.save_to).parameters
        for name in options:
            if name not in known:
                raise ValueError(f"{name}: this ComfyUI does not support this option. Update ComfyUI, or leave it out")
        if options.get("color_space", "sRGB") != "sRGB":
            raise ValueError(f"color_space: the video is in sRGB, not in {self.color_space}. Choose auto or sRGB")
        if self.codec in ("auto", "h264") and self.container != "webm" and "crf" in known:
            options.setdefault("crf", SAVED_CRF)
        return {
            "format": _host_choice("format", self.container, Types.VideoContainer),
            "codec": _host_choice("codec", self.codec, Types.VideoCodec),
            **options,
        }


def encoding_for(path: Target, container: Any, codec: Any, options: Mapping[str, Any]) -> Encoding:
    """The encoding that ``save_to`` is called for; the suffix of ``path`` decides where the container is left open."""
    name = _choice_name(container)
    if name == "auto" and not isinstance(path, io.BytesIO):
        suffix = Path(path).suffix.lower().removeprefix(".")
        name = suffix if suffix in Types.VideoContainer.as_input() else name
    given = {key: value for key, value in options.items() if value is not None}
    named = {key: given.pop(key, None) for key in ("crf", "bit_depth", "color_space")}
    return Encoding(name, _choice_name(codec), **named, others=given)


def _choice_name(choice: Any) -> str:
    """The name, as in "mp4", of a member of one of the host's enumerations or of the name itself."""
    return str(getattr(choice, "value", choice))


def _host_choice(widget: str, name: str, choices: Any) -> Any:
    if name not in choices.as_input():
        raise ValueError(f"{widget}: this ComfyUI writes {', '.join(choices.as_input())}, not {name}")
    return choices(name)


def save_frames(source: FrameSource, path: Target, encoding: Encoding, metadata: Mapping[str, Any] | None) -> None:
    """Save all frames in bounded memory.

    Raises:
        ValueError: neither the pack nor the host writes such a file, before any work; names the widget.
        MediaError: encoding failed (disk full, folder not writable); no file is left.
    """
    if encoding.is_own:
        crf = SAVED_CRF if encoding.crf is None else round(encoding.crf)
        write_mp4(source, path, source.sound(), crf=crf, metadata=metadata)
        return
    look = Look(*source.get_dimensions(), source.get_frame_rate())
    check_encoding(encoding, look)
    options = {**encoding.host_options(), "metadata": file_tags(metadata, True)[0]}
    try:
        _save_by_host(source.frames(), source.sound(), look, path, options, SavingProgress(source.get_frame_count()))
    except OSError as error:  # av.FFmpegError is one where the disk or folder is the cause
        folder = Path(folder_paths.get_temp_directory() if isinstance(path, io.BytesIO) else path).parent
        raise storage_error(folder, "saving the video", error) from error
    except av.FFmpegError as error:
        raise MediaError(f"The video could not be written as {encoding.container}: {error}.") from error
    _note_saved(source)


def check_encoding(encoding: Encoding, look: Look) -> None:
    """Raise ValueError, which names the widget, if neither the pack nor the host writes such a file.

    The host encodes two black frames as a test: its encoders' limits cannot be queried.
    """
    if encoding.is_own:
        return
    options = encoding.host_options()
    black = np.zeros((look.height, look.width, 3), np.uint8)
    try:
        _save_by_host(iter((black, black)), None, look, io.BytesIO(), options)
    except (ValueError, LookupError, av.FFmpegError) as error:
        asked = f"{encoding.container} with codec {encoding.codec}"
        raise ValueError(f"format, codec: this ComfyUI cannot write {asked}: {error}") from error


def _save_by_host(
    frames: Iterator[Frame],
    sound: AudioTrack | None,
    look: Look,
    path: Target,
    options: Mapping[str, Any],
    watch: Watch = lambda num_frames: None,
) -> None:
    """Through a lossless file, which the host re-encodes as a stream; ``watch`` reports the first half.

    The host writes to its target directly: a file gets its name only when it is whole.
    """
    with temporary_folder() as folder:
        file = Path(folder) / "lossless.mp4"
        size = {"width": look.width, "height": look.height, "fps": look.fps}
        encode_video(
            frames, file, **size, audio=sound, crf=LOSSLESS_CRF, preset="ultrafast", lossless_audio=True, watch=watch
        )
        lossless = InputImpl.VideoFromFile(str(file))
        if isinstance(path, io.BytesIO):
            lossless.save_to(path, **options)
            return
        target = Path(path)
        with working_folder(target) as work:
            result = work / target.name
            lossless.save_to(str(result), **options)
            publish(result, target, None)


def write_mp4(
    source: FrameSource,
    path: Target,
    sound: AudioTrack | None,
    *,
    crf: int,
    metadata: Mapping[str, Any] | None,
    mark_generated: bool = True,
    if_taken: Callable[[], Path] | None = None,
    node_id: str | None = None,
) -> EncodedVideo:
    """Encode frames, streaming, with ``sound`` to an mp4.

    metadata, mark_generated: the file's tags, see ``file_tags``.
    node_id: shows the progress as text too; the running node's bar shows it in any case.

    Returns:
        What was written: at ``path``, or where ``if_taken`` said because that was taken meanwhile (``encode_video``).

    Raises:
        MediaError, or ComfyUI's InterruptProcessingException when the user cancelled: nothing is left at ``path``.
    """
    if isinstance(path, io.BytesIO):
        with temporary_folder() as folder:
            file = Path(folder) / "video.mp4"
            encoded = write_mp4(source, file, sound, crf=crf, metadata=metadata, mark_generated=mark_generated)
            with file.open("rb") as written:
                shutil.copyfileobj(written, path)
        return encoded
    width, height = source.get_dimensions()
    tags, notes = file_tags(metadata, mark_generated)
    encoded = encode_video(
        source.frames(),
        path,
        width=width,
        height=height,
        fps=source.get_frame_rate(),
        audio=sound,
        crf=crf,
        metadata=tags,
        if_taken=if_taken,
        watch=SavingProgress(source.get_frame_count(), node_id),
    )
    return dataclasses.replace(encoded, notes=(*notes, *_note_saved(source), *encoded.notes))


def _note_saved(source: FrameSource) -> tuple[str, ...]:
    """Note that the frames were saved; an error of that is returned as a note, as the file itself is complete."""
    try:
        source.note_saved()
    except MediaError as error:
        logging.warning("AsymTalker: %s", error)
        return (str(error),)
    return ()


def temporary_folder() -> tempfile.TemporaryDirectory[str]:
    """A folder for work files in ComfyUI's temporary folder, which has room for them where the system's may have none.

    Raises:
        MediaError: it cannot be made.
    """
    parent = Path(folder_paths.get_temp_directory())
    try:
        parent.mkdir(parents=True, exist_ok=True)
        return tempfile.TemporaryDirectory(dir=parent, prefix="asymtalker_")
    except OSError as error:
        raise storage_error(parent, "making a folder for work files", error) from error
