"""Saving a VIDEO with the user's audio in ComfyUI's output folder."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from typing import Any

from comfy.cli_args import args
from comfy_api.latest import Input, InputImpl, io, ui

from ..host.audio import checked_audio
from ..host.messages import counted
from ..host.progress import notify
from ..media.audio_track import AudioTrack
from ..media.disk import format_bytes
from .destination import file_names
from .incoming import frames_of
from .writing import FrameSource, write_mp4

TOO_LOUD = 2.0
"""Lossy formats overshoot full scale by up to half of it, which is inaudible. Beyond this, clipping is audible."""

APART_S = Fraction(1, 10)
"""Allowed difference between the lengths of sound and pictures: more than a frame or the padding of lossy formats."""


def save_with_audio(
    video: Input.Video,
    audio: dict[str, Any] | None,
    filename_prefix: str,
    crf: int,
    mark_generated: bool,
    prompt: Any,
    extra_pnginfo: Any,
    node_id: str | None = None,
) -> tuple[Input.Video, ui.SavedResult]:
    """Write the next free ``<filename_prefix>_00001_.mp4`` of the output folder.

    audio: None saves the video's own sound.
    mark_generated: whether the file's tags say that the video is generated, also where the server keeps workflows out.
    node_id: shows the progress and what of the input had to be changed.

    Returns:
        The saved file as a VIDEO, and the entry that shows it in the UI.

    Raises:
        ValueError: the audio or the prefix cannot be used.
        MediaError: encoding failed (disk full, folder not writable); no file is left.
        InterruptProcessingException: the user cancelled; no file is left.
    """
    given = None if audio is None else _track(audio)
    source = frames_of(video)
    track = given or source.sound()
    notes = _sound_notes(track)
    names, subfolder = file_names(filename_prefix, *source.get_dimensions())
    metadata, notes_on_metadata = workflow_metadata(prompt, extra_pnginfo)
    encoded = write_mp4(
        source,
        next(names),
        track,
        crf=crf,
        metadata=metadata,
        mark_generated=mark_generated,
        # Another server may save under the same prefix, so the number is chosen when the file is complete.
        if_taken=lambda: next(names),
        node_id=node_id,
    )
    notes += _length_notes(given, source, Fraction(encoded.num_frames) / source.get_frame_rate())
    saved = f"saved {encoded.path.name}: {counted(encoded.num_frames, 'frame')}, {format_bytes(encoded.num_bytes)}."
    # A node has room for about two lines, and the file itself is shown below.
    notify(node_id, *notes, *encoded.notes, *notes_on_metadata, saved)
    return InputImpl.VideoFromFile(str(encoded.path)), ui.SavedResult(
        encoded.path.name, subfolder, io.FolderType.output
    )


def _track(audio: dict[str, Any]) -> AudioTrack:
    """The sound of an AUDIO value. Raises ValueError that names the problem."""
    waveform, sample_rate = checked_audio(audio)
    return AudioTrack(waveform.detach().cpu().numpy(), sample_rate)


def _sound_notes(track: AudioTrack | None) -> list[str]:
    """A note where there is no sound or it is too loud."""
    if track is None:
        return ["audio: there is no sound, the video is saved silent."]
    loudest = float(max(track.waveform.max(), -track.waveform.min()))
    if loudest <= TOO_LOUD:
        return []
    return [
        f"audio: samples reach {loudest:.3g}, and players clip samples beyond 1: it will sound distorted. Lower "
        "its volume first (Audio Adjust Volume)."
    ]


def _length_notes(given: AudioTrack | None, source: FrameSource, video_s: Fraction) -> list[str]:
    """A note if sound and pictures do not end together because the video was made from another sound.

    A dubbed video may be longer than its speech.
    """
    if given is None or abs(given.duration_s - video_s) < APART_S:
        return []
    own = source.sound()
    if own is not None and abs(given.duration_s - own.duration_s) < APART_S:
        return []
    return [
        f"audio: it lasts {float(given.duration_s):.2f} s, the video {float(video_s):.2f} s. Connect the audio that "
        "the video was made from, or trim the longer one."
    ]


def workflow_metadata(prompt: Any, extra_pnginfo: Any) -> tuple[dict[str, Any], list[str]]:
    """What core's SaveVideo embeds (nothing with --disable-metadata): the workflow and the prompt; and notes."""
    if args.disable_metadata:
        return {}, []
    metadata: dict[str, Any] = {}
    notes = []
    if isinstance(extra_pnginfo, Mapping):
        metadata.update(extra_pnginfo)
    elif extra_pnginfo is not None:
        notes.append(f"The workflow is not in the file: extra_pnginfo is a {type(extra_pnginfo).__name__}.")
    if prompt is not None:
        metadata["prompt"] = prompt
    return metadata, notes
