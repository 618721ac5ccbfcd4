"""How a drawn face stands in one frame."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple, dataclass, fields

import numpy as np

from ...models.rates import FPS


@dataclass(frozen=True)
class Pose:
    """One frame's motion.

    Mouth and lids are 0..1 (`width` and `smile` -1..1), angles in degrees, shifts in pixels of 256.
    """

    jaw: float = 0.0
    width: float = 0.0
    rounding: float = 0.0
    press: float = 0.0
    tuck: float = 0.0
    teeth: float = 0.0
    tongue: float = 0.0
    smile: float = 0.0
    blink: float = 0.0
    gaze_x: float = 0.0
    gaze_y: float = 0.0
    brow: float = 0.0
    yaw: float = 0.0
    pitch: float = 0.0
    roll: float = 0.0
    shift_x: float = 0.0
    shift_y: float = 0.0
    breath: float = 0.0

    @classmethod
    def from_row(cls, row: Sequence[float] | np.ndarray) -> Pose:
        """The pose of one row of a `[F, len(POSE_FIELDS)]` array."""
        return cls(*(float(v) for v in row))

    def to_row(self) -> np.ndarray:
        """float32 `[len(POSE_FIELDS)]`, in the order of `POSE_FIELDS`."""
        return np.asarray(astuple(self), dtype=np.float32)


POSE_FIELDS: tuple[str, ...] = tuple(f.name for f in fields(Pose))


def opening(pose: Pose) -> float:
    """Gap between the lips, 0 (closed) to 1 (as wide as it goes)."""
    gap = pose.jaw * (1.0 - 0.25 * pose.rounding)
    return min(1.0, gap * (1.0 - pose.press) * (1.0 - 0.8 * pose.tuck) + 0.10 * pose.tuck * (1.0 - pose.press))


def sample_pose(rng: np.random.Generator) -> Pose:
    """An independent pose with the ranges that clips show: half of them speak, some blink."""
    kind = rng.random()
    jaw = float(rng.uniform(0.0, 1.0)) if kind < 0.75 else 0.0
    return Pose(
        jaw=jaw,
        width=float(np.clip(rng.normal(0.0, 0.5), -1, 1)),
        rounding=float(rng.uniform(0, 1)) if rng.random() < 0.4 else 0.0,
        press=float(rng.uniform(0, 1)) if rng.random() < 0.2 else 0.0,
        tuck=float(rng.uniform(0, 1)) if rng.random() < 0.12 else 0.0,
        teeth=float(rng.uniform(0, 1)),
        tongue=float(rng.uniform(0, 1)) if rng.random() < 0.5 else 0.0,
        smile=float(np.clip(rng.normal(0.1, 0.35), -1, 1)),
        blink=float(rng.uniform(0, 1)) if rng.random() < 0.2 else 0.0,
        gaze_x=float(np.clip(rng.normal(0, 0.4), -1, 1)),
        gaze_y=float(np.clip(rng.normal(0, 0.3), -1, 1)),
        brow=float(np.clip(rng.normal(0.1, 0.4), -1, 1)),
        yaw=float(np.clip(rng.normal(0, 7), -18, 18)),
        pitch=float(np.clip(rng.normal(0, 4), -9, 9)),
        roll=float(np.clip(rng.normal(0, 3.5), -9, 9)),
        shift_x=float(np.clip(rng.normal(0, 4), -10, 10)),
        shift_y=float(np.clip(rng.normal(0, 3), -7, 7)),
        breath=float(rng.uniform(-1, 1)),
    )


def _slow_noise(rng: np.random.Generator, num_frames: int, smooth_frames: float) -> np.ndarray:
    """Unit-variance noise `[F]`, low-passed by a Gaussian of that many frames."""
    half = int(3 * smooth_frames)
    kernel = np.exp(-0.5 * (np.arange(-half, half + 1) / smooth_frames) ** 2)
    kernel /= np.sqrt(np.sum(kernel**2))
    return np.convolve(rng.standard_normal(num_frames + 2 * half), kernel, mode="valid")


def _blinks(rng: np.random.Generator, num_frames: int) -> np.ndarray:
    """Lids `[F]`: a blink of 0.2 s every 2 to 5 s, faster down than up."""
    times = (np.arange(num_frames) + 0.5) / FPS
    lids = np.zeros(num_frames)
    start = float(rng.uniform(0.3, 4.0))
    while start < times[-1]:
        phase = (times - start) / 0.2
        closing = np.interp(phase, [0.0, 0.32, 0.55, 1.0], [0.0, 1.0, 1.0, 0.0], left=0.0, right=0.0)
        lids = np.maximum(lids, closing)
        start += float(rng.uniform(2.0, 5.0))
    return lids


def _saccades(rng: np.random.Generator, num_frames: int) -> np.ndarray:
    """Gaze `[F, 2]`: fixations of 0.5 to 2.5 s, every second one at the viewer."""
    gaze = np.zeros((num_frames, 2))
    frame = 0
    while frame < num_frames:
        hold = int(rng.uniform(0.5, 2.5) * FPS)
        target = rng.normal(0.0, (0.35, 0.2)) if rng.random() < 0.5 else np.zeros(2)
        gaze[frame : frame + hold] = np.clip(target, -1.0, 1.0)
        frame += hold
    before = np.concatenate([gaze[:1], gaze[:-1]])
    return 0.5 * (gaze + before)  # a saccade takes about one frame


def sample_motion(rng: np.random.Generator, mouth: np.ndarray, emphasis: np.ndarray) -> np.ndarray:
    """Poses `[F, len(POSE_FIELDS)]` around a mouth track.

    `mouth` is `[F, 7]` (jaw, width, rounding, press, tuck, teeth, tongue), `emphasis` `[F]` is 0..1 and high where
    speech is stressed: brows rise and the head nods with it.
    """
    f = len(mouth)
    poses = np.zeros((f, len(POSE_FIELDS)))
    column = {name: i for i, name in enumerate(POSE_FIELDS)}

    def put(name: str, values: np.ndarray, low: float, high: float) -> None:
        poses[:, column[name]] = np.clip(values, low, high)

    poses[:, : mouth.shape[1]] = mouth
    amount = float(rng.uniform(0.5, 1.2))
    yaw = amount * (6.0 * _slow_noise(rng, f, 16.0) + 1.0 * _slow_noise(rng, f, 5.0)) + float(rng.normal(0, 2.5))
    pitch = amount * (2.4 * _slow_noise(rng, f, 14.0) + 2.2 * emphasis) - 0.6
    gaze = _saccades(rng, f)
    put("smile", float(rng.uniform(-0.1, 0.4)) + 0.12 * _slow_noise(rng, f, 20.0), -0.4, 0.8)
    put("blink", _blinks(rng, f), 0.0, 1.0)
    # The eyes stay with the viewer while the head turns.
    put("gaze_x", gaze[:, 0] - 0.035 * yaw, -1.0, 1.0)
    put("gaze_y", gaze[:, 1] - 0.03 * pitch, -1.0, 1.0)
    put("brow", 0.45 * emphasis + 0.16 * _slow_noise(rng, f, 12.0), -0.7, 1.0)
    put("yaw", yaw, -18.0, 18.0)
    put("pitch", pitch, -9.0, 9.0)
    put("roll", amount * 2.6 * _slow_noise(rng, f, 15.0) + 0.12 * yaw, -9.0, 9.0)
    put("shift_x", amount * 2.6 * _slow_noise(rng, f, 18.0) + 0.15 * yaw, -10.0, 10.0)
    put("shift_y", amount * 1.5 * _slow_noise(rng, f, 16.0) + 0.8 * emphasis, -7.0, 7.0)
    period = float(rng.uniform(3.2, 5.0)) * FPS
    put("breath", np.sin(2 * np.pi * (np.arange(f) / period + rng.random())), -1.0, 1.0)
    return poses.astype(np.float32)
