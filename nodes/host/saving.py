"""Saving a VIDEO with the user's audio in ComfyUI's output folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import folder_paths
from comfy.cli_args import args
from comfy_api.latest import Input, InputImpl, io, ui

from .audio import checked_audio
from .video import GENERATED_MARK, write_mp4


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
    width, height = video.get_dimensions()
    folder, name, counter, subfolder, _ = folder_paths.get_save_image_path(
        filename_prefix, folder_paths.get_output_directory(), width, height
    )
    file = f"{name}_{counter:05}_.mp4"
    path = str(Path(folder) / file)
    metadata = workflow_metadata(prompt, extra_pnginfo)
    if mark_generated:
        metadata = {**GENERATED_MARK, **metadata}
    write_mp4(video, path, (waveform.cpu().numpy(), sample_rate), crf=crf, metadata=metadata)
    return InputImpl.VideoFromFile(path), ui.SavedResult(file, subfolder, io.FolderType.output)


def workflow_metadata(prompt: Any, extra_pnginfo: dict[str, Any] | None) -> dict[str, Any]:
    """What core's SaveVideo embeds: the workflow and the prompt, unless the server was told not to."""
    if args.disable_metadata:
        return {}
    metadata = dict(extra_pnginfo or {})
    if prompt is not None:
        metadata["prompt"] = prompt
    return metadata
