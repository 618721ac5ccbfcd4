"""A person's geometry: parts with bone weights, and how a pose moves them."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ..corpus.motion import Pose, opening
from .assets import Assets
from .expression import FULL_GAP, MORPHS, Stance, lids_and_brows, lips, stance, tongue
from .locks import HeadFrame, grow_beard, grow_hair
from .person import RACES, Person
from .pieces import (
    EYES,
    Piece,
    beard_piece,
    cloth_piece,
    eye_pieces,
    hair_piece,
    incidence,
    lash_piece,
    rigid_piece,
    skin_piece,
    teeth_piece,
    tongue_piece,
    vertex_normals,
)  # fmt: skip
from .rotation import matrices_from_rotvecs
from .spectacles import make_glasses

# Vertices of the base mesh in the middle of the lips' inner edges.
UPPER_LIP, LOWER_LIP = 474, 493
# The middle of the chin's underside.
CHIN = 5225
_NECK = (("neck01", 0.15), ("neck02", 0.2), ("neck03", 0.25), ("head", 0.4))
_JAW_TABLE = np.linspace(0.0, 1.0, 9)


class Body:
    """The geometry of ``person``; ``pose`` moves it."""

    def __init__(self, assets: Assets, person: Person) -> None:
        self.person = person
        self.base = assets.morphed(dict(person.shape))
        self._rig = assets.rig
        self.joints = np.stack([self.base[head].mean(axis=0) for head in self._rig.heads])
        skin, inner = skin_piece(assets, self.base)
        canonical = assets.base.vertices[skin.anchors[:, 0]]
        normals = vertex_normals(skin.vertices, skin.triangles, incidence(skin.triangles, len(skin.vertices)))
        pieces = [skin, inner, cloth_piece(assets, self.base), teeth_piece(assets, person, self.base)]
        pieces += [tongue_piece(assets, self.base), lash_piece(assets, person, self.base), *eye_pieces(self.base)]
        if (glasses := make_glasses(person, self.base)) is not None:
            pieces.append(rigid_piece("glasses", *glasses))
        # Bodies differ in height: hair grows on a head that is laid over the base mesh's, and is carried back.
        onto = HeadFrame.between(skin.vertices, canonical)
        laid = onto.to_base(skin.vertices)
        if (hair := grow_hair(person, laid, normals, canonical, skin.triangles)) is not None:
            pieces.append(hair_piece(onto.carried_back(hair)))
        if (beard := grow_beard(person, laid, normals, canonical)) is not None:
            pieces.append(beard_piece(onto.carried_back(beard), skin))
        self._join(pieces)
        self._prepare_morphs(assets)
        self._calibrate_jaw()
        head = skin.vertices[canonical[:, 1] > 6.2]
        self.height = float(head[:, 1].max() - self.base[CHIN, 1])
        self.middle = np.array([0.0, 0.5 * (head[:, 1].max() + self.base[CHIN, 1]), float(head[:, 2].mean())])

    def _join(self, pieces: list[Piece]) -> None:
        self.ranges: dict[str, slice] = {}
        self.triangle_ranges: dict[str, slice] = {}
        vertices, faces = 0, 0
        triangles = []
        for piece in pieces:
            self.ranges[piece.name] = slice(vertices, vertices + len(piece.vertices))
            self.triangle_ranges[piece.name] = slice(faces, faces + len(piece.triangles))
            triangles.append(piece.triangles + vertices)
            vertices, faces = vertices + len(piece.vertices), faces + len(piece.triangles)
        self.rest = np.concatenate([p.vertices for p in pieces]).astype(np.float32)
        self.triangles = np.concatenate(triangles).astype(np.int32)
        self.material = np.concatenate([np.full(len(p.triangles), p.material, np.int8) for p in pieces])
        self.attributes = np.concatenate([p.attributes for p in pieces]).astype(np.float32)
        self._anchors = np.concatenate([p.anchors for p in pieces])
        self._shares = np.concatenate([p.shares for p in pieces]).astype(np.float32)
        self._rigid = {p.name: self._rig.bones.index(p.bone) for p in pieces if p.bone is not None}
        rigid = np.zeros(vertices, bool)
        for name in self._rigid:
            rigid[self.ranges[name]] = True
        self._soft = np.flatnonzero(~rigid)
        weights = np.einsum("vk,vkb->vb", self._shares[self._soft], self._rig.weights[self._anchors[self._soft]])
        self._used = np.flatnonzero((weights > 0).any(axis=0))
        self._weights = np.ascontiguousarray(weights[:, self._used])
        self._chain = _with_parents(self._rig.parents, {*self._used.tolist(), *self._rigid.values()})
        meshed = [p for p in pieces if p.normals is None]
        self._meshed = sum(len(p.triangles) for p in meshed)
        count = sum(len(p.vertices) for p in meshed)
        self._around = incidence(self.triangles[: self._meshed], count)
        self.num_meshed = count
        locks = [(p.normals, p.tangents) for p in pieces if p.normals is not None and p.tangents is not None]
        self._lock_normals = np.concatenate([np.zeros((0, 3)), *(n for n, _ in locks)]).astype(np.float32)
        self._lock_tangents = np.concatenate([np.zeros((0, 3)), *(t for _, t in locks)]).astype(np.float32)

    def _prepare_morphs(self, assets: Assets) -> None:
        """Vertex targets of the expressions, mixed over the races as the head is."""
        anchors, shares = self._anchors[self._soft], self._shares[self._soft]
        self._morphs: dict[str, np.ndarray] = {}
        for name in MORPHS:
            delta = np.zeros_like(self.base)
            for race, share in zip(RACES, self.person.races, strict=True):
                indices, moves = assets.target(f"expression/units/{race}/{name}")
                delta[indices] += share * moves
            self._morphs[name] = (delta[anchors] * shares[..., None]).sum(axis=1)

    def _calibrate_jaw(self) -> None:
        """Measures the lips' gap against the jaw's unit, so that an opening means the same in every face."""
        skin = self.ranges["skin"]
        columns = self._anchors[skin, 0]
        self._lips = tuple(skin.start + int(np.flatnonzero(columns == lip)[0]) for lip in (UPPER_LIP, LOWER_LIP))
        still = Stance((0.0, 0.0, 0.0), (0.0, 0.0), (0.0, 0.0), 0.0)
        self._gaps = np.array([self.gap(self._posed({"JawDrop": float(jaw)}, still)) for jaw in _JAW_TABLE])

    def gap(self, vertices: np.ndarray) -> float:
        """Height of the gap between the lips in the middle of the mouth, in decimetres, in the pose made last."""
        upper, lower = self._lips
        return max(0.0, float((vertices[upper] - vertices[lower]) @ self.head_turn[:, 1]))

    def jaw_for(self, share: float) -> float:
        """The jaw's unit that opens the lips by ``share`` of FULL_GAP."""
        target = self._gaps[0] + share * FULL_GAP
        return float(np.interp(target, np.maximum.accumulate(self._gaps), _JAW_TABLE))

    def opening(self, vertices: np.ndarray) -> float:
        """How far the lips are apart, 0 as at rest to 1."""
        return float(np.clip((self.gap(vertices) - self._gaps[0]) / FULL_GAP, 0.0, 1.0))

    def anchors_of(self, name: str) -> np.ndarray:
        """The base vertex [V] that each vertex of a part hangs on first."""
        return self._anchors[self.ranges[name], 0]

    def pose(self, pose: Pose) -> np.ndarray:
        """Places [V, 3] of all vertices."""
        jaw = self.jaw_for(opening(pose))
        rest_lid = 0.05 + 0.05 * (self.person.pupil - 0.15) / 0.04
        units = {"JawDrop": jaw, **lips(pose), **tongue(pose, jaw), **lids_and_brows(pose, rest_lid)}
        return self._posed(units, stance(pose))

    def _posed(self, units: Mapping[str, float], where: Stance) -> np.ndarray:
        bones = self._rig.bones
        turns = np.zeros((len(bones), 3))
        soft = self.rest[self._soft].copy()
        for name, weight in units.items():
            if abs(weight) < 1e-4:
                continue
            if name in self._morphs:
                soft += self._morphs[name] * np.float32(weight)
            else:
                turns += self._rig.units[name] * weight
        moves = np.zeros((len(bones), 3))
        for bone, share in _NECK:
            turns[bones.index(bone)] += share * np.array(where.head)
            moves[bones.index(bone), :2] += share * np.array(where.shift)
        for bone, _, _ in EYES:
            turns[bones.index(bone), :2] += where.gaze
        for bone in ("clavicle.L", "clavicle.R"):
            moves[bones.index(bone), 1] += where.breath
        matrices, offsets = self._chain_matrices(turns, moves)
        self.head_turn = matrices[bones.index("head")]
        placed = np.empty_like(self.rest)
        flat = np.concatenate([matrices.reshape(-1, 9), offsets], axis=1)[self._used].astype(np.float32)
        blend = self._weights @ flat
        placed[self._soft] = np.einsum("vij,vj->vi", blend[:, :9].reshape(-1, 3, 3), soft) + blend[:, 9:]
        for name, bone in self._rigid.items():
            part = self.ranges[name]
            placed[part] = self.rest[part] @ matrices[bone].T.astype(np.float32) + offsets[bone].astype(np.float32)
        return placed

    def _chain_matrices(self, turns: np.ndarray, moves: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Each bone's turn [B, 3, 3] and offset [B, 3], its parents' included."""
        own = matrices_from_rotvecs(turns)
        matrices, offsets = np.tile(np.eye(3), (len(turns), 1, 1)), np.zeros((len(turns), 3))
        for bone in self._chain:
            parent, joint = self._rig.parents[bone], self.joints[bone]
            above, shift = (matrices[parent], offsets[parent]) if parent >= 0 else (np.eye(3), np.zeros(3))
            matrices[bone] = above @ own[bone]
            offsets[bone] = above @ joint + shift - matrices[bone] @ joint + moves[bone]
        return matrices, offsets

    def normals(self, vertices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Unit normals [V, 3], and the same with the tangents of hair in place of its normals."""
        mesh = vertex_normals(vertices[: self.num_meshed], self.triangles[: self._meshed], self._around)
        turn = self.head_turn.T.astype(np.float32)
        return np.concatenate([mesh, self._lock_normals @ turn]), np.concatenate([mesh, self._lock_tangents @ turn])


def _with_parents(parents: tuple[int, ...], bones: set[int]) -> list[int]:
    """The bones and all above them, parents first."""
    needed = set(bones)
    for bone in bones:
        while bone >= 0:
            needed.add(bone)
            bone = parents[bone]
    return sorted(needed)
