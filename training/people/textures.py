"""Textures of a person, painted once: skin with brows, stubble and lips; eyes; cloth; strands of hair.

All are uint8 [H, W, 4] of square roots of linear values: colour, and gloss (of cloth: folds).
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from scipy.ndimage import distance_transform_edt, gaussian_filter, map_coordinates

from .assets import Assets
from .kernel import COLUMNS, DEPTH, SKIN, SX, SY, fill_triangles
from .locks import beard_area, ramp, scalp
from .person import Person
from .pieces import cylinder, skin_piece

WIDTH, HEIGHT = 1024, 768
_TILE = 512


@lru_cache(maxsize=1)
def noises() -> dict[str, np.ndarray]:
    """Noise that repeats, float32 [512, 512] of mean 0 and deviation 1, at four scales in texels."""
    rng = np.random.default_rng(20)
    scales = {"blots": 22.0, "patches": 7.0, "spots": 2.4, "pores": 1.0}
    fields = {}
    for name, scale in scales.items():
        field = gaussian_filter(rng.normal(size=(_TILE, _TILE)), scale, mode="wrap")
        fields[name] = (field / field.std()).astype(np.float32)
    return fields


@lru_cache(maxsize=1)
def strands() -> np.ndarray:
    """How light each strand of a lock is along its length: float32 [512 strands, 512] in 0..1."""
    rng = np.random.default_rng(21)
    fine = gaussian_filter(rng.normal(size=(_TILE, _TILE)), (1.0, 30.0), mode="wrap")
    coarse = gaussian_filter(rng.normal(size=(_TILE, _TILE)), (4.0, 40.0), mode="wrap")
    field = fine / fine.std() + 0.6 * coarse / coarse.std()
    return np.clip(0.5 + 0.22 * field, 0, 1).astype(np.float32)


def encode(colour: np.ndarray, fourth: np.ndarray) -> np.ndarray:
    """Linear colours [H, W, 3] and a fourth channel [H, W] as a texture."""
    values = np.concatenate([colour, np.broadcast_to(fourth, colour.shape[:2])[..., None]], axis=2)
    return (255 * np.sqrt(np.clip(values, 0, 1)) + 0.5).astype(np.uint8)


class Atlas:
    """What the skin's texture lies on, the same for everybody: places on the base mesh, and the lips."""

    def __init__(self, assets: Assets) -> None:
        self._assets = assets
        canonical = assets.base.vertices
        skin, _ = skin_piece(assets, canonical)
        places = skin.vertices
        triangles, texture = assets.base.triangles["body"]
        native = np.zeros((len(canonical), 2), np.float32)
        native[triangles.ravel()] = assets.base.uv[texture.ravel()]
        # Where the surface folds over itself, the outermost layer is painted.
        radius = np.hypot(places[:, 0], places[:, 2] - 0.25) + 1.0
        values = np.concatenate([places, native[skin.anchors[:, 0]]], axis=1)
        flat = _paint(cylinder(places), radius, skin.triangles, values)
        self.places = flat[..., :3]
        lips = gaussian_filter(assets.mask("lips"), 3.0)
        at = flat[..., 3:5] * (np.array(lips.shape[::-1]) - 1)
        self.lips = map_coordinates(lips, [at[..., 1], at[..., 0]], order=1)

    @lru_cache(maxsize=16)  # noqa: B019 - the atlas lives as long as the process
    def brow(self, number: int) -> np.ndarray:
        """Where brow shape ``number`` lies, float32 [HEIGHT, WIDTH] in 0..1."""
        part = self._assets.part("eyebrows", f"eyebrow{number:03d}")
        places = part.binding.fit(self._assets.base.vertices)
        faces = np.concatenate([t for t, _ in part.mesh.triangles.values()])
        covered = _paint(cylinder(places), np.ones(len(places)), faces, np.ones((len(places), 1)), fill=False)[..., 0]
        return gaussian_filter(covered, 2.0)


def _paint(
    at: np.ndarray, depth: np.ndarray, triangles: np.ndarray, values: np.ndarray, fill: bool = True
) -> np.ndarray:
    """Interpolates ``values`` [V, C] over a texture; texels nothing covers take their nearest neighbour's."""
    # Triangles across the seam are laid at both its ends.
    u = at[triangles, 0]
    wide = np.ptp(u, axis=1) > 0.5
    u = u + (wide[:, None] & (u < 0.5))
    rows = np.zeros((3 * len(triangles), COLUMNS), np.float32)
    rows[:, SX], rows[:, SY] = u.ravel() * WIDTH, at[triangles, 1].ravel() * HEIGHT
    rows[:, DEPTH] = depth[triangles].ravel()
    again = rows[np.repeat(wide, 3)].copy()
    again[:, SX] -= WIDTH
    rows = np.concatenate([rows, again])
    source = np.concatenate([triangles.ravel(), triangles[wide].ravel()])
    faces = np.arange(len(rows), dtype=np.int32).reshape(-1, 3)
    owner = np.full((HEIGHT, WIDTH), -1, np.int32)
    buffer = np.zeros((HEIGHT, WIDTH), np.float32)
    # Both sides of a face are paper here: the mirrored copy shows the ones that are seen from behind.
    both = np.concatenate([faces, faces[:, ::-1]])
    fill_triangles(rows, both, np.full(len(both), SKIN, np.int8), strands(), np.zeros(2), buffer, owner)
    out = np.zeros((HEIGHT, WIDTH, values.shape[1]), np.float32)
    y, x = np.nonzero(owner >= 0)
    corners = both[owner[y, x]]
    a, b, c = (rows[corners[:, k], SX : SY + 1] for k in range(3))
    p = np.stack([x + 0.5, y + 0.5], axis=-1)
    area = _cross(b - a, c - a)
    wa, wb = _cross(b - p, c - p) / area, _cross(c - p, a - p) / area
    mix = np.stack([wa, wb, 1 - wa - wb], axis=-1)
    out[y, x] = (values[source[corners]] * mix[..., None]).sum(axis=1)
    if fill:
        row, column = np.asarray(distance_transform_edt(owner < 0, return_distances=False, return_indices=True))
        out = out[row, column]
    return out


def _cross(s: np.ndarray, t: np.ndarray) -> np.ndarray:
    """Signed areas [N] of the parallelograms between vectors [N, 2]."""
    return s[:, 0] * t[:, 1] - s[:, 1] * t[:, 0]


def _spread(field: np.ndarray, zoom_u: float, zoom_v: float, shift: np.ndarray) -> np.ndarray:
    """A noise field laid over the skin's texture."""
    u = (np.arange(WIDTH) * zoom_u + shift[0] * _TILE).astype(int) % _TILE
    v = (np.arange(HEIGHT) * zoom_v + shift[1] * _TILE).astype(int) % _TILE
    return field[v[:, None], u[None, :]]


def _spot(p: np.ndarray, x: float, y: float, z: float, rx: float, ry: float, rz: float = 0.6) -> np.ndarray:
    """A soft spot on both sides of the face."""
    d = ((np.abs(p[..., 0]) - x) / rx) ** 2 + ((p[..., 1] - y) / ry) ** 2 + ((p[..., 2] - z) / rz) ** 2
    return np.exp(-d)


def skin_texture(atlas: Atlas, person: Person) -> np.ndarray:
    """The skin of the head, uint8 [HEIGHT, WIDTH, 4]."""
    rng = np.random.default_rng([person.seed, 3])
    p = atlas.places
    fields = noises()
    blots, patches = (_spread(fields[k], 1.0, 1.0, rng.random(2)) for k in ("blots", "patches"))
    spots, pores = (_spread(fields[k], 1.0, 1.0, rng.random(2)) for k in ("spots", "pores"))
    colour = np.empty((HEIGHT, WIDTH, 3), np.float32)
    colour[:] = person.skin
    mottled = person.blotches * (0.10 * blots + 0.07 * patches + 0.06 * spots)
    colour *= np.exp(-mottled[..., None] * np.array([0.4, 1.0, 0.9], np.float32))
    colour *= np.exp(-0.025 * pores[..., None] * np.array([0.6, 1.0, 1.0], np.float32))
    _flush(colour, p, person, patches)
    if person.freckles > 0:
        where = ramp(spots, 1.3, 2.0) * _spot(p, 0.28, 7.05, 1.45, 0.42, 0.28) * person.freckles
        colour *= 1 - where[..., None] * np.array([0.35, 0.5, 0.6], np.float32)
    for _ in range(int(rng.poisson(1.2))):
        x, y = rng.uniform(-0.7, 0.7), rng.uniform(6.3, 7.9)
        mole = np.exp(-((p[..., 0] - x) ** 2 + (p[..., 1] - y) ** 2) / rng.uniform(0.012, 0.02) ** 2) * (
            p[..., 2] > 0.7
        )
        colour *= 1 - mole[..., None] * np.array([0.5, 0.62, 0.66], np.float32)
    _wrinkle(colour, p, person, blots)
    bare = 1 - atlas.lips
    _stubble(colour, p, person, spots, pores, bare)
    lines = 1 + 0.07 * _spread(fields["pores"], 0.7, 0.15, rng.random(2)) + 0.05 * patches
    lip = np.array(person.lip, np.float32) * lines[..., None]
    colour += (0.92 * atlas.lips)[..., None] * (lip - colour)
    _make_up(colour, p, person)
    _brows(colour, atlas, person, rng)
    _scalp_paint(colour, p, person, patches, pores)
    zone = (
        _spot(p, 0.0, 7.75, 1.4, 0.45, 0.4)
        + _spot(p, 0.0, 7.0, 1.7, 0.16, 0.35)
        + 0.5 * _spot(p, 0.4, 7.05, 1.4, 0.22, 0.22)
    )
    gloss = 0.22 + 0.30 * person.oil * np.clip(zone, 0, 1) + 0.05 * pores + 0.04 * patches + 0.30 * atlas.lips
    return encode(colour, np.clip(gloss, 0.05, 1))


def _flush(colour: np.ndarray, p: np.ndarray, person: Person, patches: np.ndarray) -> None:
    """Blood near the surface: cheeks, nose, chin, ears; shade around the eyes."""
    ears = ramp(np.abs(p[..., 0]), 0.78, 0.9) * (p[..., 1] > 6.7)
    red = _spot(p, 0.46, 6.98, 1.3, 0.28, 0.24) + 0.9 * _spot(p, 0.0, 6.93, 1.75, 0.16, 0.14) + 0.9 * ears
    red = person.blush * (red + 0.5 * _spot(p, 0.0, 6.3, 1.5, 0.2, 0.14)) * (0.85 + 0.12 * patches)
    colour *= np.exp(-red[..., None] * np.array([0.03, 0.36, 0.30], np.float32))
    rings = (0.20 + 0.5 * person.wrinkles) * _spot(p, 0.29, 7.13, 1.4, 0.17, 0.07) + 0.22 * _spot(
        p, 0.30, 7.30, 1.4, 0.19, 0.10
    )
    colour *= np.exp(-rings[..., None] * np.array([0.30, 0.42, 0.36], np.float32))


def _wrinkle(colour: np.ndarray, p: np.ndarray, person: Person, blots: np.ndarray) -> None:
    if person.wrinkles < 0.05:
        return
    x, y = np.abs(p[..., 0]), p[..., 1]
    brow = ramp(np.sin(44 * y + 1.2 * blots + 2 * x), 0.6, 1.0) * _spot(p, 0.0, 7.78, 1.3, 0.5, 0.16)
    feet = ramp(np.sin(50 * (y - 7.28) / np.maximum(x - 0.2, 0.1) * 0.32), 0.6, 1.0) * _spot(
        p, 0.58, 7.27, 1.1, 0.09, 0.12
    )
    fold = np.exp(-(((x - (0.20 + 0.45 * np.clip(6.95 - y, 0, 1))) / 0.02) ** 2)) * _spot(p, 0.30, 6.78, 1.4, 0.2, 0.16)
    lines = person.wrinkles * np.clip(0.5 * brow + 0.6 * feet + 0.7 * fold, 0, 1)
    colour *= np.exp(-0.45 * lines[..., None] * np.array([0.7, 1.0, 1.0], np.float32))


def _stubble(
    colour: np.ndarray, p: np.ndarray, person: Person, spots: np.ndarray, pores: np.ndarray, bare: np.ndarray
) -> None:
    """A shaved chin's shadow, stubble, or the ground a beard grows on."""
    if person.male < 0.5:
        return
    cover = {"none": 0.10, "stubble": 0.55}.get(person.beard, 0.10) * person.beard_density
    area = cover * beard_area(p.reshape(-1, 3), "full").reshape(p.shape[:2])
    if person.beard in ("moustache", "goatee", "full"):
        own = beard_area(p.reshape(-1, 3), person.beard).reshape(p.shape[:2])
        area = np.maximum(area, 0.75 * own)
    area = gaussian_filter(area, 3.0) * bare
    grain = np.clip(1 + 0.35 * pores + 0.2 * spots, 0.1, 1.8)
    dark = 0.6 * np.array(person.hair[0], np.float32) + 0.12 * np.array(person.skin, np.float32)
    colour += np.clip(area * grain, 0, 0.92)[..., None] * (dark - colour)


def _make_up(colour: np.ndarray, p: np.ndarray, person: Person) -> None:
    """Lid shadow, and the dark line of the lashes at the lids' edges, which everybody has some of."""
    eyes = _spot(p, 0.30, 7.345, 1.4, 0.16, 0.045)
    shade = person.makeup * 0.7 * eyes
    colour *= np.exp(-shade[..., None] * np.array([0.8, 1.0, 0.9], np.float32))


def _brows(colour: np.ndarray, atlas: Atlas, person: Person, rng: np.random.Generator) -> None:
    mask = atlas.brow(person.brow)
    # The meshes lie low, which looks grim.
    mask = np.roll(mask, -round(0.055 / 3.05 * HEIGHT), axis=0)
    side = np.sign(atlas.places[..., 0])
    field = gaussian_filter(rng.normal(size=(HEIGHT, WIDTH)), (0.8, 0.8))
    rows, columns = np.mgrid[0:HEIGHT, 0:WIDTH]
    # Hairs lean outwards: the noise is smeared along the slope by a shear.
    sheared = map_coordinates(
        gaussian_filter(rng.normal(size=(HEIGHT // 3, WIDTH)), (1.2, 0.8)), [rows / 3.0, columns + side * rows * 0.9],
        order=1, mode="wrap",
    )  # fmt: skip
    grain = 0.5 + 0.22 * sheared / sheared.std() + 0.15 * field / field.std()
    cover = np.clip(ramp(mask, 0.1, 0.8) * (0.45 + 0.75 * grain) * person.brow_density * 1.15, 0, 0.94)
    dark = 0.75 * np.array(person.hair[0], np.float32) + 0.08 * np.array(person.skin, np.float32)
    colour += cover[..., None] * (dark - colour)


def _scalp_paint(colour: np.ndarray, p: np.ndarray, person: Person, patches: np.ndarray, pores: np.ndarray) -> None:
    """Hair close to the scalp: all of a buzz cut, the ground under longer hair."""
    receding = 1.0 if person.hair_style in ("receding", "bald") else 0.0
    area = scalp(p.reshape(-1, 3), person.hairline, receding).reshape(p.shape[:2])
    area = gaussian_filter(area, 5.0) * np.clip(1 + 0.05 * patches, 0.8, 1.1)
    amount = {"bald": 0.25, "buzz": 0.82, "receding": 0.7}.get(person.hair_style, 0.95)
    grain = np.clip(1 + (0.22 * pores + 0.03 * patches) * (person.hair_style in ("buzz", "bald", "receding")), 0, 1.4)
    colour += np.clip(area * amount * grain, 0, 0.97)[..., None] * (0.8 * np.array(person.hair[0], np.float32) - colour)


def eye_texture(person: Person, size: int = 256) -> np.ndarray:
    """The eyeball from the front, uint8 [size, size, 4]."""
    rng = np.random.default_rng([person.seed, 4])
    y, x = (np.mgrid[0:size, 0:size] + 0.5) / size * 2 - 1
    r, around = np.hypot(x, y), np.arctan2(y, x)
    iris_radius = 0.375
    white = np.array([0.46, 0.415, 0.39]) * rng.uniform(0.88, 1.05)
    veins = gaussian_filter(rng.normal(size=(size, size)), 2.0)
    red = 0.35 * ramp(r, 0.45, 1.0) + 0.12 * ramp(veins / veins.std(), 0.6, 2.0) * ramp(r, 0.4, 0.8)
    colour = white * np.exp(-red[..., None] * np.array([0.15, 1.0, 0.9]))
    fibre = gaussian_filter(rng.normal(size=(720,)), 1.6, mode="wrap")
    lit = 1 + 0.28 * (fibre / fibre.std())[((around + np.pi) / (2 * np.pi) * 719).astype(int)]
    iris = np.array(person.iris) * lit[..., None] * (0.75 + 0.9 * ramp(r, iris_radius, person.pupil)[..., None])
    iris *= (1 - 0.75 * ramp(r, iris_radius - 0.09, iris_radius))[..., None]
    iris = iris * ramp(r, person.pupil - 0.015, person.pupil + 0.015)[..., None] + 0.002
    edge = ramp(r, iris_radius + 0.03, iris_radius - 0.03)[..., None]
    return encode(colour + edge * (iris - colour), np.ones((size, size)))


def cloth_texture(person: Person, size: int = 512) -> np.ndarray:
    """A garment seen from the front, one tile 8.3 dm wide: uint8 [size, size, 4], the fourth channel its folds."""
    rng = np.random.default_rng([person.seed, 5])
    y, x = (np.mgrid[0:size, 0:size] + 0.5) / size
    weave, folds = rng.normal(size=(size, size)), gaussian_filter(rng.normal(size=(size, size)), (26, 9), mode="wrap")
    main, accent = np.array(person.cloth), np.array(person.cloth_accent)
    colour = np.tile(main, (size, size, 1))
    if person.pattern == "stripes":
        colour[np.sin(2 * np.pi * y * rng.integers(20, 44)) > rng.uniform(-0.2, 0.7)] = accent
    elif person.pattern == "check":
        n = int(rng.integers(14, 30))
        share = (np.sin(2 * np.pi * y * n) > 0.2) * 0.5 + (np.sin(2 * np.pi * x * n) > 0.2) * 0.5
        colour += share[..., None] * (accent - colour)
    elif person.pattern == "melange":
        blend = gaussian_filter(rng.normal(size=(size, size)), 1.2, mode="wrap")
        colour += np.clip(0.3 + 0.25 * blend / blend.std(), 0, 1)[..., None] * (accent - colour)
    elif person.pattern == "jacket":
        # A shirt shows in the opening; v runs upwards from the middle of the body.
        height = (y - 0.5) / 0.12
        edge = np.abs((x - 0.5) / 0.12) - 0.40 * (height - 3.9)
        colour[edge < 0] = accent
        colour *= (1 - 0.5 * np.exp(-((edge / 0.05) ** 2)))[..., None]
        colour *= (1 - 0.35 * np.exp(-(((edge - 0.33) / 0.03) ** 2)))[..., None]
    colour *= (1 + 0.05 * weave)[..., None]
    return encode(colour, 0.36 + 0.06 * folds / folds.std())
