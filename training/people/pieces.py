"""The parts of a person's geometry before they are joined."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.sparse import coo_array, csr_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import KDTree

from .assets import Assets, Part
from .kernel import CLOTH, EYE, HAIR, LASH, PLAIN, SKIN
from .locks import Locks
from .person import Person

SHOULDERS = 3.4
# The base mesh's spheres for the eyes: bone, first vertex, end.
EYES = (("eye.L", 14598, 14670), ("eye.R", 14670, 14742))
_TEETH = ("teeth_base", "teeth_shape01", "teeth_shape02", "teeth_shape03", "teeth_shape04")
_INNER_MOUTH, _GUMS, _TONGUE = (0.34, 0.095, 0.085), (0.45, 0.17, 0.155), (0.40, 0.14, 0.13)
_TOOTH = np.array((0.60, 0.555, 0.46))


@dataclass(frozen=True)
class Piece:
    """One part: rest places, triangles, and how it hangs on the base mesh.

    ``anchors`` [V, 3] are base vertices with ``shares`` [V, 3], from which bone weights and morphs are taken; ``bone``
    names the one bone that moves a rigid part instead. ``attributes`` [V, 3] are the last columns of the renderer's
    rows. Locks bring ``normals`` and ``tangents`` of their own, [V, 3].
    """

    name: str
    material: int
    vertices: np.ndarray
    triangles: np.ndarray
    attributes: np.ndarray
    anchors: np.ndarray
    shares: np.ndarray
    bone: str | None = None
    normals: np.ndarray | None = None
    tangents: np.ndarray | None = None


def compact(triangles: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The vertices that are used, and the triangles in their numbering."""
    used, inverse = np.unique(triangles, return_inverse=True)
    return used, inverse.reshape(triangles.shape).astype(np.int32)


def incidence(triangles: np.ndarray, count: int) -> csr_array:
    """Sums over the triangles around each vertex: a sparse [V, N] of ones."""
    faces = np.tile(np.arange(len(triangles)), 3)
    ones = np.ones(3 * len(triangles), np.float32)
    return coo_array((ones, (triangles.T.ravel(), faces)), shape=(count, len(triangles))).tocsr()


def vertex_normals(vertices: np.ndarray, triangles: np.ndarray, around: csr_array) -> np.ndarray:
    """Unit normals [V, 3]: the mean of the triangles around a vertex, by area."""
    corners = vertices[triangles]
    normals = around @ np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    return normals / np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-9)


def cylinder(places: np.ndarray) -> np.ndarray:
    """Skin texture coordinates [V, 3] (u, v in 0..1, and 0) of places on the base mesh: around the head, down it."""
    around = np.arctan2(places[:, 0], places[:, 2] - 0.25) / (2 * np.pi)
    return np.stack([0.5 + around, (8.55 - places[:, 1]) / 3.05, np.zeros(len(places))], axis=-1)


def skin_piece(assets: Assets, base: np.ndarray) -> tuple[Piece, Piece]:
    """The skin, and the inside of the mouth that the same mesh goes on into."""
    canonical = assets.base.vertices
    triangles, textures = assets.base.triangles["body"]
    mask = assets.mask("inside-mouth")
    at = assets.base.uv[textures].mean(axis=1)
    inside = mask[(at[:, 1] * (len(mask) - 1)).astype(int), (at[:, 0] * (len(mask) - 1)).astype(int)] > 0.5
    high = (canonical[triangles, 1] > SHOULDERS).all(axis=1)
    used, faces = compact(triangles[high & ~inside])
    skin = Piece("skin", SKIN, base[used], faces, cylinder(canonical[used]), *_hung(used))
    used, faces = compact(triangles[high & inside])
    colours = np.tile(np.array(_INNER_MOUTH), (len(used), 1))
    return skin, Piece("inner", PLAIN, base[used], faces, colours, *_hung(used))


def cloth_piece(assets: Assets, base: np.ndarray) -> Piece:
    """A garment: the base mesh's tights, a little off the skin."""
    triangles, _ = assets.base.triangles["helper-tights"]
    canonical = assets.base.vertices
    used, faces = compact(triangles[(canonical[triangles, 1] > SHOULDERS).all(axis=1)])
    normals = vertex_normals(base[used], faces, incidence(faces, len(used)))
    return Piece("cloth", CLOTH, base[used] + 0.05 * normals, faces, canonical[used], *_hung(used))


def teeth_piece(assets: Assets, person: Person, base: np.ndarray) -> Piece:
    """Both arches with their gums. One connected component is gums, the 32 others are teeth."""
    part = assets.part("teeth", _TEETH[person.teeth])
    triangles = _all_triangles(part)
    count = len(part.mesh.vertices)
    edges = np.concatenate([triangles[:, :2], triangles[:, 1:]])
    graph = coo_array((np.ones(len(edges)), (edges[:, 0], edges[:, 1])), shape=(count, count))
    label = connected_components(graph, directed=False)[1]
    gums = np.bincount(label)[label] > 200
    colours = np.where(gums[:, None], np.array(_GUMS), _TOOTH * person.teeth_shade)
    places = part.binding.fit(base)
    # Molars stay inside the cheeks.
    middle = places[:, 0].mean()
    places[:, 0] = middle + 0.94 * (places[:, 0] - middle)
    places[:, 2] -= 0.02
    # As they come, the arches stand too high behind the lips: the lower one would hide the upper in every vowel.
    jaw = assets.rig.weights[part.binding.indices, assets.rig.bones.index("jaw")]
    lower = (jaw * part.binding.weights).sum(axis=1) > 0.5
    # The front teeth come down furthest, else the eye-teeth look like fangs.
    front = np.exp(-((places[:, 0] / 0.16) ** 2))
    places[:, 1] -= np.where(lower, 0.085, 0.03 + 0.045 * front)
    return Piece("teeth", PLAIN, places, triangles, colours, part.binding.indices, part.binding.weights)


def tongue_piece(assets: Assets, base: np.ndarray) -> Piece:
    """The tongue, which fills a closed mouth as it comes: it is made smaller."""
    part = assets.part("tongue", "tongue01")
    places = part.binding.fit(base)
    low, middle = places.min(axis=0), places.mean(axis=0)
    places[:, 0] = middle[0] + 0.84 * (places[:, 0] - middle[0])
    places[:, 1] = low[1] + 0.75 * (places[:, 1] - low[1]) - 0.085
    places[:, 2] = low[2] + 0.92 * (places[:, 2] - low[2]) - 0.06
    colours = np.tile(np.array(_TONGUE), (len(places), 1))
    return Piece("tongue", PLAIN, places, _all_triangles(part), colours, part.binding.indices, part.binding.weights)


def lash_piece(assets: Assets, person: Person, base: np.ndarray) -> Piece:
    """Eyelashes; their attributes are a place along the lid and one from the lid to the tip."""
    part = assets.part("eyelashes", f"eyelashes{person.lashes:02d}")
    places = part.binding.fit(base)
    centres = np.stack([base[first:end].mean(axis=0) for _, first, end in EYES])
    far = np.linalg.norm(places[:, None] - centres, axis=2).min(axis=1)
    tip = (far - far.min()) / max(float(np.ptp(far)), 1e-6)
    attributes = np.stack([60.0 * places[:, 0], tip, np.zeros(len(places))], axis=-1)
    return Piece("lash", LASH, places, _all_triangles(part), attributes, part.binding.indices, part.binding.weights)


def eye_pieces(base: np.ndarray) -> list[Piece]:
    """Two eyeballs with a cornea; their attributes are directions from the centre."""
    rings, spokes = 24, 32
    theta, phi = np.meshgrid(np.linspace(0, 0.62 * np.pi, rings), 2 * np.pi * np.arange(spokes + 1) / spokes)
    way = np.stack([np.sin(theta) * np.cos(phi), np.sin(theta) * np.sin(phi), np.cos(theta)], -1).reshape(-1, 3)
    first = (np.arange(spokes)[:, None] * rings + np.arange(rings - 1)).ravel()
    quads = np.stack([first, first + 1, first + rings + 1, first + rings], axis=-1)
    triangles = np.concatenate([quads[:, [0, 1, 2]], quads[:, [0, 2, 3]]]).astype(np.int32)
    bulge = 1 + 0.035 * np.exp(-((theta.reshape(-1, 1) / 0.36) ** 2))
    pieces = []
    for bone, start, end in EYES:
        centre = base[start:end].mean(axis=0)
        radius = 0.985 * np.linalg.norm(base[start:end] - centre, axis=1).mean()
        hung = _hung(np.full(len(way), start))
        pieces.append(Piece(bone, EYE, centre + radius * bulge * way, triangles, way, *hung, bone=bone))
    return pieces


def rigid_piece(name: str, vertices: np.ndarray, triangles: np.ndarray, colours: np.ndarray) -> Piece:
    """Something plain that moves with the head."""
    return Piece(name, PLAIN, vertices, triangles, colours, *_hung(np.zeros(len(vertices), np.int64)), bone="head")


def hair_piece(locks: Locks) -> Piece:
    """Hair moves with the head as one."""
    vertices, triangles, attributes, normals, tangents = ribbons(locks)
    hung = _hung(np.zeros(len(vertices), np.int64))
    return Piece("hair", HAIR, vertices, triangles, attributes, *hung, "head", normals, tangents)


def beard_piece(locks: Locks, skin: Piece) -> Piece:
    """A beard moves with the skin it grows on."""
    vertices, triangles, attributes, normals, tangents = ribbons(locks)
    nearest = KDTree(skin.vertices).query(locks.roots)[1]
    rows = np.repeat(nearest, 2 * locks.points.shape[1])
    anchors, shares = skin.anchors[rows], skin.shares[rows]
    return Piece("beard", HAIR, vertices, triangles, attributes, anchors, shares, None, normals, tangents)


def ribbons(locks: Locks) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Vertices, triangles, attributes (across, along, lane), outward normals and tangents of flat ribbons."""
    count, points = locks.points.shape[:2]
    ahead = np.gradient(locks.points, axis=1)
    ahead /= np.maximum(np.linalg.norm(ahead, axis=2, keepdims=True), 1e-9)
    side = np.cross(ahead, locks.normals)
    side /= np.maximum(np.linalg.norm(side, axis=2, keepdims=True), 1e-9)
    # Ribbons that all lie flat look like tiles.
    lane = np.random.default_rng(count).random(count)
    tilt = (lane * 7.0 % 1.0 - 0.5)[:, None, None]
    side = side + tilt * locks.normals
    half = 0.5 * locks.widths[..., None] * side
    vertices = np.stack([locks.points - half, locks.points + half], axis=2).reshape(-1, 3)
    first = (np.arange(count)[:, None] * 2 * points + 2 * np.arange(points - 1)).ravel()
    triangles = np.concatenate(
        [np.stack([first, first + 1, first + 3], -1), np.stack([first, first + 3, first + 2], -1)]
    ).astype(np.int32)
    across = np.broadcast_to(np.array([0.0, 1.0]), (count, points, 2))
    along = np.broadcast_to(np.linspace(0, 1, points)[None, :, None], (count, points, 2))
    lanes = np.broadcast_to(lane[:, None, None], (count, points, 2))
    attributes = np.stack([across, along, lanes], axis=-1).reshape(-1, 3)
    normals, tangents = (np.repeat(a.reshape(-1, 3), 2, axis=0) for a in (locks.normals, ahead))
    return vertices, triangles, attributes, normals, tangents


def _all_triangles(part: Part) -> np.ndarray:
    return np.concatenate([faces for faces, _ in part.mesh.triangles.values()])


def _hung(indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Anchors and shares of vertices that each copy one of the base mesh."""
    shares = np.zeros((len(indices), 3), np.float32)
    shares[:, 0] = 1
    return np.repeat(indices[:, None], 3, axis=1), shares
