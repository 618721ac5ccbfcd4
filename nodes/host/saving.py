"""Saving a VIDEO with the user's audio in ComfyUI's output folder."""

from __future__ import annotations

import itertools
import os
from pathlib import Path
from typing import Any

import folder_paths
from comfy.cli_args import args
from comfy_api.latest import Input, InputImpl, io, ui

from ...media.errors import existing_parent, format_bytes, free_bytes
from .audio import checked_audio
from .incoming import frames_of
from .video_file import marked, write_mp4

MIN_FREE_BYTES = 20_000_000
"""With less, no mp4 of a few seconds can be saved; what a long one takes depends on its content."""


def save_with_audio(
    video: Input.Video,
    audio: dict[str, Any],
    filename_prefix: str,
    crf: int,
    mark_generated: bool,
    prompt: Any,
    extra_pnginfo: dict[str, Any] | None,
) -> tuple[Input.Video, ui.SavedResult]:
    """Write the next free ``<filename_prefix>_00001_.mp4`` of the output folder.

    mark_generated: whether the file's tags say that the video is generated, also where the server keeps workflows out.

    Returns:
        The saved file as a VIDEO, and the entry that shows it in the UI.

    Raises:
        ValueError: the audio cannot be used.
        MediaError: encoding failed (disk full, folder not writable); no file is left.
    """
    waveform, sample_rate = checked_audio(audio)
    source = frames_of(video)
    width, height = source.get_dimensions()
    folder, name, counter, subfolder, _ = folder_paths.get_save_image_path(
        filename_prefix, folder_paths.get_output_directory(), width, height
    )
    names = (Path(folder) / f"{name}_{number:05}_.mp4" for number in itertools.count(counter))
    metadata = workflow_metadata(prompt, extra_pnginfo)
    if mark_generated:
        metadata = marked(metadata)
    track = waveform.cpu().numpy(), sample_rate
    # Another server may save under the same prefix: the number is settled when the file is whole.
    path = write_mp4(source, next(names), track, crf=crf, metadata=metadata, if_taken=lambda: next(names))
    assert path is not None
    return InputImpl.VideoFromFile(str(path)), ui.SavedResult(path.name, subfolder, io.FolderType.output)


def output_problem() -> str | None:
    """Why nothing can be saved in the output folder, or None: known before hours of work, not after."""
    folder = existing_parent(Path(folder_paths.get_output_directory()))
    if not os.access(folder, os.W_OK):
        return (
            f"the output folder {folder} cannot be written: give ComfyUI's user permission, or set --output-directory"
        )
    if (free := free_bytes(folder)) < MIN_FREE_BYTES:
        return f"the output folder {folder} has {format_bytes(free)} left: free at least {format_bytes(MIN_FREE_BYTES)}"
    return None


def workflow_metadata(prompt: Any, extra_pnginfo: dict[str, Any] | None) -> dict[str, Any]:
    """What core's SaveVideo embeds: the workflow and the prompt, unless the server was told not to."""
    if args.disable_metadata:
        return {}
    metadata = dict(extra_pnginfo or {})
    if prompt is not None:
        metadata["prompt"] = prompt
    return metadata
