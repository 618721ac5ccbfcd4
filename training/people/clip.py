"""Clips of both corpora, with photographs' variety: `make_footage(sources, seed, index, ...)`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ...faces.detector import find_faces
from ...models.rates import FPS
from ..corpus.clip import make_clip, make_poses, make_speech, portrait_pose
from ..corpus.motion import Pose
from .assets import Assets
from .background import make_background
from .light import sample_light
from .person import Person, sample_person
from .photo import Look, crop_boxes, develop, sample_look
from .render import Studio, face_distance, portrait_view, sample_view
from .textures import Atlas

CORPORA = ("people", "drawn", "mixed")
FRAMINGS = ("portrait", "any")
SMILES = 1 / 3
# A detection is the person's face if its middle is within so many head heights of the head's.
FACE_WITHIN = 0.5
# One stream of random numbers per part, apart from those of ``training.corpus.clip``.
_KIND_STREAM, _PERSON_STREAM, _PLACE_STREAM, _LOOK_STREAM, _NOISE_STREAM = 11, 12, 13, 14, 15
_FRAMING_STREAM, _SMILE_STREAM = 16, 17


@dataclass(frozen=True)
class Footage:
    """F frames of 25 fps with their speech: the arrays of ``corpus.clip.Clip``, and what is known ``about`` them.

    ``opening`` of people is measured on the mesh; ``poses`` are the requested ones.
    Some people smile on the ``portrait``.
    """

    frames: np.ndarray
    audio: np.ndarray
    poses: np.ndarray
    opening: np.ndarray
    width: np.ndarray
    rounding: np.ndarray
    mouth_boxes: np.ndarray
    portrait: np.ndarray
    about: Mapping[str, Any]


@dataclass(frozen=True)
class Sources:
    """What people are made of, and pictures for what is behind them."""

    assets: Assets
    atlas: Atlas
    backgrounds: Path | None = None

    @classmethod
    def read(cls, folder: Path, backgrounds: Path | None = None) -> Sources:
        assets = Assets(folder)
        return cls(assets, Atlas(assets), backgrounds)


def kind_of(corpus: str, seed: int, index: int, share: float) -> str:
    """Whether clip ``index`` shows one of the "people" (``share`` of the mixed corpus) or is "drawn"."""
    if corpus != "mixed":
        return corpus
    return "people" if np.random.default_rng([seed, index, _KIND_STREAM]).random() < share else "drawn"


def person_of(sources: Sources, seed: int, index: int) -> Person:
    """The person of clip ``index``."""
    return sample_person(np.random.default_rng([seed, index, _PERSON_STREAM]), sources.assets.target_names)


def photographed_pose(seed: int, index: int) -> Pose:
    """That of the portrait: two in three look as at the clip's beginning, the others show their teeth in a smile."""
    pose = portrait_pose(seed, index)
    rng = np.random.default_rng([seed, index, _SMILE_STREAM])
    if rng.random() > SMILES:
        return pose
    smile, teeth, jaw, width = rng.uniform((0.5, 0.4, 0.08, 0.2), (1.0, 1.0, 0.35, 0.7))
    return replace(pose, smile=float(smile), teeth=float(teeth), jaw=float(jaw), width=float(width))


def studio_of(sources: Sources, seed: int, index: int, size: int = 256, framing: str = "portrait") -> Studio:
    """The person of clip ``index`` in their light, before their background; ``framing`` is one of ``FRAMINGS``."""
    rng = np.random.default_rng([seed, index, _PLACE_STREAM])
    light, view = sample_light(rng), sample_view(rng)
    background = make_background(rng, size, sources.backgrounds)
    studio = Studio(sources.assets, sources.atlas, person_of(sources, seed, index), light, view, background)
    if framing == "portrait":
        faces = find_faces(to_bytes(studio.frame(portrait_pose(seed, index)).colour))
        # Some backgrounds hold what is taken for a face.
        nearest = min(faces, key=lambda face: face_distance(view, face, size), default=None)
        if nearest and face_distance(view, nearest, size) < FACE_WITHIN:
            rng = np.random.default_rng([seed, index, _FRAMING_STREAM])
            studio.view = portrait_view(view, nearest, size, rng)
    return studio


def look_of(seed: int, index: int, kind: str, framing: str = "portrait") -> Look:
    """What camera and filters do to clip ``index``; drawn faces, all framed as portraits, are cropped for "any"."""
    crops = kind == "drawn" and framing == "any"
    return sample_look(np.random.default_rng([seed, index, _LOOK_STREAM]), crops=crops)


def make_footage(
    sources: Sources | None,
    seed: int,
    index: int,
    num_frames: int,
    kind: str = "people",
    look: Look | None = None,
    size: int = 256,
    framing: str = "portrait",
    **motion: Any,
) -> Footage:
    """Clip ``index`` of the corpus ``seed``; the same numbers give the same clip on the same machine.

    ``look`` None draws one; ``motion`` is as in ``corpus.clip.make_clip``. "people" need ``sources``. ``framing``
    "portrait" frames every face about as Face Crop does, "any" has heads from a third to nine tenths of the height.
    """
    look = look_of(seed, index, kind, framing) if look is None else look
    made = (
        _drawn(seed, index, num_frames, size, motion)
        if sources is None or kind == "drawn"
        else _people(sources, seed, index, num_frames, size, framing, motion)
    )
    rng = np.random.default_rng([seed, index, _NOISE_STREAM])
    return Footage(
        frames=develop(made.frames, look, rng),
        audio=made.audio,
        poses=made.poses,
        opening=made.opening,
        width=made.width,
        rounding=made.rounding,
        mouth_boxes=crop_boxes(look, made.mouth_boxes, size),
        portrait=develop(made.portrait[None], look, rng, video=False)[0],
        about={"kind": kind, "look": asdict(look), **made.about},
    )


def _drawn(seed: int, index: int, num_frames: int, size: int, motion: Mapping[str, Any]) -> Footage:
    clip = make_clip(seed, index, num_frames, size, **motion)
    return Footage(
        clip.frames, clip.audio, clip.poses, clip.opening, clip.width, clip.rounding, clip.mouth_boxes, clip.portrait,
        {"identity": asdict(clip.identity)},
    )  # fmt: skip


def _people(
    sources: Sources, seed: int, index: int, num_frames: int, size: int, framing: str, motion: Mapping[str, Any]
) -> Footage:
    speech = make_speech(seed, index, num_frames / FPS)
    rows = make_poses(seed, index, speech, num_frames, **motion)
    studio = studio_of(sources, seed, index, size, framing)
    shots = [studio.frame(Pose.from_row(row)) for row in rows]
    portrait = studio.frame(photographed_pose(seed, index))
    return Footage(
        frames=np.stack([to_bytes(shot.colour) for shot in shots]),
        audio=speech.audio,
        poses=rows,
        opening=np.array([shot.opening for shot in shots], np.float32),
        width=np.array([shot.width for shot in shots], np.float32),
        rounding=np.array([Pose.from_row(row).rounding for row in rows], np.float32),
        mouth_boxes=np.array([shot.mouth_box for shot in shots], np.int32),
        portrait=to_bytes(portrait.colour),
        about={"identity": asdict(studio.body.person)},
    )


def to_bytes(colour: np.ndarray) -> np.ndarray:
    """Colours in 0..1 as uint8."""
    return (255 * np.clip(colour, 0, 1) + 0.5).astype(np.uint8)
