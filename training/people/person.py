"""Who is shown: everything about a person, and their place, that does not move."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

Rgb = tuple[float, float, float]

RACES = ("african", "asian", "caucasian")
HAIR_STYLES = (
    "bald", "buzz", "receding", "crop", "side_part", "swept_back", "fringe", "curly", "afro", "bob", "long",
    "long_wavy", "tied",
)  # fmt: skip
BEARD_STYLES = ("none", "stubble", "moustache", "goatee", "full")
GLASSES_STYLES = ("none", "round", "square", "thin")
PATTERNS = ("plain", "stripes", "check", "melange", "jacket")
# Opposite ends of a shape target, and how they are named.
_OPPOSITES = (
    ("decr", "incr"), ("down", "up"), ("in", "out"), ("backward", "forward"), ("concave", "convex"),
    ("compress", "uncompress"),
)  # fmt: skip
# Standard deviation of a region's shape targets; brows and lids look grim when they move further.
_SPREAD = {
    "head": 0.16, "forehead": 0.25, "eyebrows": 0.10, "eyes": 0.20, "nose": 0.27, "mouth": 0.22, "ears": 0.25,
    "chin": 0.22, "cheek": 0.22, "neck": 0.18,
}  # fmt: skip
_HEAD_SHAPES = ("oval", "round", "square", "triangular", "rectangular", "diamond", "invertedtriangular")
# Some targets move the whole head off its axis, or make it look injured.
_LEFT_OUT = ("-trans-in", "-trans-out", "head-trans", "neck-trans", "head-angle", "head-age", "eye-trans-down")
_HAIR_COLOURS: tuple[Rgb, ...] = (
    (0.010, 0.008, 0.007), (0.024, 0.015, 0.010), (0.055, 0.030, 0.016), (0.12, 0.065, 0.03), (0.28, 0.17, 0.08),
    (0.42, 0.29, 0.15), (0.16, 0.048, 0.018),
)  # fmt: skip
_GREY: Rgb = (0.36, 0.355, 0.35)
_IRISES: tuple[Rgb, ...] = (
    (0.045, 0.02, 0.009), (0.09, 0.042, 0.016), (0.15, 0.09, 0.032), (0.10, 0.15, 0.085), (0.10, 0.17, 0.26),
    (0.17, 0.21, 0.24),
)  # fmt: skip
# Reflectances of skin in linear light, from the lightest to the darkest.
_SKIN_TONES = np.array(
    [
        (0.70, 0.47, 0.37), (0.62, 0.38, 0.27), (0.50, 0.285, 0.185), (0.36, 0.19, 0.115), (0.22, 0.108, 0.063),
        (0.125, 0.060, 0.037), (0.075, 0.036, 0.025),
    ]
)  # fmt: skip


@dataclass(frozen=True)
class Person:
    """One person. Colours are reflectances in linear light; ``shape`` are MakeHuman's targets with their weights."""

    seed: int
    male: float
    age: float
    races: tuple[float, float, float]
    shape: tuple[tuple[str, float], ...]
    darkness: float
    skin: Rgb
    lip: Rgb
    blush: float
    blotches: float
    freckles: float
    wrinkles: float
    makeup: float
    oil: float
    hair_style: str
    hair: tuple[Rgb, Rgb]
    hair_length: float
    hair_volume: float
    hair_side: float
    hairline: float
    brow: int
    brow_density: float
    lashes: int
    beard: str
    beard_density: float
    iris: Rgb
    pupil: float
    teeth: int
    teeth_shade: float
    glasses: str
    glasses_colour: Rgb
    cloth: Rgb
    cloth_accent: Rgb
    pattern: str
    neckline: float
    collar: float


def _shape(rng: np.random.Generator, names: Sequence[str], male: float, age: float) -> dict[str, float]:
    known = set(names)
    weights: dict[str, float] = {}
    for name in names:
        region = name.split("/")[0]
        side = name.split("/")[1][:2]
        if region not in _SPREAD or side == "r-" or any(part in name for part in _LEFT_OUT):
            continue
        for low, high in _OPPOSITES:
            if not name.endswith(f"-{low}") or (other := name[: -len(low)] + high) not in known:
                continue
            # Beyond 1.8 deviations faces stop being ordinary.
            value = float(np.clip(rng.normal(), -1.8, 1.8)) * _SPREAD[region]
            weights[name if value < 0 else other] = abs(value)
            if side == "l-":
                twin = value + float(rng.normal(0, 0.02))
                weights[(name if twin < 0 else other).replace("/l-", "/r-")] = abs(twin)
    for shape in rng.permutation(_HEAD_SHAPES)[:2]:
        weights[f"head/head-{shape}"] = float(rng.uniform(0, 0.45))
    weights["head/head-age-incr"] = 0.4 * max(0.0, age - 0.3)
    for name in names:
        if name.startswith("asym/asym-") and name.endswith("-l") and rng.random() < 0.5:
            value = float(np.clip(rng.normal(0, 0.12), -0.25, 0.25))
            weights[name if value > 0 else name[:-1] + "r"] = abs(value)
    return weights


def macro_weights(male: float, age: float, races: Sequence[float], muscle: float, weight: float) -> dict[str, float]:
    """MakeHuman's macro targets: corners of the space of sex, age (0 young, 1 old), race, muscle and weight."""
    sexes = (("male", male), ("female", 1 - male))
    ages = (("young", 1 - age), ("old", age))
    muscles = _thirds("muscle", muscle)
    bodies = _thirds("weight", weight)
    weights = {
        f"macrodetails/{race}-{sex}-{years}": share * s * a
        for race, share in zip(RACES, races, strict=True)
        for sex, s in sexes
        for years, a in ages
    }
    weights |= {
        f"macrodetails/universal-{sex}-{years}-{m}-{w}": s * a * x * y
        for sex, s in sexes
        for years, a in ages
        for m, x in muscles
        for w, y in bodies
    }
    return weights


def _thirds(name: str, x: float) -> tuple[tuple[str, float], ...]:
    return (
        (f"min{name}", max(0.0, 1 - 2 * x)),
        (f"average{name}", 1 - abs(2 * x - 1)),
        (f"max{name}", max(0.0, 2 * x - 1)),
    )


def _pick(rng: np.random.Generator, names: Sequence[str], weights: Sequence[float]) -> str:
    p = np.asarray(weights, np.float64)
    return names[int(rng.choice(len(names), p=p / p.sum()))]


def _rgb(values: np.ndarray) -> Rgb:
    r, g, b = (float(v) for v in values)
    return r, g, b


def _skin_tone(rng: np.random.Generator, races: Sequence[float]) -> tuple[Rgb, float]:
    """A reflectance and its darkness 0..1. Races only lean it: tone and shape vary apart."""
    leaning = float(np.dot(races, (0.72, 0.36, 0.22)))
    darkness = float(np.clip(0.45 * leaning + 0.55 * rng.random() + rng.normal(0, 0.08), 0, 1))
    place = darkness * (len(_SKIN_TONES) - 1)
    steps = np.arange(len(_SKIN_TONES))
    tone = np.exp([np.interp(place, steps, np.log(_SKIN_TONES[:, k])) for k in range(3)])
    return _rgb(tone * np.exp(rng.normal(0, (0.03, 0.04, 0.06)))), darkness


def _hair_colours(rng: np.random.Generator, darkness: float, age: float) -> tuple[Rgb, Rgb]:
    fair = max(0.02, 1 - 2.2 * darkness)
    p = np.array([2.2, 2.2, 1.8, 1.6 * fair, 1.4 * fair, 1.0 * fair, 0.7 * fair])
    colour = np.array(_HAIR_COLOURS[int(rng.choice(len(p), p=p / p.sum()))]) * np.exp(rng.normal(0, 0.15))
    grey = float(np.clip((age - 0.45) * 2.2 + rng.normal(0, 0.35), 0, 1))
    colour = colour + grey * (np.array(_GREY) - colour)
    return _rgb(colour * 0.8), _rgb(np.minimum(colour * rng.uniform(1.3, 2.0), 0.62))


def _cloth(rng: np.random.Generator) -> Rgb:
    kind = rng.random()
    if kind < 0.3:
        return _rgb(np.full(3, rng.uniform(0.012, 0.06)) * np.exp(rng.normal(0, 0.1, 3)))
    if kind < 0.5:
        return _rgb(np.full(3, rng.uniform(0.4, 0.72)) * np.exp(rng.normal(0, 0.03, 3)))
    if kind < 0.8:
        return _rgb(np.clip(rng.uniform(0.05, 0.4) * np.exp(rng.normal(0, 0.28, 3)), 0.01, 0.7))
    return _rgb(rng.uniform(0.02, 0.5, 3))


def sample_person(rng: np.random.Generator, target_names: Sequence[str]) -> Person:
    """Draws one person of ``target_names``' shape space; the same generator state gives the same person."""

    def u(low: float, high: float) -> float:
        return float(rng.uniform(low, high))

    races = tuple(float(x) for x in rng.dirichlet([0.5] * 3))
    male = float(rng.beta(1, 7) if rng.random() < 0.5 else rng.beta(7, 1))
    age = float(np.clip(rng.beta(1.0, 2.4), 0, 0.75))
    man = male > 0.5
    muscle, weight = u(0.3, 0.75), float(np.clip(rng.normal(0.5, 0.16), 0.15, 0.9))
    shape = macro_weights(male, age, races, muscle, weight) | _shape(rng, target_names, male, age)
    skin, darkness = _skin_tone(rng, races)
    lip = np.array(skin) * np.array((0.78, 0.50, 0.52) if darkness < 0.6 else (0.85, 0.68, 0.70))
    if not man and rng.random() < 0.4:
        paint = np.array([(0.38, 0.05, 0.07), (0.42, 0.12, 0.14), (0.26, 0.04, 0.08), (0.45, 0.18, 0.16)])
        lip += u(0.25, 0.6) * (paint[int(rng.integers(4))] - lip)
    #          bald buzz recd crop side back frng curl afro bob long wavy tied
    men, women = (1.2, 1.6, 1.3, 3, 2.6, 1.6, 0.8, 1.4, 0.7, 0, 0.25, 0.1, 0.2), (
        0.05, 0.15, 0, 0.7, 0.5, 0.6, 0.3, 1.1, 0.8, 2.4, 2.6, 2.0, 2.0)  # fmt: skip
    style = np.array(men if man else women)
    style[HAIR_STYLES.index("afro")] *= 0.3 + 2.0 * darkness
    if man:
        style[:3] *= 0.5 + 2.2 * age
    hair = _hair_colours(rng, darkness, age)
    pale = max(0.01, 1 - 2.4 * darkness)
    irises = np.array([2.6, 1.8, 1.0, 0.8 * pale, 1.6 * pale, 0.9 * pale])
    beards = (2.4, 1.5, 0.5, 0.6, 1.2) if man else (1, 0, 0, 0, 0)
    return Person(
        seed=int(rng.integers(1 << 31)),
        male=male,
        age=age,
        races=(races[0], races[1], races[2]),
        shape=tuple(sorted((name, value) for name, value in shape.items() if abs(value) > 1e-4)),
        darkness=darkness,
        skin=skin,
        lip=_rgb(lip),
        blush=u(0.1, 0.6),
        blotches=u(0.15, 0.5),
        freckles=u(0.3, 1.0) if darkness < 0.4 and rng.random() < 0.18 else 0.0,
        wrinkles=float(np.clip(1.5 * age - 0.3, 0, 1)),
        makeup=u(0.3, 1.0) if not man and rng.random() < 0.5 else 0.0,
        oil=u(0.35, 1.0),
        hair_style=_pick(rng, HAIR_STYLES, tuple(style)),
        hair=hair,
        hair_length=u(0, 1),
        hair_volume=u(0, 1),
        hair_side=1.0 if rng.random() < 0.5 else -1.0,
        hairline=u(-0.5, 1.0),
        brow=int(rng.integers(1, 13)),
        brow_density=u(0.55, 1.0) if man else u(0.4, 0.85),
        lashes=int(rng.integers(1, 5)),
        beard=_pick(rng, BEARD_STYLES, beards),
        beard_density=u(0.5, 1.0),
        iris=_IRISES[int(rng.choice(6, p=irises / irises.sum()))],
        pupil=u(0.11, 0.19),
        teeth=int(rng.integers(5)),
        teeth_shade=u(0.75, 1.0),
        glasses=_pick(rng, GLASSES_STYLES, (7.5, 0.8, 1, 0.8)),
        glasses_colour=(0.02, 0.02, 0.022) if rng.random() < 0.6 else _rgb(rng.uniform(0.03, 0.3, 3)),
        cloth=_cloth(rng),
        cloth_accent=_cloth(rng),
        pattern=_pick(rng, PATTERNS, (4, 0.8, 0.8, 1.5, 2.0)),
        neckline=u(0.0, 1.0),
        collar=float(rng.random() < 0.3),
    )
