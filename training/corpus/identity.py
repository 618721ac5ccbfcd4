"""Who is drawn: everything about a face that does not move."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

Rgb = tuple[float, float, float]
Uniform = Callable[[float, float], float]

SKIN_TONES: tuple[Rgb, ...] = (
    (0.98, 0.87, 0.80),
    (0.95, 0.79, 0.69),
    (0.89, 0.69, 0.56),
    (0.79, 0.57, 0.43),
    (0.64, 0.43, 0.31),
    (0.47, 0.30, 0.22),
    (0.35, 0.22, 0.17),
)
HAIR_COLOURS: tuple[Rgb, ...] = (
    (0.09, 0.08, 0.09),
    (0.17, 0.11, 0.09),
    (0.29, 0.18, 0.12),
    (0.43, 0.27, 0.16),
    (0.62, 0.43, 0.24),
    (0.84, 0.68, 0.42),
    (0.60, 0.25, 0.12),
    (0.62, 0.62, 0.64),
    (0.88, 0.87, 0.85),
)
FANCY_HAIR_COLOURS: tuple[Rgb, ...] = ((0.80, 0.35, 0.52), (0.26, 0.47, 0.66), (0.45, 0.32, 0.62), (0.20, 0.52, 0.48))
IRIS_COLOURS: tuple[Rgb, ...] = (
    (0.26, 0.15, 0.09),
    (0.40, 0.25, 0.13),
    (0.48, 0.40, 0.20),
    (0.30, 0.46, 0.32),
    (0.28, 0.47, 0.66),
    (0.45, 0.53, 0.60),
)
HAIR_STYLES = (
    "bald", "buzz", "side_part", "quiff", "fringe_bob", "long_centre", "long_wavy", "curly", "afro", "bun",
    "ponytail", "receding", "side_sweep", "long_fringe", "crop",
)  # fmt: skip
BEARD_STYLES = ("none", "stubble", "moustache", "goatee", "full")
GLASSES_STYLES = ("none", "round", "square", "thin")
CLOTHES_STYLES = ("crew", "v_neck", "shirt", "suit", "hoodie", "turtleneck")
CLOTHES_PATTERNS = ("plain", "stripes", "dots", "check")
BACKDROPS = ("linear", "radial", "window", "shelf", "panel", "bokeh", "arch")


@dataclass(frozen=True)
class Identity:
    """One drawn person and the place they sit in. Lengths are pixels of a 256x256 frame; colours are sRGB in 0..1."""

    skin: Rgb
    blush: float
    face_width: float
    jaw_width: float
    chin_width: float
    face_height: float
    cheek: float
    hair_style: str
    hair: Rgb
    hair_volume: float
    hair_length: float
    hair_side: float
    brow_thickness: float
    brow_arch: float
    brow_tilt: float
    eye_spacing: float
    eye_width: float
    eye_height: float
    eye_tilt: float
    iris: Rgb
    lashes: float
    nose_width: float
    nose_length: float
    mouth_width: float
    mouth_height: float
    upper_lip: float
    lower_lip: float
    lip: Rgb
    lip_gloss: float
    beard: str
    beard_density: float
    glasses: str
    glasses_colour: Rgb
    ear_size: float
    earrings: bool
    freckles: float
    wrinkles: float
    clothes: str
    clothes_colour: Rgb
    clothes_accent: Rgb
    pattern: str
    shoulder_width: float
    backdrop: str
    backdrop_colours: tuple[Rgb, Rgb, Rgb]
    light: float
    light_warmth: float
    texture_phase: float


def mix(a: Rgb, b: Rgb, t: float) -> Rgb:
    """Linear blend of two colours: `a` at 0, `b` at 1."""
    return (a[0] + (b[0] - a[0]) * t, a[1] + (b[1] - a[1]) * t, a[2] + (b[2] - a[2]) * t)


def tint(c: Rgb, factor: tuple[float, float, float]) -> Rgb:
    """Channel-wise product, clipped to 1."""
    return (min(1.0, c[0] * factor[0]), min(1.0, c[1] * factor[1]), min(1.0, c[2] * factor[2]))


def hsv(h: float, s: float, v: float) -> Rgb:
    """Colour from hue (turns), saturation and value."""
    f = (h * 6.0) % 6.0
    k = int(f)
    p, q, t = v * (1 - s), v * (1 - s * (f - k)), v * (1 - s * (1 - (f - k)))
    return ((v, t, p), (q, v, p), (p, v, t), (p, q, v), (t, p, v), (v, p, q))[k]


def _skin(rng: np.random.Generator) -> tuple[Rgb, float]:
    """A skin colour and its darkness in 0..1."""
    depth = float(rng.uniform(0, len(SKIN_TONES) - 1.001))
    k = int(depth)
    base = mix(SKIN_TONES[k], SKIN_TONES[k + 1], depth - k)
    jitter = rng.uniform(-0.02, 0.02, 3)
    return tint(base, (1 + jitter[0], 1 + jitter[1], 1 + jitter[2])), depth / (len(SKIN_TONES) - 1)


def _hair(rng: np.random.Generator, darkness: float) -> Rgb:
    if rng.random() < 0.06:
        return FANCY_HAIR_COLOURS[int(rng.integers(len(FANCY_HAIR_COLOURS)))]
    weights = np.array([3.0, 3.0, 2.5, 2.0, 1.5, 1.5, 1.0, 0.8, 0.6])
    # Fair and red hair gets rarer with darker skin; grey and white do not.
    weights[3:7] *= max(0.04, 1.0 - 1.5 * darkness)
    pick = HAIR_COLOURS[int(rng.choice(len(HAIR_COLOURS), p=weights / weights.sum()))]
    factor = float(rng.uniform(0.85, 1.15))
    return tint(pick, (factor, factor, factor))


def _backdrop(rng: np.random.Generator) -> tuple[Rgb, Rgb, Rgb]:
    hue, value = float(rng.random()), float(rng.uniform(0.45, 0.95))
    saturation = float(rng.uniform(0.04, 0.32))
    first = hsv(hue, saturation, value)
    second = hsv(
        hue + float(rng.uniform(-0.08, 0.08)), min(1.0, saturation * 1.35), value * float(rng.uniform(0.6, 0.85))
    )
    third = hsv(float(rng.random()), float(rng.uniform(0.2, 0.55)), float(rng.uniform(0.5, 0.9)))
    return first, second, third


def _lip(rng: np.random.Generator, skin: Rgb, feminine: bool) -> Rgb:
    natural = mix(tint(skin, (0.88, 0.62, 0.62)), (0.72, 0.33, 0.35), float(rng.uniform(0.15, 0.45)))
    if feminine and rng.random() < 0.45:
        return mix(natural, hsv(float(rng.uniform(0.94, 1.01)), float(rng.uniform(0.55, 0.8)), 0.72), 0.65)
    return natural


def _choice(rng: np.random.Generator, names: tuple[str, ...], weights: tuple[float, ...]) -> str:
    p = np.asarray(weights, dtype=np.float64)
    return names[int(rng.choice(len(names), p=p / p.sum()))]


def _head_and_hair(rng: np.random.Generator, u: Uniform, feminine: bool, darkness: float) -> dict[str, Any]:
    hair_weights = (
        (0.3, 0.4, 0.5, 0.4, 2, 2, 2, 1.5, 1, 2, 1.6, 0, 2, 1.6, 0.6)
        if feminine
        else (1.2, 1.3, 2.2, 2, 0.1, 0.3, 0.3, 1.3, 0.9, 0.3, 0.4, 1, 0.7, 0.1, 2)
    )
    face_width = u(62, 71)
    return {
        "face_width": face_width,
        "blush": u(0.1, 0.45 if feminine else 0.25),
        "jaw_width": face_width * (u(0.71, 0.81) if feminine else u(0.77, 0.88)),
        "chin_width": face_width * (u(0.26, 0.38) if feminine else u(0.32, 0.50)),
        "face_height": u(80, 89),
        "cheek": u(-1.5, 3.0),
        "hair_style": _choice(rng, HAIR_STYLES, hair_weights),
        "hair": _hair(rng, darkness),
        "hair_volume": u(0.0, 1.0),
        "hair_length": u(0.0, 1.0),
        "hair_side": 1.0 if rng.random() < 0.5 else -1.0,
    }


def _eyes_and_brows(rng: np.random.Generator, u: Uniform, feminine: bool, darkness: float) -> dict[str, Any]:
    return {
        "brow_thickness": u(2.2, 4.0) if feminine else u(3.2, 6.0),
        "brow_arch": u(1.0, 5.0),
        "brow_tilt": u(-2.0, 2.0),
        "eye_spacing": u(27.5, 31.5),
        "eye_width": u(13.2, 16.2),
        "eye_height": u(6.8, 10.2),
        "eye_tilt": u(-1.6, 2.4),
        "iris": mix(
            IRIS_COLOURS[int(rng.integers(len(IRIS_COLOURS)))],
            IRIS_COLOURS[0],
            min(0.9, max(0.0, 1.6 * darkness - 0.3)),
        ),
        "lashes": u(0.5, 1.0) if feminine else u(0.0, 0.35),
    }


def _clothes_and_room(rng: np.random.Generator, u: Uniform, feminine: bool) -> dict[str, Any]:
    return {
        "clothes": _choice(rng, CLOTHES_STYLES, (2.2, 1.4, 1.8, 1.5, 1.6, 1.0)),
        "clothes_colour": hsv(float(rng.random()), u(0.08, 0.65), u(0.2, 0.9)),
        "clothes_accent": hsv(float(rng.random()), u(0.1, 0.7), u(0.3, 0.95)),
        "pattern": _choice(rng, CLOTHES_PATTERNS, (5, 1.2, 0.8, 0.8)),
        "shoulder_width": u(98, 112) if feminine else u(110, 128),
        "backdrop": _choice(rng, BACKDROPS, (1.5, 1.5, 1.2, 1.2, 1, 1, 1)),
        "backdrop_colours": _backdrop(rng),
        "light": u(-1.0, 1.0),
        "light_warmth": u(-1.0, 1.0),
        "texture_phase": u(0.0, 1.0),
    }


def sample_identity(rng: np.random.Generator) -> Identity:
    """Draws one person; the same generator state gives the same person."""

    def u(low: float, high: float) -> float:
        return float(rng.uniform(low, high))

    skin, darkness = _skin(rng)
    feminine = bool(rng.random() < 0.5)
    beard_weights = (1, 0, 0, 0, 0) if feminine else (2.6, 1.3, 0.6, 0.7, 1.4)
    # The order of the draws is part of the corpus: another order gives other people.
    return Identity(
        skin=skin,
        **_head_and_hair(rng, u, feminine, darkness),
        **_eyes_and_brows(rng, u, feminine, darkness),
        nose_width=u(9.5, 15.0),
        nose_length=u(22.0, 29.0),
        mouth_width=u(26.0, 31.0),
        mouth_height=u(46.0, 50.5),
        upper_lip=u(5.0, 9.0),
        lower_lip=u(7.2, 11.5),
        lip=_lip(rng, skin, feminine),
        lip_gloss=u(0.25, 0.8) if feminine else u(0.05, 0.3),
        beard=_choice(rng, BEARD_STYLES, beard_weights),
        beard_density=u(0.82, 1.0),
        glasses=_choice(rng, GLASSES_STYLES, (7, 1, 1, 1)),
        glasses_colour=(
            (0.10, 0.10, 0.12) if rng.random() < 0.5 else hsv(float(rng.random()), u(0.3, 0.7), u(0.25, 0.6))
        ),
        ear_size=u(0.85, 1.15),
        earrings=bool(feminine and rng.random() < 0.4),
        freckles=u(0.4, 1.0) if darkness < 0.45 and rng.random() < 0.15 else 0.0,
        wrinkles=u(0.0, 1.0) if rng.random() < 0.3 else 0.0,
        **_clothes_and_room(rng, u, feminine),
    )
