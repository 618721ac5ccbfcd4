"""Pictures of a person: `Studio(assets, person, ...).frame(pose)`."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from ...faces.detector import Face
from ..corpus.motion import Pose
from .assets import Assets
from .body import CHIN, Body
from .kernel import AX, COLUMNS, DEPTH, EX, LX, NX, SX, SY, fill_triangles, shade
from .light import Light, ambient_occlusion, lamp_weights, visibility
from .person import Person
from .rotation import matrices_from_rotvecs
from .textures import Atlas, cloth_texture, eye_texture, skin_texture, strands

_SAMPLES = 2
# Amount, exponent and Fresnel base of each material's highlight, in the kernel's order.
_GLOSS = np.array(
    [(1.0, 26.0, 0.03), (0.0, 8.0, 0.04), (3.0, 130.0, 0.035), (0.5, 60.0, 0.04), (1.0, 28.0, 0.04), (0.0, 1.0, 0.0)]
)
# How much further round light creeps in skin, for red, green and blue.
_WRAP = np.array([0.34, 0.14, 0.09], np.float32)


@dataclass(frozen=True)
class View:
    """The camera.

    ``fov`` is in radians, ``head`` the head's height as a share of the picture's, ``centre`` where its middle is in the
    picture (0..1), ``turn`` how the whole scene is turned, as a rotation vector.
    """

    fov: float
    head: float
    centre: tuple[float, float]
    turn: tuple[float, float, float]


@dataclass(frozen=True)
class Shot:
    """One picture.

    ``colour`` float32 [S, S, 3] in 0..1 over the background; ``mouth_box`` (x0, y0, x1, y1) in pixels, end exclusive;
    ``opening`` of the lips 0..1 and ``width`` of the mouth over that at rest.
    """

    colour: np.ndarray
    mouth_box: tuple[int, int, int, int]
    opening: float
    width: float


def sample_view(rng: np.random.Generator) -> View:
    """Heads from a third to nine tenths of the picture's height; most are as large as on a portrait."""
    head = float(np.clip(rng.normal(0.62, 0.13), 1 / 3, 0.9)) if rng.random() < 0.8 else float(rng.uniform(1 / 3, 0.9))
    return View(
        fov=float(rng.uniform(0.22, 0.62)),
        head=head,
        centre=(0.5 + float(rng.normal(0, 0.03)), 0.5 - 0.12 * (0.9 - head) + float(rng.normal(0, 0.02))),
        turn=(float(rng.normal(0, 0.07)), float(rng.normal(0, 0.17)), float(rng.normal(0, 0.02))),
    )


def face_distance(view: View, face: Face, size: int) -> float:
    """How far the middle of ``face``, found in a picture of ``size`` pixels, is from the head's, in head heights."""
    middle = (face.x + face.width / 2) / size, (face.y + face.height / 2) / size
    return math.dist(middle, view.centre) / view.head


def portrait_view(view: View, face: Face, size: int, rng: np.random.Generator) -> View:
    """``view`` moved so that ``face``, found in its picture of ``size`` pixels, lies as Face Crop frames a portrait.

    The face's share of the picture and its place vary a little: margins of about 0.22 to 0.42.
    """
    share, middle = float(rng.normal(0.615, 0.03)), rng.normal((0.5, 0.487), (0.02, 0.02))
    scale = share * size / max(face.width, face.height)
    found = (face.x + face.width / 2) / size, (face.y + face.height / 2) / size
    x, y = (float(to + (at - of) * scale) for to, at, of in zip(middle, view.centre, found, strict=True))
    return replace(view, head=view.head * scale, centre=(x, y))


class Studio:
    """A person under a light before a camera; everything that does not move is made once.

    ``background`` float32 [S, S, 3] in 0..1 gives the pictures' size.
    """

    def __init__(
        self, assets: Assets, atlas: Atlas, person: Person, light: Light, view: View, background: np.ndarray
    ) -> None:
        self.body = Body(assets, person)
        self._light, self.view, self._background = light, view, background
        self._skin, self._eye = skin_texture(atlas, person), eye_texture(person)
        self._cloth = cloth_texture(person)
        self._hair = np.array(person.hair, np.float64)
        neck_depth = max(0.0, 0.5 * person.neckline - 0.2)
        self._neck = np.array([0.58 + 0.16 * person.neckline * (1 - person.collar), neck_depth])
        self._rest_light()
        self._mouth = self._lip_rows(assets)
        self._exposure = light.exposure * self._metered(person)
        self._rest_width = self._mouth_width(self.body.pose(Pose()))

    def _rest_light(self) -> None:
        """The sky visible from each vertex, in the rest pose. Both edges of a lock are lit alike: one is computed."""
        body = self.body
        rest = body.pose(Pose())
        mesh = body.num_meshed
        self._lit = np.concatenate([np.arange(mesh), np.arange(mesh, len(rest), 2)])
        normals = body.normals(rest)[0][self._lit]
        occluding = [body.triangles[body.triangle_ranges[n]] for n in ("skin", "hair", "beard") if n in body.ranges]
        seen = visibility(rest, np.concatenate(occluding), rest[self._lit], normals)
        inside = [np.arange(mesh)[body.ranges[name]] for name in ("teeth", "tongue", "inner")]
        eyes = [np.arange(mesh)[body.ranges[name]] for name in ("eye.L", "eye.R")]
        self._in_mouth, self._eyes = np.concatenate(inside), np.concatenate(eyes)
        # What lids and lips cover in the rest pose is uncovered by others.
        for part in (*inside, *eyes, body.ranges["lash"]):
            seen[part] = 1.0
        # Light that other skin throws back is red.
        self._bounced = ambient_occlusion(seen, normals)[:, None].astype(np.float32) ** np.array(
            [0.8, 1, 1.05], np.float32
        )
        on_head = rest[self._lit, 1] > body.base[CHIN, 1] - 0.25
        self._parts = np.flatnonzero(on_head), np.flatnonzero(~on_head)
        self._seen = tuple(np.ascontiguousarray(seen[part]) for part in self._parts)
        z = rest[self._in_mouth, 2]
        self._mouth_depth = np.clip((z - z.max() + 0.75) / 0.75, 0, 1).astype(np.float32) ** 2

    def _metered(self, person: Person) -> float:
        """What a camera's automatic exposure would multiply by: half of what would make all faces equally bright."""
        rows = np.zeros((len(self.body.rest), COLUMNS), np.float32)
        turn = matrices_from_rotvecs(np.array(self.view.turn))
        normals = self.body.normals(self.body.pose(Pose()))[0] @ turn.T
        self._illuminate(rows, normals, turn, turn, 0.0)
        skin = self.body.ranges["skin"]
        face = (self.body.rest[skin, 1] > self.body.base[CHIN, 1]) & (normals[skin, 2] > 0.3)
        arriving = float(rows[skin, EX : EX + 3][face].mean())
        return 0.95 / arriving * float(np.mean(person.skin) / 0.28) ** -0.4

    def _lip_rows(self, assets: Assets) -> np.ndarray:
        """Rows of the skin that belong to the lips."""
        skin = self.body.ranges["skin"]
        mask = assets.mask("lips")
        triangles, textures = assets.base.triangles["body"]
        uv = np.zeros((len(assets.base.vertices), 2))
        uv[triangles.ravel()] = assets.base.uv[textures.ravel()]
        at = (uv[self.body.anchors_of("skin")] * (len(mask) - 1)).astype(int)
        return skin.start + np.flatnonzero(mask[at[:, 1], at[:, 0]] > 0.5)

    def _mouth_width(self, vertices: np.ndarray) -> float:
        lips = vertices[self._mouth]
        return float(np.linalg.norm(lips[self._corners(lips, 1)] - lips[self._corners(lips, -1)]))

    @staticmethod
    def _corners(lips: np.ndarray, sign: int) -> int:
        return int((sign * lips[:, 0]).argmax())

    def frame(self, pose: Pose) -> Shot:
        """The person in that pose."""
        body, size = self.body, len(self._background)
        placed = body.pose(pose)
        opening, width = body.opening(placed), self._mouth_width(placed) / self._rest_width
        turn = matrices_from_rotvecs(np.array(self.view.turn)).astype(np.float32)
        normals, directions = (n @ turn.T for n in body.normals(placed))
        head_turn = turn @ body.head_turn
        placed = (placed - body.middle) @ turn.T.astype(np.float32)

        rows = np.empty((len(placed), COLUMNS), np.float32)
        focal = 0.5 * size / np.tan(0.5 * self.view.fov)
        distance = focal * body.height / (self.view.head * size)
        near = 1.0 / np.maximum(distance - placed[:, 2], 0.5)
        rows[:, SX] = _SAMPLES * (self.view.centre[0] * size + focal * placed[:, 0] * near)
        rows[:, SY] = _SAMPLES * (self.view.centre[1] * size - focal * placed[:, 1] * near)
        rows[:, DEPTH] = near
        rows[:, NX : NX + 3] = directions
        rows[:, AX:] = body.attributes
        self._illuminate(rows, normals, head_turn, turn, opening)

        canvas = (_SAMPLES * size, _SAMPLES * size)
        depth, owner = np.zeros(canvas, np.float32), np.full(canvas, -1, np.int32)
        fill_triangles(rows, body.triangles, body.material, strands(), self._neck, depth, owner)
        out = np.zeros((size, size, 4), np.float32)
        light = self._light
        shade(
            rows, body.triangles, body.material, owner, _SAMPLES * focal, light.lamps, light.colours, _GLOSS,
            self._skin, self._eye, self._cloth, self._hair, strands(), self._neck, self._exposure, out,
        )  # fmt: skip
        colour = out[..., :3] + (1 - out[..., 3:]) * self._background
        return Shot(colour, self._box(rows[self._mouth], size), opening, width)

    def _illuminate(
        self, rows: np.ndarray, normals: np.ndarray, head_turn: np.ndarray, turn: np.ndarray, opening: float
    ) -> None:
        """Writes irradiance and the light of each lamp that arrives at each vertex."""
        light = self._light
        normals = normals[self._lit].astype(np.float32)
        arriving = np.empty((len(normals), 3), np.float32)
        for part, seen, axes in zip(self._parts, self._seen, (head_turn, turn), strict=True):
            # The lamps stand still: in the axes of the head they turn against it.
            arriving[part] = seen @ lamp_weights(light.lamps @ axes, light.softness).astype(np.float32)
        cosine = normals @ light.lamps.T.astype(np.float32)
        up = (0.5 + 0.5 * normals[:, 1])[:, None]
        total = (up * light.sky.astype(np.float32) + (1 - up) * light.ground.astype(np.float32)) * self._bounced
        for k in range(3):
            spread = np.maximum((cosine[:, k : k + 1] + _WRAP) / (1 + _WRAP), 0.0)
            total += arriving[:, k : k + 1] * spread * light.colours[k].astype(np.float32)
        inside = self._in_mouth
        total[inside] *= ((0.10 + 0.9 * self._mouth_depth) * (0.08 + 0.92 * min(1.0, 5.0 * opening)))[:, None]
        arriving[inside] *= (self._mouth_depth * min(1.0, 3 * opening))[:, None]
        # The upper lid and its lashes shade the eye.
        total[self._eyes] *= (0.76 - 0.48 * np.clip((normals[self._eyes, 1] + 0.1) / 0.7, 0, 1))[:, None]
        mesh = self.body.num_meshed
        for first, values in ((EX, total), (LX, arriving)):
            rows[:mesh, first : first + 3] = values[:mesh]
            rows[mesh::2, first : first + 3] = rows[mesh + 1 :: 2, first : first + 3] = values[mesh:]

    @staticmethod
    def _box(lips: np.ndarray, size: int) -> tuple[int, int, int, int]:
        """Pixels that hold the lips and a margin of 4 of 256, as for the drawn faces."""
        margin = 4 * size / 256
        x, y = lips[:, SX] / _SAMPLES, lips[:, SY] / _SAMPLES
        x0, y0 = max(0, int(np.floor(x.min() - margin))), max(0, int(np.floor(y.min() - margin)))
        x1, y1 = min(size, int(np.ceil(x.max() + margin))), min(size, int(np.ceil(y.max() + margin)))
        return x0, y0, max(x1, x0 + 1), max(y1, y0 + 1)
