"""Head motion that follows speech: springs pulled by the mouth.

Motion that does not follow from speech (see ``motion.sample_motion``) is a matter of chance, of which a small network
in a few denoising steps makes a blur. Here all of it follows from the frames before and from the audio: a critically
damped spring's place and speed are in any two frames, and what pulls it is in the audio. Blinks are in the pauses,
or at any time for networks that are told of them (see ``models.blinks``).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ...models.blinks import PULSE
from ...models.rates import FPS
from .motion import POSE_FIELDS, Pose
from .speech import Phoneme

# Small, for what moves in the whole picture costs a network that has to redraw it far more than the mouth does.
# Field: (pull of jaw, rounding, width at full swing; angular frequency of the spring in 1/s).
_SPRINGS: dict[str, tuple[tuple[float, float, float], float]] = {
    "pitch": ((2.7, 0.0, 0.0), 7.0),
    "yaw": ((-2.1, 7.2, -4.8), 2.6),
    "roll": ((1.8, -2.4, 1.8), 3.6),
    "shift_x": ((-0.9, 3.3, -2.1), 3.2),
    "shift_y": ((1.5, -0.45, 0.0), 5.0),
    "brow": ((0.8, 0.0, 0.0), 6.0),
}
# Where jaw, rounding and width are on average, so that the head sways about its resting place.
_AVERAGE_MOUTH = np.array([0.33, 0.17, 0.19])
_BLINK_DELAY_S, _BLINK_PAUSE_S = 0.08, 0.2
_RESTLESS = frozenset({"pitch", "shift_y", "brow"})


def spoken_motion(portrait: Pose, mouth: np.ndarray, lids: np.ndarray) -> np.ndarray:
    """Poses `[F, len(POSE_FIELDS)]` that begin at rest in the `portrait`'s pose.

    `mouth` is as in `sample_motion`; `lids` `[F]` are closed at 1.
    """
    rows = np.tile(portrait.to_row(), (len(mouth), 1))
    column = {name: i for i, name in enumerate(POSE_FIELDS)}
    rows[:, : mouth.shape[1]] = mouth
    articulation = mouth[:, [column["jaw"], column["rounding"], column["width"]]]
    for name, (pull, frequency) in _SPRINGS.items():
        # The head nods down from rest, and sways to both sides of it.
        deviation = articulation if name in _RESTLESS else articulation - _AVERAGE_MOUTH
        rows[:, column[name]] += _spring(deviation @ np.array(pull), frequency)
    # The eyes stay with the viewer while the head turns.
    turn = rows - portrait.to_row()
    rows[:, column["gaze_x"]] -= 0.035 * turn[:, column["yaw"]]
    rows[:, column["gaze_y"]] -= 0.03 * turn[:, column["pitch"]]
    rows[:, column["blink"]] = lids
    return rows.astype(np.float32)


def _spring(target: np.ndarray, frequency: float) -> np.ndarray:
    """Places `[F]` of a critically damped spring that starts at rest at 0 and is pulled to `target` `[F]`."""
    places = np.zeros(len(target))
    place = speed = 0.0
    step = 1.0 / FPS
    for frame in range(1, len(target)):
        # Implicit in the speed, so that it is stable at any frequency.
        pull = speed + step * frequency**2 * (target[frame] - place)
        speed = pull / (1.0 + 2.0 * frequency * step + (frequency * step) ** 2)
        place += step * speed
        places[frame] = place
    return places


def blinks_in_pauses(phonemes: Sequence[Phoneme], num_frames: int) -> np.ndarray:
    """Lids `[F]`: a blink at the beginning of every pause, where people blink most."""
    lids = np.zeros(num_frames + len(PULSE))
    for pause in (p for p in phonemes if p.symbol == "" and p.end - p.start >= _BLINK_PAUSE_S):
        first = round((pause.start + _BLINK_DELAY_S) * FPS)
        if first < num_frames:
            lids[first : first + len(PULSE)] = PULSE
    return lids[:num_frames]
