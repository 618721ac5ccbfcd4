"""Where a file is saved: the user's prefix below ComfyUI's output folder, checked before hours of work."""

from __future__ import annotations

import errno
import itertools
import os
from collections.abc import Iterator
from pathlib import Path, PureWindowsPath

import folder_paths

from ..host.messages import encodable
from ..media.disk import existing_parent, format_bytes, free_bytes, storage_error
from ..media.errors import MediaError
from ..media.ffmpeg import find_ffmpeg

MIN_FREE_BYTES = 20_000_000
"""With less, no mp4 of a few seconds can be saved; what a long one takes depends on its content."""

# What ComfyUI writes in place of these, at its longest.
_EXPANDED = {
    "%width%": "00000",
    "%height%": "00000",
    "%year%": "0000",
    **dict.fromkeys(("%month%", "%day%", "%hour%", "%minute%", "%second%"), "00"),
}
_WINDOWS_FORBIDS = frozenset('<>:"|?*') | {chr(code) for code in range(32)}
_WINDOWS_DEVICES = frozenset(
    ("CON", "PRN", "AUX", "NUL", *(f"{port}{number}" for port in ("COM", "LPT") for number in "123456789¹²³"))
)


def saving_problem(filename_prefix: str | None) -> str | None:
    """Why nothing can be saved under a prefix (None: not known yet), or None: known before hours of work, not after."""
    output = Path(folder_paths.get_output_directory())
    folder = output
    if filename_prefix is not None:
        if problem := prefix_problem(filename_prefix, output):
            return problem
        folder = output / Path(os.path.normpath(filename_prefix)).parent
    try:
        find_ffmpeg()
    except MediaError as error:
        return str(error)
    folder = existing_parent(folder)
    if not os.access(folder, os.W_OK):
        return (
            f"the output folder {folder} cannot be written: give ComfyUI's user permission, or set --output-directory"
        )
    if (free := free_bytes(folder)) < MIN_FREE_BYTES:
        return f"the output folder {folder} has {format_bytes(free)} left: free at least {format_bytes(MIN_FREE_BYTES)}"
    return None


def prefix_problem(prefix: str, output: Path, *, windows: bool = os.name == "nt") -> str | None:
    """Why no file below ``output`` can have this prefix, naming the input and the remedy; None where it can."""
    reason = _reason(prefix, output, windows)
    if reason is None:
        return None
    shown = prefix if len(prefix) <= 60 else f"{prefix[:40]}...{prefix[-17:]}"
    return (
        f"filename_prefix: {shown!r} {reason}. Give a name such as video/AsymTalker, with folders below ComfyUI's "
        "output folder"
    )


def file_names(prefix: str, width: int, height: int) -> tuple[Iterator[Path], str]:
    """The names ``<prefix>_00001_.mp4`` from the next free number on, and their folder below the output folder.

    Raises:
        ValueError: no file can have this prefix.
        MediaError: the folder cannot be made or read.
    """
    output = Path(folder_paths.get_output_directory())
    if problem := prefix_problem(prefix, output):
        raise ValueError(problem)
    try:
        folder, name, counter, subfolder, _ = folder_paths.get_save_image_path(prefix, str(output), width, height)
    except OSError as error:
        raise storage_error(output, "saving the video", error) from error
    return (Path(folder) / _file_name(name, number) for number in itertools.count(counter)), subfolder


def _file_name(name: str, number: int) -> str:
    return f"{name}_{number:05}_.mp4"


def _reason(prefix: str, output: Path, windows: bool) -> str | None:
    if "\0" in prefix:
        return "has a NUL character, which no file name can hold"
    if encodable(prefix) != prefix:
        return "has characters that no file name can hold"
    for pattern, expanded in _EXPANDED.items():
        prefix = prefix.replace(pattern, expanded)
    path = Path(os.path.normpath(prefix))
    folder = Path(os.path.normpath(output / path.parent))
    if not _is_within(output, folder):
        return f"leads out of the output folder {output}"
    parts = [*Path(os.path.relpath(folder, output)).parts, _file_name(path.name, 1)]
    if windows:
        parts = list(PureWindowsPath(*parts).parts)
        if bad := next((part for part in parts if _windows_refuses(part)), None):
            return f"has the part {bad!r}, which Windows does not take as a name"
    if any(_is_too_long(output / part) for part in parts) or _is_too_long(folder / parts[-1]):
        return "is too long for a file name on this disk"
    if (there := _nearest(folder)) != existing_parent(folder):
        return f"needs the folder {there}, which is not a folder"
    return None


def _is_within(output: Path, folder: Path) -> bool:
    # Newer hosts have a check that resolves symbolic links; for older ones the paths are compared as written.
    is_within = getattr(folder_paths, "is_within_directory", None)
    if is_within is not None:
        return bool(is_within(str(output), str(folder)))
    return folder.is_relative_to(os.path.normpath(output))


def _windows_refuses(part: str) -> bool:
    stem = part.split(".")[0].rstrip(" ").upper()
    return part[-1:] in (".", " ") or stem in _WINDOWS_DEVICES or not _WINDOWS_FORBIDS.isdisjoint(part)


def _is_too_long(path: Path) -> bool:
    """Whether the file system refuses the name: it has a limit of its own, and applies it to looking too."""
    try:
        path.lstat()
    except OSError as error:
        return error.errno == errno.ENAMETOOLONG
    return False


def _nearest(path: Path) -> Path:
    """The longest part of ``path`` at which there is anything."""
    return next((place for place in (path, *path.parents) if os.path.lexists(place)), path)
