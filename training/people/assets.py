"""Reads MakeHuman's CC0 head: mesh, shape targets, rig, pose units and the parts that are bound to the mesh.

The data is not part of this repository. Get it from https://github.com/makehumancommunity: ``makehuman`` (folder
``makehuman/data``: ``3dobjs``, ``targets``, ``rigs``, ``poseunits``) and ``makehuman-assets`` (folder ``base``: teeth,
tongue, eyelashes), both CC0 1.0, and lay it out as FILES below names it. Lengths are decimetres, y is up, z to the
front.
"""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from PIL import Image

from ..core.config import TrainingError
from .rotation import matrices_from_rotvecs, rotvecs_from_matrices

WHERE = (
    "MakeHuman's CC0 data: makehuman (data/3dobjs, targets, rigs, poseunits) and makehuman-assets (base) from "
    "https://github.com/makehumancommunity, laid out as training/people/assets.py names the files"
)
FILES = (
    "base/3dobjs/base.obj",
    "base/targets",
    "base/textures/mpfb_lips.jpg",
    "base/textures/mpfb_inside-mouth.jpg",
    "makehuman/rigs/default.mhskel",
    "makehuman/rigs/default_weights.mhw",
    "makehuman/poseunits/face-poseunits.bvh",
    "makehuman/poseunits/face-poseunits.json",
    "assets/teeth",
    "assets/tongue",
    "assets/eyelashes",
)
# Blender's axes in the pose units' file, and ours: (x, y, z) -> (x, z, -y).
_TO_Y_UP = np.array([[1, 0, 0], [0, 0, 1], [0, -1, 0]], np.float64)


@dataclass(frozen=True)
class Mesh:
    """Vertices [V, 3], texture coordinates [T, 2], and triangles of each group as indices [N, 3] of both."""

    vertices: np.ndarray
    uv: np.ndarray
    triangles: Mapping[str, tuple[np.ndarray, np.ndarray]]


@dataclass(frozen=True)
class Binding:
    """How the vertices of a part hang on the base mesh (a ``.mhclo`` file).

    A vertex lies at the weighted mean of three base vertices plus ``offsets`` [V, 3], which grow with the distances
    between pairs of base vertices: ``scales`` holds (first, second, distance at scale 1) of each axis.
    """

    indices: np.ndarray
    weights: np.ndarray
    offsets: np.ndarray
    scales: tuple[tuple[int, int, float] | None, ...]

    def fit(self, base: np.ndarray) -> np.ndarray:
        """Places [V, 3] of the part on ``base`` [B, 3]."""
        scale = np.ones(3, np.float32)
        for axis, pair in enumerate(self.scales):
            if pair is not None:
                first, second, unit = pair
                scale[axis] = abs(base[first, axis] - base[second, axis]) / unit
        return (base[self.indices] * self.weights[..., None]).sum(1) + self.offsets * scale


@dataclass(frozen=True)
class Part:
    mesh: Mesh
    binding: Binding


@dataclass(frozen=True)
class Rig:
    """Bones in an order in which parents come first; ``heads`` are the base vertices whose mean is a bone's joint.

    ``weights`` [V, B] is dense: how much each bone moves each base vertex; ``units`` are rotation vectors [B, 3].
    """

    bones: tuple[str, ...]
    parents: tuple[int, ...]
    heads: tuple[np.ndarray, ...]
    weights: np.ndarray
    units: Mapping[str, np.ndarray]


def read_obj(lines: Iterable[str]) -> Mesh:
    """A Wavefront mesh; polygons become fans of triangles, faces before any ``g`` line belong to the group ''."""
    vertices, uv = [], []
    groups: dict[str, tuple[list[tuple[int, ...]], list[tuple[int, ...]]]] = {}
    group = ""
    for line in lines:
        kind, *rest = line.split() or [""]
        if kind == "v":
            vertices.append([float(x) for x in rest[:3]])
        elif kind == "vt":
            uv.append([float(x) for x in rest[:2]])
        elif kind == "g":
            group = rest[0]
        elif kind == "f":
            corners = [(*(int(x or 1) - 1 for x in corner.split("/")[:2]), 0)[:2] for corner in rest]
            places, textures = groups.setdefault(group, ([], []))
            for k in range(1, len(corners) - 1):
                fan = (corners[0], corners[k], corners[k + 1])
                places.append(tuple(c[0] for c in fan))
                textures.append(tuple(c[1] for c in fan))
    triangles = {name: (np.array(a, np.int32), np.array(b, np.int32)) for name, (a, b) in groups.items()}
    return Mesh(np.array(vertices, np.float32), np.array(uv or [[0, 0]], np.float32), triangles)


def read_binding(lines: Iterable[str]) -> Binding:
    """A ``.mhclo`` file: after ``verts``, one line for each vertex, of one index or of three, weights and an offset."""
    rows: list[list[float]] = []
    scales: list[tuple[int, int, float] | None] = [None, None, None]
    inside = False
    for line in lines:
        words = line.split()
        if not words or words[0] == "#":
            continue
        if words[0] in ("x_scale", "y_scale", "z_scale"):
            scales["xyz".index(words[0][0])] = (int(words[1]), int(words[2]), float(words[3]))
        elif words[0] in ("verts", "delete_verts"):
            inside = words[0] == "verts"
        elif inside and re.match(r"^\d", words[0]):
            numbers = [float(x) for x in words]
            rows.append(numbers[:9] if len(numbers) > 1 else [numbers[0]] * 3 + [1, 0, 0, 0, 0, 0])
    table = np.array(rows, np.float32)
    return Binding(table[:, :3].astype(np.int64), table[:, 3:6], table[:, 6:9], tuple(scales))


def read_pose_units(text: str, names: Sequence[str], bones: Sequence[str]) -> dict[str, np.ndarray]:
    """Rotation vectors [B, 3] of each frame of a BVH file, about the axes of the world."""
    lines = text.split("\n")
    channels: list[tuple[str, str]] = []
    bone, motion = "", 0
    for number, line in enumerate(lines):
        words = line.split()
        if words and words[0] in ("ROOT", "JOINT"):
            bone = words[1]
        elif words and words[0] == "CHANNELS":
            channels += [(bone, channel) for channel in words[2:]]
        elif words and words[0] == "MOTION":
            motion = number + 3
            break
    rows = np.array([line.split() for line in lines[motion:] if line.strip()], np.float64)
    matrices = np.tile(np.eye(3), (len(rows), len(bones), 1, 1))
    position = {bone: i for i, bone in enumerate(bones)}
    for column, (bone, channel) in enumerate(channels):
        if channel.endswith("rotation") and bone in position:
            axis = np.eye(3)["XYZ".index(channel[0])]
            turn = matrices_from_rotvecs(np.radians(rows[:, column, None]) * axis)
            matrices[:, position[bone]] = matrices[:, position[bone]] @ turn
    units = rotvecs_from_matrices(_TO_Y_UP @ matrices @ _TO_Y_UP.T).astype(np.float32)
    # Bones that have nothing to do with a unit carry noise of the export.
    units[np.abs(units).max(axis=-1) < 2e-3] = 0
    return dict(zip(names, units, strict=False))


def _parents_first(skeleton: Mapping[str, Mapping[str, str]]) -> list[str]:
    ordered: list[str] = []
    while len(ordered) < len(skeleton):
        done = set(ordered)
        ordered += [b for b in skeleton if b not in done and (skeleton[b]["parent"] or "") in {"", *done}]
    return ordered


class Assets:
    """MakeHuman's data in ``folder``, read on demand.

    Raises:
        TrainingError: a file of FILES is missing; the message gives its name and source.
    """

    def __init__(self, folder: Path) -> None:
        missing = [name for name in FILES if not (folder / name).exists()]
        if missing:
            raise TrainingError(f"--assets {folder}: {missing[0]} is missing there. Get {WHERE}")
        self.folder = folder
        self._targets: dict[str, tuple[np.ndarray, np.ndarray]] = {}
        self._parts: dict[str, Part] = {}

    @cached_property
    def base(self) -> Mesh:
        return read_obj(self._text("base/3dobjs/base.obj").splitlines())

    @cached_property
    def rig(self) -> Rig:
        data = json.loads(self._text("makehuman/rigs/default.mhskel"))
        bones = _parents_first(data["bones"])
        position = {bone: i for i, bone in enumerate(bones)}
        weights = np.zeros((len(self.base.vertices), len(bones)), np.float32)
        for bone, pairs in json.loads(self._text("makehuman/rigs/default_weights.mhw"))["weights"].items():
            for vertex, weight in pairs:
                weights[vertex, position[bone]] = weight
        weights /= np.maximum(weights.sum(axis=1, keepdims=True), 1e-6)
        names = json.loads(self._text("makehuman/poseunits/face-poseunits.json"))["framemapping"]
        return Rig(
            bones=tuple(bones),
            parents=tuple(position.get(data["bones"][bone]["parent"], -1) for bone in bones),
            heads=tuple(np.array(data["joints"][data["bones"][bone]["head"]]) for bone in bones),
            weights=weights,
            units=read_pose_units(self._text("makehuman/poseunits/face-poseunits.bvh"), names, bones),
        )

    @cached_property
    def target_names(self) -> tuple[str, ...]:
        """All shape targets of grown-ups, such as ``nose/nose-hump-incr``."""
        root = self.folder / "base/targets"
        names = (path.relative_to(root).as_posix() for path in root.rglob("*.target.gz"))
        return tuple(sorted(n.removesuffix(".target.gz") for n in names if "baby" not in n and "child" not in n))

    def target(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """Indices [N] of the base vertices that a shape target moves, and by how much [N, 3]."""
        if name not in self._targets:
            path = self.folder / "base/targets" / f"{name}.target.gz"
            with gzip.open(path, "rt") as file:
                rows = [line.split() for line in file if line.strip() and line[0] != "#"]
            table = np.array(rows, np.float64).reshape(-1, 4)
            self._targets[name] = (table[:, 0].astype(np.int64), table[:, 1:].astype(np.float32))
        return self._targets[name]

    def morphed(self, weights: Mapping[str, float]) -> np.ndarray:
        """The base mesh's vertices [V, 3] with shape targets added, each by its weight."""
        vertices = self.base.vertices.copy()
        for name, weight in weights.items():
            if abs(weight) > 1e-4:
                indices, delta = self.target(name)
                vertices[indices] += delta * np.float32(weight)
        return vertices

    def part(self, kind: str, name: str) -> Part:
        """A part that hangs on the mesh, such as ("teeth", "teeth_base")."""
        if name not in self._parts:
            stem = next((self.folder / "assets" / kind).rglob(f"{name}.mhclo")).with_suffix("")
            mesh = read_obj(stem.with_suffix(".obj").read_text().splitlines())
            self._parts[name] = Part(mesh, read_binding(stem.with_suffix(".mhclo").read_text().splitlines()))
        return self._parts[name]

    def mask(self, name: str) -> np.ndarray:
        """A mask over the base mesh's texture coordinates, float32 [H, W] in 0..1, first row at v = 0."""
        with Image.open(self.folder / "base/textures" / f"mpfb_{name}.jpg") as image:
            return np.asarray(image.convert("L"), np.float32)[::-1] / 255

    def _text(self, name: str) -> str:
        return (self.folder / name).read_text(encoding="utf-8")
