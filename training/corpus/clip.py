"""One training clip: a person who speaks, with everything that is known about them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ...models.blinks import lids
from ...models.rates import FPS, SAMPLE_RATE
from .identity import Identity, sample_identity
from .motion import POSE_FIELDS, Pose, sample_motion
from .mouth import MAX_OPENING, mouth_shape
from .neural import available, speak_neural
from .render import mouth_box, render
from .speech import HELD_OUT_VARIANTS, VARIANTS, Espeak, Phoneme, Utterance, sample_voice
from .spoken import blinks_in_pauses, spoken_motion
from .text import sample_sentence
from .viseme import emphasis_track, mouth_track

SETTLE_FRAMES = 15
# A minute, more than people do: clips are short, and a chunk without a blink teaches nothing of one.
TOLD_BLINKS = 45
HEAD_FIELDS = ("gaze_x", "gaze_y", "yaw", "pitch", "roll", "shift_x", "shift_y", "breath")
FACE_FIELDS = ("smile", "brow", "blink")
HEADS = ("spoken", "free")
BLINKS = ("pauses", "told")
# One stream of random numbers per part, so that a change in one leaves the others alone.
_SPEECH_STREAM, _MOTION_STREAM, _PORTRAIT_STREAM = 1, 2, 3


@dataclass(frozen=True)
class Clip:
    """F frames of 25 fps with their speech.

    frames: uint8 `[F, S, S, 3]`; audio: float32 `[F * 640]`, 16 kHz mono; poses: float32 `[F, len(POSE_FIELDS)]`;
    opening `[F]`: the lips' gap, 0 closed to 1; width `[F]`: the mouth's width over its neutral one; rounding `[F]`;
    mouth_boxes: int32 `[F, 4]`, (x0, y0, x1, y1) in pixels; portrait: uint8 `[S, S, 3]`, mouth closed, frontal.
    """

    frames: np.ndarray
    audio: np.ndarray
    identity: Identity
    poses: np.ndarray
    opening: np.ndarray
    width: np.ndarray
    rounding: np.ndarray
    mouth_boxes: np.ndarray
    portrait: np.ndarray


def identity_of(seed: int, index: int) -> Identity:
    """The person of clip `index`."""
    return sample_identity(np.random.default_rng([seed, index]))


def portrait_pose(seed: int, index: int) -> Pose:
    """That person looking at the viewer, mouth closed, the head nearly straight."""
    rng = np.random.default_rng([seed, index, _PORTRAIT_STREAM])
    return Pose(
        smile=float(rng.uniform(0.0, 0.3)),
        yaw=float(rng.normal(0, 2.0)),
        pitch=float(rng.normal(0, 1.2)),
        roll=float(rng.normal(0, 1.0)),
        shift_x=float(rng.normal(0, 1.5)),
        shift_y=float(rng.normal(0, 1.0)),
    )


def portrait_of(seed: int, index: int, size: int = 256) -> np.ndarray:
    """The portrait that clip `index` starts from: uint8 `[size, size, 3]`."""
    return render(identity_of(seed, index), portrait_pose(seed, index), size)


def make_speech(seed: int, index: int, duration_s: float, *, held_out: bool = False) -> Utterance:
    """Sentences by one speaker with pauses between them, `duration_s` of 16 kHz audio; it starts within 0.3 s.

    `held_out` takes voices that no clip of the corpus has.
    """
    rng = np.random.default_rng([seed, index, _SPEECH_STREAM])
    if not held_out and available() and rng.random() < 0.45:
        return _string_sentences(rng, duration_s, _neural_speaker(rng))
    voice = sample_voice(rng, HELD_OUT_VARIANTS if held_out else VARIANTS)
    with Espeak() as engine:
        return _string_sentences(rng, duration_s, lambda: engine.speak(sample_sentence(rng, voice.language), voice))


def _neural_speaker(rng: np.random.Generator) -> Callable[[], Utterance]:
    """A natural voice turned into another speaker: its pitch and vocal tract change together, from man to child."""
    tract = float(rng.uniform(0.84, 1.14))
    pitch = float(np.interp(tract, [0.84, 1.0, 1.14], [0.56, 1.0, 1.25]) * rng.uniform(0.88, 1.12))
    speed = float(rng.uniform(0.85, 1.3))
    return lambda: speak_neural(sample_sentence(rng, "en-us"), rng, pitch, tract, speed)


def _trim(utterance: Utterance) -> Utterance:
    """Cuts the silence that engines put around a sentence."""
    loud = np.flatnonzero(np.abs(utterance.audio) > 0.02 * np.abs(utterance.audio).max())
    start = max(0, int(loud[0]) - SAMPLE_RATE // 50)
    end = min(len(utterance.audio), int(loud[-1]) + SAMPLE_RATE // 20)
    offset, last = start / SAMPLE_RATE, (end - start) / SAMPLE_RATE
    kept = [(p.symbol, max(0.0, p.start - offset), min(last, p.end - offset)) for p in utterance.phonemes]
    return Utterance(utterance.audio[start:end], tuple(Phoneme(s, a, b) for s, a, b in kept if b > a))


def _string_sentences(rng: np.random.Generator, duration_s: float, speak: Callable[[], Utterance]) -> Utterance:
    total = round(duration_s * SAMPLE_RATE)
    audio = np.zeros(total, dtype=np.float32)
    phonemes: list[Phoneme] = []
    position = int(rng.uniform(0.02, 0.22) * SAMPLE_RATE)
    while position < total:
        sentence = _trim(speak())
        level = float(np.sqrt(np.mean(sentence.audio**2)))
        # The level of a normalised recording, so that loudness compares across engines.
        piece = sentence.audio[: total - position] * (0.09 / max(level, 1e-5))
        audio[position : position + len(piece)] = piece
        start = position / SAMPLE_RATE
        phonemes += [Phoneme(p.symbol, p.start + start, p.end + start) for p in sentence.phonemes]
        end = position + len(sentence.audio)
        pause = float(rng.uniform(0.12, 0.55)) if rng.random() < 0.8 else float(rng.uniform(0.5, 1.1))
        phonemes.append(Phoneme("", end / SAMPLE_RATE, end / SAMPLE_RATE + pause))
        position = end + int(pause * SAMPLE_RATE)
    return Utterance(np.clip(audio, -1.0, 1.0), tuple(phonemes))


def make_poses(
    seed: int,
    index: int,
    speech: Utterance,
    num_frames: int,
    head: str = "spoken",
    head_motion: float = 1.0,
    face_motion: float = 1.0,
    blinks: str = "pauses",
) -> np.ndarray:
    """Poses `[F, len(POSE_FIELDS)]` of the person during that speech.

    `head` is one of `HEADS`: it follows the speech, or moves freely. `head_motion` 0..1 scales the head and the gaze,
    `face_motion` the brows, the lids and the smile. `blinks` is one of `BLINKS`: where the head follows the
    speech, so do they, or they come at any time, for networks that are told of them.
    """
    track = mouth_track(speech.phonemes, speech.audio, num_frames)
    portrait = portrait_pose(seed, index)
    if head == "spoken":
        closed = blinks_in_pauses(speech.phonemes, num_frames)
        if blinks == "told":
            closed = lids(f"{seed}/{index}", 0, num_frames, TOLD_BLINKS).numpy()
        rows = spoken_motion(portrait, track, closed)
        return _settled(portrait, rows, head_motion, face_motion, np.ones(num_frames))
    rng = np.random.default_rng([seed, index, _MOTION_STREAM])
    rows = sample_motion(rng, track, emphasis_track(speech.audio, num_frames))
    ease = np.clip(np.arange(num_frames) / SETTLE_FRAMES, 0.0, 1.0)
    return _settled(portrait, rows, head_motion, face_motion, ease**2 * (3 - 2 * ease))


def _settled(portrait: Pose, rows: np.ndarray, head_motion: float, face_motion: float, ease: np.ndarray) -> np.ndarray:
    """The first frame is the portrait itself, as in generation; the mouth leaves it at once, the head by `ease`."""
    start = portrait.to_row()
    frame = np.arange(len(rows), dtype=np.float32)[:, None]
    weight = np.tile(np.clip(frame / 2, 0.0, 1.0), len(POSE_FIELDS))
    for names, amount in ((HEAD_FIELDS, head_motion), (FACE_FIELDS, face_motion)):
        weight[:, [POSE_FIELDS.index(name) for name in names]] = amount * ease[:, None]
    return (start + weight * (rows - start)).astype(np.float32)


def make_clip(
    seed: int,
    index: int,
    num_frames: int,
    size: int = 256,
    head: str = "spoken",
    head_motion: float = 1.0,
    face_motion: float = 1.0,
    blinks: str = "pauses",
) -> Clip:
    """Clip `index` of the corpus `seed`: the same numbers give the same clip, with the same voices installed."""
    identity = identity_of(seed, index)
    speech = make_speech(seed, index, num_frames / FPS)
    rows = make_poses(seed, index, speech, num_frames, head, head_motion, face_motion, blinks)
    poses = [Pose.from_row(row) for row in rows]
    shapes = [mouth_shape(identity, pose) for pose in poses]
    return Clip(
        frames=np.stack([render(identity, pose, size) for pose in poses]),
        audio=speech.audio,
        identity=identity,
        poses=rows,
        opening=np.array([s.gap / MAX_OPENING for s in shapes], dtype=np.float32),
        width=np.array([s.half_width / identity.mouth_width for s in shapes], dtype=np.float32),
        rounding=np.array([p.rounding for p in poses], dtype=np.float32),
        mouth_boxes=np.array([mouth_box(identity, p, size) for p in poses], dtype=np.int32),
        portrait=portrait_of(seed, index, size),
    )
