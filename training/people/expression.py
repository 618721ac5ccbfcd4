"""What a drawn face's pose means for a rig: from ``training.corpus.motion.Pose`` to weights of units."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..corpus.motion import Pose

# Vertex targets (folder expression/units) that poses use; all other units turn bones.
MORPHS = (
    "mouth-compression",
    "mouth-pursing",
    "mouth-part-later",
    "mouth-corner-puller",
    "mouth-depression",
    "eyebrows-left-up",
    "eyebrows-right-up",
    "eyebrows-left-down",
    "eyebrows-right-down",
)
# The lips' gap in decimetres at opening 1, and radians of the eye at gaze 1.
FULL_GAP = 0.25
GAZE_YAW, GAZE_PITCH = 0.32, 0.22
# Decimetres a pixel of a drawn 256x256 frame stands for: its heads are 172 pixels high, these 2.35.
PER_PIXEL = 2.35 / 172
BREATH_LIFT = 0.02


@dataclass(frozen=True)
class Stance:
    """Where head and eyes are: rotation vectors in radians, shifts in decimetres."""

    head: tuple[float, float, float]
    gaze: tuple[float, float]
    shift: tuple[float, float]
    breath: float


def stance(pose: Pose) -> Stance:
    yaw, pitch, roll = np.radians((pose.yaw, pose.pitch, pose.roll))
    return Stance(
        head=(float(pitch), float(yaw), float(-roll)),
        gaze=(GAZE_PITCH * pose.gaze_y, GAZE_YAW * pose.gaze_x),
        shift=(PER_PIXEL * pose.shift_x, -PER_PIXEL * pose.shift_y),
        breath=BREATH_LIFT * pose.breath,
    )


def lips(pose: Pose) -> dict[str, float]:
    """Units that shape the lips without the jaw."""
    free = 1.0 - pose.press
    spread, narrow = max(0.0, pose.width), max(0.0, -pose.width)
    kiss = min(1.0, pose.rounding + 0.4 * narrow) * (1.0 - 0.5 * pose.press)
    smile = max(0.0, pose.smile) * (1.0 - 0.6 * kiss)
    units = {
        "mouth-corner-puller": 0.10 + 0.55 * smile,
        "mouth-depression": 0.25 * max(0.0, -pose.smile),
        "mouth-compression": 0.06 + 0.55 * pose.press,
        "lowerLipUp": 0.18 * pose.press,
        "LipsKiss": 0.85 * kiss,
        "mouth-pursing": 0.35 * max(0.0, kiss - 0.45),
        # The teeth of s, z and i show between lips that the jaw does not part.
        "UpperLipUp": free * (0.30 * pose.teeth * min(1.0, 3.0 * pose.jaw) * (1.0 - 0.8 * kiss) + 0.75 * pose.tuck),
        "lowerLipDown": free * 0.22 * pose.teeth * min(1.0, 3.0 * pose.jaw) * (1.0 - kiss) * (1.0 - pose.tuck),
        "lowerLipBackward": 0.55 * pose.tuck * free,
    }
    for side in ("Left", "Right"):
        units[f"Mouth{side}PullSide"] = 0.75 * spread * (1.0 - kiss)
    return units


def tongue(pose: Pose, jaw: float) -> dict[str, float]:
    """Units of the tongue: down with the jaw, its tip at the teeth for l, t and th."""
    up = pose.tongue
    return {
        "TongueUp": 0.30 * up,
        "TonguePointUp": 0.15 * up,
        "TongueOut": 0.45 * up * up,
        "TongueDown": (1.0 - up) * 0.15 * jaw,
    }


def lids_and_brows(pose: Pose, rest_lid: float) -> dict[str, float]:
    """Units of the upper face; the lids follow the gaze, as lids do."""
    units: dict[str, float] = {}
    closed = rest_lid + (1.0 - rest_lid) * pose.blink
    follow = 0.25 * pose.gaze_y * (1.0 - pose.blink)
    for side in ("Left", "Right"):
        units[f"{side}UpperLidClosed"] = float(np.clip(closed + follow, 0.0, 1.0)) * 1.04
        units[f"{side}LowerLidUp"] = 0.10 + 0.25 * pose.blink + 0.2 * max(0.0, pose.smile)
        # At rest the mesh frowns: its inner brows are raised to a neutral look.
        units[f"{side}InnerBrowUp"] = 0.42 + 0.30 * max(0.0, pose.brow)
        units[f"{side}OuterBrowUp"] = 0.08 + 0.55 * max(0.0, pose.brow)
        units[f"{side}BrowDown"] = 0.35 * max(0.0, -pose.brow)
    return units
