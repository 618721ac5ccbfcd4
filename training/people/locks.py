"""Hair and beards as some thousand locks: flat ribbons that grow from the skin and are combed by a field."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.spatial import KDTree

from .person import Person

_HEAD = np.array([0.0, 7.35, 0.25])
_DOWN = np.array([0.0, -1.0, 0.0])


@dataclass(frozen=True)
class Locks:
    """N locks of K points: ``points`` and outward ``normals`` [N, K, 3], ``widths`` [N, K], ``roots`` [N, 3]."""

    points: np.ndarray
    normals: np.ndarray
    widths: np.ndarray
    roots: np.ndarray


@dataclass(frozen=True)
class HeadFrame:
    """How a person's head lies over that of the base mesh: ``scale`` and ``offset`` [3] of each axis."""

    scale: np.ndarray
    offset: np.ndarray

    @classmethod
    def between(cls, vertices: np.ndarray, canonical: np.ndarray) -> HeadFrame:
        """From the same vertices [V, 3] of a person and of the base mesh."""
        head = canonical[:, 1] > 6.2
        low, high = vertices[head].min(axis=0), vertices[head].max(axis=0)
        base_low, base_high = canonical[head].min(axis=0), canonical[head].max(axis=0)
        scale = (high - low) / (base_high - base_low)
        return cls(scale, low - scale * base_low)

    def to_base(self, places: np.ndarray) -> np.ndarray:
        return (places - self.offset) / self.scale

    def carried_back(self, locks: Locks) -> Locks:
        """Locks that grew on the base mesh's head, on the person's."""
        points, roots = (places * self.scale + self.offset for places in (locks.points, locks.roots))
        return Locks(points, locks.normals, locks.widths * float(self.scale.mean()), roots)


@dataclass(frozen=True)
class Style:
    """How hair grows: ``length`` in decimetres, ``lift`` off the skin, ``gravity``, ``comb`` and ``curl`` strengths.

    ``end`` is the height at which long hair ends, None for hair of a given length; ``layer`` its thickness.
    """

    count: int
    length: float
    lift: float
    gravity: float
    comb: float
    curl: float = 0.0
    end: float | None = None
    layer: float = 0.08
    width: float = 0.05
    points: int = 7


def ramp(x: np.ndarray, low: float, high: float) -> np.ndarray:
    """Smoothstep from 0 at ``low`` to 1 at ``high`` (which may be the smaller)."""
    t = np.clip((x - low) / (high - low), 0.0, 1.0)
    return t * t * (3 - 2 * t)


def scalp(places: np.ndarray, hairline: float = 0.0, receding: float = 0.0) -> np.ndarray:
    """Where hair grows on the base mesh, 0..1 for places [V, 3]: from the nape over the ears to the forehead."""
    x, y, z = np.abs(places[:, 0]), places[:, 1], places[:, 2]
    front = ramp(z, 0.35, 1.10)
    line = 6.72 + 0.36 * np.clip((z + 0.6) / 0.95, 0, 1) + 0.80 * front - 0.30 * np.clip(x - 0.45, 0, 1) * front
    # Sideburns run down in front of the ears; temples recede first.
    line -= 0.28 * np.exp(-(((z - 0.62) / 0.13) ** 2)) * (x > 0.6)
    line += 0.05 * hairline * front - 0.16 * x**2 * front
    line += receding * (0.50 * front * np.exp(-(((x - 0.42) / 0.25) ** 2)) + 0.45 * front)
    bald_crown = receding * np.exp(-((np.hypot(x, z - 0.1) / 0.42) ** 2)) * (y > 7.8)
    ears = 1 - ramp(x, 0.76, 0.84) * (y < 7.45)
    return np.clip((y - line) / 0.10, 0, 1) * ears * (1 - np.clip(1.4 * bald_crown, 0, 1))


def beard_area(places: np.ndarray, style: str) -> np.ndarray:
    """Where a beard of that style grows on the base mesh, 0..1 for places [V, 3]."""
    x, y, z = np.abs(places[:, 0]), places[:, 1], places[:, 2]
    jaw = ramp(y + 0.10 * x, 6.80, 6.60) * ramp(y + 0.25 * (z - 1.0), 5.98, 6.16) * ramp(z, 0.35, 0.75)
    sides = 0.9 * ramp(z, 0.95, 0.75) * ramp(z, 0.38, 0.55) * ramp(y, 7.15, 6.85) * ramp(y, 6.2, 6.45)
    moustache = ramp(x, 0.30, 0.22) * ramp(y, 6.69, 6.73) * ramp(y, 6.89, 6.83) * (z > 1.2)
    # The lips stay bare, and most of the dent under them.
    mouth = np.exp(-((x / 0.34) ** 4) - ((y - 6.60) / 0.115) ** 4)
    bare = np.maximum(mouth, 0.6 * np.exp(-((x / 0.13) ** 2) - ((y - 6.45) / 0.05) ** 2)) * (z > 1.2)
    chin = ramp(x, 0.30, 0.18) * jaw
    if style == "moustache":
        return moustache
    if style == "goatee":
        return np.maximum(chin * (1 - bare), moustache)
    return np.maximum(np.maximum(jaw * (1 - bare), sides), moustache)


def _style(person: Person) -> Style | None:
    n, v = person.hair_length, person.hair_volume
    styles = {
        "receding": Style(2600, 0.14 + 0.14 * n, 0.35, 0.25, 0.9, layer=0.04, width=0.035, points=5),
        "crop": Style(4200, 0.16 + 0.16 * n, 0.45 + 0.5 * v, 0.15, 0.9, layer=0.05 + 0.05 * v, width=0.035, points=5),
        "side_part": Style(4200, 0.5 + 0.3 * n, 0.5 + 0.5 * v, 0.3, 1.0, layer=0.10 + 0.1 * v, width=0.045),
        "swept_back": Style(4200, 0.5 + 0.35 * n, 0.5 + 0.7 * v, 0.22, 1.1, layer=0.10 + 0.12 * v, width=0.045),
        "fringe": Style(4200, 0.45 + 0.25 * n, 0.4 + 0.3 * v, 0.4, 1.0, layer=0.10 + 0.06 * v, width=0.045),
        "curly": Style(3600, 0.35 + 0.35 * n, 0.8, 0.25, 0.35, curl=1.0, layer=0.14 + 0.14 * v, width=0.05, points=9),
        "afro": Style(4600, 0.25 + 0.45 * n, 1.6, 0.0, 0.0, curl=1.3, layer=0.12, width=0.05, points=8),
        "bob": Style(3600, 1.0, 0.2, 0.9, 0.8, end=6.45 - 0.4 * n, layer=0.08 + 0.10 * v, points=10),
        "long": Style(3600, 1.0, 0.2, 1.0, 0.8, end=5.6 - 1.0 * n, layer=0.08 + 0.10 * v, points=13),
        "long_wavy": Style(3600, 1.0, 0.3, 0.9, 0.8, 0.35, 5.7 - 0.9 * n, 0.12 + 0.12 * v, points=14),
        "tied": Style(3600, 1.15, 0.15, 0.1, 1.3, layer=0.05 + 0.04 * v, width=0.045, points=9),
    }
    return styles.get(person.hair_style)


def _comb(person: Person) -> Callable[[np.ndarray], np.ndarray]:
    """The direction [N, 3] hair is combed in at roots or points [N, 3]."""
    part = person.hair_side * (0.0 if person.hair_length < 0.35 else 0.32)

    def from_part(p: np.ndarray) -> np.ndarray:
        side = np.tanh((p[:, 0] - part) / 0.05)
        ahead = np.where(p[:, 2] > 0.55, 0.15, -0.35)
        return np.stack([side, np.full(len(p), -0.15), ahead], axis=-1)

    def from_whorl(p: np.ndarray) -> np.ndarray:
        away = p - np.array([0.1 * person.hair_side, 8.2, -0.55])
        away[:, 1] *= 0.6
        away[:, 0] += 0.3 * person.hair_side * (p[:, 2] > 0.5)
        return away

    def back(p: np.ndarray) -> np.ndarray:
        return np.stack([0.35 * np.sign(p[:, 0]) * np.abs(p[:, 0]), np.full(len(p), 0.12), np.full(len(p), -1.0)], -1)

    def forward(p: np.ndarray) -> np.ndarray:
        front = ramp(p[:, 2], 0.0, 0.6) * ramp(p[:, 1], 7.5, 7.9)
        sideways = np.stack([np.sign(p[:, 0]), np.full(len(p), -1.0), np.full(len(p), -0.1)], -1)
        ahead = np.stack([0.25 * person.hair_side + 0.2 * p[:, 0], np.full(len(p), -0.25), np.ones(len(p))], -1)
        return front[:, None] * ahead + (1 - front[:, None]) * sideways

    def to_knot(p: np.ndarray) -> np.ndarray:
        return np.array([0.0, 7.45, -1.05]) - p

    return {
        "side_part": from_part, "bob": from_part, "long": from_part, "long_wavy": from_part, "swept_back": back,
        "fringe": forward, "tied": to_knot,
    }.get(person.hair_style, from_whorl)  # fmt: skip


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-9)


def _roots(
    rng: np.random.Generator, count: int, vertices: np.ndarray, triangles: np.ndarray, density: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Random places [count, 3] on a mesh as ``density`` [V] says, and the vertex nearest to each."""
    corners = vertices[triangles]
    area = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1)
    weight = area * density[triangles].min(axis=1)
    chosen = rng.choice(len(triangles), size=count, p=weight / weight.sum())
    mix = rng.dirichlet([1.0, 1.0, 1.0], count)
    nearest = triangles[chosen][np.arange(count), mix.argmax(axis=1)]
    return (corners[chosen] * mix[..., None]).sum(axis=1), nearest


def grow_hair(
    person: Person, vertices: np.ndarray, normals: np.ndarray, canonical: np.ndarray, triangles: np.ndarray
) -> Locks | None:
    """Hair on a person's skin; ``canonical`` [V, 3] are the places of ``vertices`` on the base mesh."""
    style = _style(person)
    if style is None:
        return None
    rng = np.random.default_rng([person.seed, 1])
    receding = 1.0 if person.hair_style == "receding" else 0.0
    density = scalp(canonical, person.hairline, receding) ** 2
    roots, nearest = _roots(rng, style.count, vertices, triangles, density)
    # Locks near each other lean alike: what is random is drawn for tufts, and a little for each lock.
    tufts = KDTree(roots[: max(40, style.count // 14)])
    tuft = tufts.query(roots)[1]
    tuft_noise, own_noise = rng.normal(size=(len(roots), 3)), rng.normal(size=(len(roots), 3))
    lean = 0.8 * tuft_noise[tuft] + 0.5 * own_noise
    comb = _comb(person)
    body = KDTree(vertices)
    cheek = vertices[(np.abs(canonical[:, 1] - 7.1) < 0.15) & (canonical[:, 2] > 0.55)]
    edge = 0.93 * float(np.percentile(np.abs(cheek[:, 0]), 98))

    if style.end is None:
        length = style.length * rng.uniform(0.75, 1.1, len(roots))
        if person.hair_style in ("crop", "receding", "side_part", "swept_back"):
            # Shorter at the sides and the nape.
            length *= 0.35 + 0.65 * ramp(canonical[nearest][:, 1], 7.25, 7.95)
    else:
        length = np.maximum(roots[:, 1] - style.end, 0.5) * 1.08 + 0.25 + 0.12 * rng.normal(size=len(roots))
    layer = style.layer * rng.random(len(roots)) ** 0.7
    step = length / (style.points - 1)
    # Near a parting some locks fall to the other side.
    strayed = roots + np.array([0.10, 0.04, 0.04]) * own_noise
    way = style.lift * normals[nearest] + style.comb * _unit(comb(strayed)) + 0.2 * lean
    place, direction = roots.copy(), _unit(way)
    points, outward = [place - 0.02 * normals[nearest]], [normals[nearest]]
    phase = 2 * np.pi * rng.random(len(roots))[tuft] + 0.5 * own_noise[:, 0]
    for k in range(1, style.points):
        hang = style.gravity * (0.25 + 1.75 * k / style.points)
        curl = _curl(phase, k, style) * style.curl
        pull = 0.9 * direction + 0.5 * style.comb * _unit(comb(place)) / k + hang * _DOWN + 0.12 * lean + curl
        direction = _unit(pull)
        place = place + direction * step[:, None]
        floor = 0.02 + layer * min(1.0, k / 2)
        place = _outside(place, body, vertices, normals, floor, floor + 0.03 if style.curl < 0.9 else None)
        if person.hair_style != "fringe":
            place = _off_the_face(place, edge)
        points.append(place)
        outward.append(normals[body.query(place)[1]])
    path = np.stack(points, axis=1)
    outwards = np.stack(outward, axis=1)
    along = np.linspace(0, 1, style.points)
    guide = path[: len(tufts.data)][tuft]
    near = np.linalg.norm(guide[:, 0] - path[:, 0], axis=1) < 0.22
    path += (0.45 * (1 - style.curl * 0.5) * along**1.3)[None, :, None] * (guide - path) * near[:, None, None]
    normals_along = _unit(0.6 * outwards + 0.7 * _unit(path - _HEAD))
    widths = (
        style.width
        * (0.6 + 1.6 * along * (1 - along))
        * (1 - 0.6 * along**2)
        * rng.uniform(0.7, 1.3, len(roots))[:, None]
    )
    kept = ~_over_the_face(path, edge) if person.hair_style != "fringe" else np.ones(len(path), bool)
    return Locks(path[kept], normals_along[kept], widths[kept], roots[kept])


def _over_the_face(path: np.ndarray, edge: float) -> np.ndarray:
    """Which locks [N] hang over the face."""
    x, y, z = np.moveaxis(path, -1, 0)
    return ((z > 0.8) & (y > 6.2) & (np.abs(x) < 0.95 * _arch(y, edge) - 0.03)).any(axis=1)


def _curl(phase: np.ndarray, k: int, style: Style) -> np.ndarray:
    turn = phase + k * (2.4 if style.end is None else 1.3)
    return np.stack([np.cos(turn), 0.4 * np.sin(2 * turn), np.sin(turn)], axis=-1)


def _outside(
    place: np.ndarray,
    body: KDTree,
    vertices: np.ndarray,
    normals: np.ndarray,
    low: np.ndarray,
    high: np.ndarray | None,
) -> np.ndarray:
    """Keeps points at least ``low`` off the skin and, where hair lies on the skull, at most ``high``."""
    near = body.query(place)[1]
    height = ((place - vertices[near]) * normals[near]).sum(axis=1)
    move = np.maximum(low - height, 0.0)
    if high is not None:
        move -= 0.8 * np.maximum(height - high, 0.0) * ramp(place[:, 1], 6.9, 7.2)
    return place + move[:, None] * normals[near]


def _arch(y: np.ndarray, edge: float) -> np.ndarray:
    """Half the width of what the curtain leaves open at heights ``y``: nothing at the hairline, all at the brows."""
    return edge * np.sqrt(ramp(y, 8.05, 7.45))


def _off_the_face(place: np.ndarray, edge: float) -> np.ndarray:
    """Draws the curtain: in front of the cheeks hair hangs beside the face, not over it."""
    x, y, z = place.T
    push = np.maximum(_arch(y, edge) - np.abs(x), 0.0) * ramp(z, 0.5, 0.8)
    moved = place.copy()
    moved[:, 0] += np.where(x >= 0, push, -push)
    return moved


def grow_beard(person: Person, vertices: np.ndarray, normals: np.ndarray, canonical: np.ndarray) -> Locks | None:
    """A beard's locks; stubble is painted on the skin instead."""
    if person.beard not in ("moustache", "goatee", "full"):
        return None
    rng = np.random.default_rng([person.seed, 2])
    density = beard_area(canonical, person.beard) * (canonical[:, 2] > 0.3)
    count = int({"moustache": 500, "goatee": 900, "full": 2400}[person.beard])
    chosen = rng.choice(len(vertices), size=count, p=density / density.sum())
    tangent = _unit(np.cross(normals[chosen], rng.normal(size=(count, 3))))
    roots = vertices[chosen] + 0.035 * rng.uniform(-1, 1, count)[:, None] * tangent
    length = (0.05 + 0.13 * person.hair_length) * rng.uniform(0.7, 1.2, count) * np.sqrt(density[chosen])
    # A moustache is trimmed above the lip and combed sideways.
    above = (canonical[chosen, 1] > 6.70) & (np.abs(canonical[chosen, 0]) < 0.34)
    length = np.where(above, np.minimum(0.45 * length, 0.055), length)
    outwards = np.stack(
        [(0.5 + 2.0 * above) * np.sign(canonical[chosen, 0]) * np.abs(canonical[chosen, 0]), *np.zeros((2, count))], -1
    )
    points, direction = [roots - 0.01 * normals[chosen]], 0.7 * normals[chosen]
    for k in range(1, 4):
        direction = _unit(direction + 0.55 * _DOWN + outwards + 0.25 * rng.normal(size=(count, 3)))
        points.append(points[-1] + direction * (length / 3)[:, None])
        if k == 1:
            direction = 0.6 * direction
    path = np.stack(points, axis=1)
    widths = 0.03 * np.array([0.9, 1.0, 0.8, 0.4]) * rng.uniform(0.7, 1.2, (count, 1))
    return Locks(path, np.repeat(normals[chosen][:, None], 4, axis=1), widths, vertices[chosen])
