"""Face Track: the face of a video as a portrait, and its position in every frame."""

from __future__ import annotations

import torch
from comfy import model_management
from comfy.utils import ProgressBar
from comfy_api.latest import Input
from torch import Tensor

from ..host.portrait import SMALLEST_PORTRAIT
from ..host.progress import notify
from ..video.incoming import frames_of
from .track import FaceTrack
from .tracking import Shot, Tracked, TrackOptions, follow, make_track

MANY_GAPS = 3
"""The number of gaps that are listed; further ones are counted."""


def track_face(video: Input.Video, options: TrackOptions, node_id: str | None) -> tuple[Tensor, FaceTrack]:
    """The square around the face in its best frame as an IMAGE [1, side, side, 3], and the face's track.

    Raises:
        ValueError: the video cannot be read, or has no such face; names the input and the remedy.
        InterruptProcessingException: the user cancelled.
    """
    source = frames_of(video)
    fps = source.get_frame_rate()
    bar = ProgressBar(max(source.get_frame_count(), 1), node_id)

    def on_frame(index: int) -> None:
        model_management.throw_exception_if_processing_interrupted()
        bar.update_absolute(index + 1)

    tracked = make_track(follow(source.frames(), fps, options, on_frame), fps, options)
    if tracked.crop.side < SMALLEST_PORTRAIT:
        raise ValueError(
            f"video: the face takes {tracked.crop.side} pixels, too few for a portrait (at least {SMALLEST_PORTRAIT}). "
            "Use a larger video or raise margin"
        )
    notify(node_id, *_notes(tracked, options))
    return torch.from_numpy(tracked.portrait.copy())[None] / 255, tracked.track


def _notes(tracked: Tracked, options: TrackOptions) -> list[str]:
    """Notes on the face that was found and on the parts of the video that are not changed."""
    fps = float(tracked.track.fps)
    shot, crop = tracked.shot, tracked.crop
    notes = [
        f"face {options.face_index} of {max(shot.most_faces, 1)}: {crop.side}x{crop.side} pixels; the portrait is the "
        f"frame at {tracked.portrait_frame / fps:.2f} s"
    ]
    if len(tracked.shots) > 1 or len(shot.faces) < tracked.track.num_frames:
        notes.append(
            f"the video has cuts: shot {options.shot} of {len(tracked.shots)} with a face, from {shot.start / fps:.2f} "
            f"to {shot.stop / fps:.2f} s, is used, the rest is not changed"
        )
    if gaps := _gaps(tracked.track, shot):
        spans = ", ".join(f"{start / fps:.2f} to {stop / fps:.2f} s" for start, stop in gaps[:MANY_GAPS])
        more = f" and {len(gaps) - MANY_GAPS} more intervals" if len(gaps) > MANY_GAPS else ""
        notes.append(f"no face from {spans}{more}: these frames are not changed")
    return notes


def _gaps(track: FaceTrack, shot: Shot) -> list[tuple[int, int]]:
    """Stretches [start, stop) of a shot in which nothing is pasted."""
    gaps: list[tuple[int, int]] = []
    for frame in range(shot.start, shot.stop):
        if track.weights[frame] > 0:
            continue
        if gaps and gaps[-1][1] == frame:
            gaps[-1] = gaps[-1][0], frame + 1
        else:
            gaps.append((frame, frame + 1))
    return gaps
