"""Finds and follows a face in a video, with one frame in memory: shots, gaps, and a smooth square."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from fractions import Fraction

import numpy as np
import numpy.typing as npt

from .crop import Crop, Picture, square_around
from .detector import Face, find_faces
from .track import Array, FaceTrack, filled, shown, smoothed

SEARCH_EVERY = 5
"""Frames between two searches of the whole picture while there is no face."""
NEIGHBOURHOOD, NEAR_SIDE = 2.6, 192
"""A followed face is searched for in a square this many times its size, scaled to this many pixels."""
STRAY = 0.6
"""The farthest a face moves between two frames, as a share of its size; beyond that, it is another face."""
RETURNS = 2.5
"""The same for a face that was lost for some frames."""

CUT, CUT_OVER_MOTION = 14.0, 3.0
"""Mean difference (0..255) of thumbnails across a cut, and how often it exceeds those just before."""
THUMBNAIL = 24
RECENT = 6

LONGEST_GAP_S = 0.5
"""Shorter gaps are interpolated; in longer ones the video is not changed."""
FADE_S = 0.2
UPPER_FACE = 0.6
"""Share of the face, from the top, whose colour is compared: the mouth below it moves."""


@dataclass(frozen=True)
class TrackOptions:
    """``margin``, ``face_index``: as for a crop. ``shot``: index among the shots with a face. ``smoothing``: seconds.

    ``portrait_at``: time of the portrait in seconds; negative: the frame in which the face is
    most frontal with its mouth closed.
    """

    margin: float
    face_index: int
    shot: int
    smoothing: float
    portrait_at: float


@dataclass
class Shot:
    """Frames from ``start`` on up to a cut, with the faces that were followed in them."""

    start: int
    faces: list[Face | None] = field(default_factory=list)
    colors: list[npt.NDArray[np.float64]] = field(default_factory=list)
    most_faces: int = 0
    portrait: tuple[float, int, Picture] | None = None
    """How far from frontal with a closed mouth, the frame's number, and the whole frame."""

    @property
    def stop(self) -> int:
        return self.start + len(self.faces)

    @property
    def has_face(self) -> bool:
        return any(face is not None for face in self.faces)


@dataclass(frozen=True)
class Tracked:
    """``portrait`` is the square of ``crop`` in the frame ``portrait_frame``; ``shots`` are those with a face."""

    track: FaceTrack
    portrait: Picture
    portrait_frame: int
    crop: Crop
    shot: Shot
    shots: tuple[Shot, ...]


def follow(
    frames: Iterable[Picture], fps: Fraction, options: TrackOptions, on_frame: Callable[[int], None] = lambda n: None
) -> list[Shot]:
    """The shots of a video with one face followed in each of them; ``on_frame`` may raise to stop."""
    shots: list[Shot] = []
    follower = _Follower(options, fps)
    recent: list[float] = []
    last: npt.NDArray[np.float64] | None = None
    for index, frame in enumerate(frames):
        on_frame(index)
        thumbnail = _thumbnail(frame)
        step = 0.0 if last is None else float(np.abs(thumbnail - last).mean())
        usual = max(recent[-RECENT:], default=0.0)
        if last is None or (step > CUT and step > CUT_OVER_MOTION * usual):
            shots.append(Shot(index))
            recent.clear()
            follower.begin()
        else:
            recent.append(step)
            del recent[:-RECENT]
        last = thumbnail
        follower.add(shots[-1], frame, index)
    return shots


def make_track(shots: list[Shot], fps: Fraction, options: TrackOptions) -> Tracked:
    """The smooth square in one of ``shots``.

    Raises:
        ValueError: there is no face, no such shot, or no face at the portrait's time; names the input and the remedy.
    """
    with_face = tuple(shot for shot in shots if shot.has_face)
    num_frames = shots[-1].stop if shots else 0
    shot = _chosen(with_face, num_frames, options)
    if shot.portrait is None:
        raise ValueError(
            f"portrait_at: {options.portrait_at:g} s, but there is no face at that time; this shot lasts from "
            f"{float(shot.start / fps):.2f} to {float(shot.stop / fps):.2f} s. Use -1 to select the best frame"
        )
    _, portrait_frame, picture = shot.portrait
    height, width = picture.shape[:2]
    found = shot.faces[portrait_frame - shot.start]
    assert found is not None
    crop = square_around((found.x, found.y, found.width, found.height), width, height, options.margin)
    present = np.array([face is not None for face in shot.faces])
    anchors = np.array([_anchor(face) if face is not None else (0.0, 0.0, 0.0) for face in shot.faces])
    anchors = smoothed(filled(anchors, present), options.smoothing * float(fps))
    squares = _squares(anchors, anchors[portrait_frame - shot.start], crop)
    colors = filled(np.array(shot.colors), present)
    weights = shown(present, round(LONGEST_GAP_S * fps), round(FADE_S * fps))
    before, after = shot.start, num_frames - shot.stop
    track = FaceTrack(
        width,
        height,
        fps,
        np.pad(squares, ((before, after), (0, 0)), mode="edge"),
        np.pad(weights, (before, after)),
        np.pad(smoothed(colors, FADE_S * float(fps)), ((before, after), (0, 0)), mode="edge"),
        _relative(found, crop),
    )
    portrait = picture[crop.y : crop.y + crop.side, crop.x : crop.x + crop.side]
    return Tracked(track, portrait, portrait_frame, crop, shot, with_face)


def _chosen(shots: tuple[Shot, ...], num_frames: int, options: TrackOptions) -> Shot:
    if not shots:
        which = f"face {options.face_index}" if options.face_index else "face"
        raise ValueError(
            f"video: no {which} was found in its {num_frames} frames. It must look towards the camera and be at "
            "least 16 pixels wide; drawn faces are found only if they resemble photographs"
        )
    if options.shot >= len(shots):
        known = "only shot 0 has a face" if len(shots) == 1 else f"shots 0 to {len(shots) - 1} have faces"
        raise ValueError(f"shot: {options.shot}, but {known}")
    return shots[options.shot]


def _squares(anchors: Array, at_portrait: Array, crop: Crop) -> Array:
    """Squares [n, 3] that have the same position relative to the face as ``crop`` in the portrait's frame."""
    scale = anchors[:, 2:] / at_portrait[2]
    corner = np.array([crop.x, crop.y]) - at_portrait[:2]
    return np.concatenate((anchors[:, :2] + corner * scale, crop.side * scale), axis=1)


def _anchor(face: Face) -> tuple[float, float, float]:
    """The centre of eyes and nose, and their spread: neither changes with speech."""
    points = np.array(face.landmarks[:3])
    middle = points.mean(axis=0)
    return float(middle[0]), float(middle[1]), float(np.sqrt(((points - middle) ** 2).sum()))


def _relative(face: Face, crop: Crop) -> tuple[float, float, float, float]:
    """Left, top, right and bottom of the face's box as shares of the crop, within it."""
    left, top = (face.x - crop.x) / crop.side, (face.y - crop.y) / crop.side
    sides = left, top, left + face.width / crop.side, top + face.height / crop.side
    left, top, right, bottom = (min(max(side, 0.0), 1.0) for side in sides)
    return left, top, right, bottom


def _turned(face: Face) -> float:
    """How far a face is from frontal and upright: 0 where the nose lies below the middle of level eyes."""
    right, left, nose = (np.array(point) for point in face.landmarks[:3])
    span = float(np.hypot(*(left - right))) or 1.0
    middle = (left + right) / 2
    return float(abs(nose[0] - middle[0]) + abs(left[1] - right[1])) / span


def _mouth_contrast(picture: Picture, face: Face) -> float:
    """Spread of the grey values around the mouth, 0..1. Teeth and the dark of an open mouth raise it.

    On drawn people it correlates with the opening at 0.99.
    """
    (right_x, right_y), (left_x, left_y) = face.landmarks[3:]
    x, y, width = (right_x + left_x) / 2, (right_y + left_y) / 2, abs(left_x - right_x)
    rows = slice(max(int(y - 0.25 * width), 0), max(int(y + 0.6 * width), 0))
    columns = slice(max(int(x - 0.4 * width), 0), max(int(x + 0.4 * width), 0))
    part = picture[rows, columns]
    return float(part.mean(axis=2).std()) / 255 if part.size else 1.0


def mean_color(picture: Picture, box: tuple[float, float, float, float]) -> npt.NDArray[np.float64]:
    """Mean RGB of the upper part of the face in ``box`` (left, top, right, bottom in pixels)."""
    height, width = picture.shape[:2]
    left, top, right, bottom = box
    bottom = top + UPPER_FACE * (bottom - top)
    columns = slice(int(min(max(left, 0), width - 1)), int(min(max(right, left + 1), width)) or 1)
    rows = slice(int(min(max(top, 0), height - 1)), int(min(max(bottom, top + 1), height)) or 1)
    return picture[rows, columns].reshape(-1, 3).mean(axis=0, dtype=np.float64)


class _Follower:
    """Finds the face of each frame near where it was in the one before."""

    def __init__(self, options: TrackOptions, fps: Fraction) -> None:
        self._options = options
        self._portrait_frame = round(options.portrait_at * fps) if options.portrait_at >= 0 else None
        self.begin()

    def begin(self) -> None:
        """Forget the face: a cut."""
        self._last: Face | None = None
        self._lost = 0

    def add(self, shot: Shot, frame: Picture, index: int) -> None:
        """Look for the face in the next frame of a shot."""
        face = self._find(shot, frame)
        shot.faces.append(face)
        if face is None:
            self._lost += 1
            shot.colors.append(np.zeros(3))
            return
        self._last, self._lost = face, 0
        box = face.x, face.y, face.x + face.width, face.y + face.height
        shot.colors.append(mean_color(frame, box))
        wanted = self._portrait_frame is None or self._portrait_frame == index
        # Small improvements are ignored, to avoid copying every frame.
        flaw = _turned(face) + _mouth_contrast(frame, face)
        if wanted and (shot.portrait is None or flaw < 0.95 * shot.portrait[0]):
            shot.portrait = flaw, index, frame.copy()

    def _find(self, shot: Shot, frame: Picture) -> Face | None:
        last = self._last
        if last is not None and self._lost == 0 and (near := _near(frame, last)) is not None:
            return near
        if self._lost % SEARCH_EVERY and shot.faces:
            return None
        faces = find_faces(frame)
        shot.most_faces = max(shot.most_faces, len(faces))
        if last is None:
            return faces[self._options.face_index] if self._options.face_index < len(faces) else None
        return _nearest(faces, last, RETURNS)


def _near(frame: Picture, last: Face) -> Face | None:
    """The face in ``frame`` where ``last`` was."""
    height, width = frame.shape[:2]
    box = last.x, last.y, last.width, last.height
    around = square_around(box, width, height, (NEIGHBOURHOOD - 1) / 2)
    part = frame[around.y : around.y + around.side, around.x : around.x + around.side]
    found = [face.moved(around.x, around.y) for face in find_faces(part, (NEAR_SIDE,))]
    return _nearest(found, last, STRAY)


def _nearest(faces: list[Face], last: Face, most: float) -> Face | None:
    """The one of ``faces`` that matches ``last``; None if all are farther away than ``most``."""
    nearest = min(faces, key=lambda face: _distance(face, last), default=None)
    return nearest if nearest is not None and _distance(nearest, last) < most else None


def _distance(face: Face, other: Face) -> float:
    """Distance between two faces, as a share of the size of ``other``; includes a change of size."""
    middle = [(item.x + item.width / 2, item.y + item.height / 2) for item in (face, other)]
    size = max(other.width, other.height)
    apart = np.hypot(middle[0][0] - middle[1][0], middle[0][1] - middle[1][1]) / size
    return float(apart + abs(np.log(max(face.width, 1e-6) / max(other.width, 1e-6))))


def _thumbnail(frame: Picture) -> npt.NDArray[np.float64]:
    """Means [THUMBNAIL, THUMBNAIL, 3] over a grid; large frames are subsampled."""
    height, width = frame.shape[:2]
    rows = np.linspace(0, height, THUMBNAIL * 4, endpoint=False).astype(int)
    columns = np.linspace(0, width, THUMBNAIL * 4, endpoint=False).astype(int)
    points = frame[rows[:, None], columns].astype(np.float64)
    return points.reshape(THUMBNAIL, 4, THUMBNAIL, 4, 3).mean(axis=(1, 3))
