"""Draws one frame: `render(identity, pose)`."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import skia

from .backdrop import draw_backdrop, draw_body
from .features import draw_brow, draw_ear, draw_eye, draw_glasses, draw_nose, skin_light, skin_shadow
from .geometry import Head, Point, argb, fill, glow, linear, smooth, stroke
from .hair import draw_back_hair, draw_beard, draw_front_hair
from .identity import Identity, mix, sample_identity
from .motion import Pose, opening, sample_pose
from .mouth import draw_mouth, mouth_points, mouth_shape

__all__ = ["Identity", "Pose", "mouth_box", "opening", "render", "sample_identity", "sample_pose"]

CANVAS = 256


def _target(size: int) -> tuple[np.ndarray, skia.Surface]:
    pixels = np.zeros((size, size, 4), dtype=np.uint8)
    info = skia.ImageInfo.Make(size, size, skia.kRGBA_8888_ColorType, skia.kPremul_AlphaType)
    surface = skia.Surface.MakeRasterDirect(info, pixels, size * 4)
    surface.getCanvas().scale(size / CANVAS, size / CANVAS)
    return pixels, surface


# The room does not move: it is drawn once per identity, and a clip reuses it.
@lru_cache(maxsize=4)
def _backdrop(identity: Identity, size: int) -> skia.Image:
    _, surface = _target(size)
    draw_backdrop(surface.getCanvas(), identity)
    return surface.makeImageSnapshot()


def render(identity: Identity, pose: Pose, size: int = 256) -> np.ndarray:
    """The person in this pose: uint8 `[size, size, 3]`, RGB."""
    pixels, surface = _target(size)
    canvas = surface.getCanvas()
    canvas.save()
    canvas.scale(CANVAS / size, CANVAS / size)
    canvas.drawImage(_backdrop(identity, size), 0, 0)
    canvas.restore()
    head = Head(pose, identity.face_width, identity.face_height)
    draw_back_hair(canvas, head, identity)
    draw_body(canvas, head, identity, pose)
    for side in (-1.0, 1.0):
        draw_ear(canvas, head, identity, side)
    _draw_face(canvas, head, identity, pose)
    draw_nose(canvas, head, identity)
    for side in (-1.0, 1.0):
        draw_eye(canvas, head, identity, pose, side)
        draw_brow(canvas, head, identity, pose, side)
    draw_mouth(canvas, head, identity, pose)
    draw_front_hair(canvas, head, identity)
    draw_glasses(canvas, head, identity)
    surface.flushAndSubmit()
    # Three strided copies are six times faster than one of `pixels[:, :, :3]`.
    frame = np.empty((size, size, 3), dtype=np.uint8)
    for c in range(3):
        frame[:, :, c] = pixels[:, :, c]
    return frame


def mouth_box(identity: Identity, pose: Pose, size: int = 256) -> tuple[int, int, int, int]:
    """Pixels (x0, y0, x1, y1), end exclusive, that hold the lips and a margin of 4 of 256."""
    points = mouth_points(Head(pose, identity.face_width, identity.face_height), mouth_shape(identity, pose))
    scale, margin = size / CANVAS, 4.0
    x0, x1 = min(p[0] for p in points) - margin, max(p[0] for p in points) + margin
    y0, y1 = min(p[1] for p in points) - margin, max(p[1] for p in points) + margin
    low = (max(0, int(np.floor(x0 * scale))), max(0, int(np.floor(y0 * scale))))
    return (*low, min(size, int(np.ceil(x1 * scale))), min(size, int(np.ceil(y1 * scale))))


def _contour(head: Head, identity: Identity, pose: Pose) -> list[Point]:
    """The face's outline, clockwise from the top; the jaw drops with `pose.jaw`."""
    w, jw, cw, h = identity.face_width, identity.jaw_width, identity.chin_width, identity.face_height
    drop = 15.0 * pose.jaw
    right = (
        (w * 0.52, -h + 6, 0.0),
        (w * 0.88, -h * 0.62, 0.0),
        (w * 0.99, -h * 0.18, 0.0),
        (w * 0.985 + identity.cheek * 0.6, h * 0.14, 0.0),
        (w * 0.93 + identity.cheek, h * 0.40, 0.12),
        (jw - 1.2 * pose.jaw, h * 0.66, 0.45),
        (0.5 * (jw + cw) * 0.98, h * 0.87, 0.85),
        (cw * 0.78, h * 0.985, 1.0),
    )
    points = [head.free(0, -h, 4)]
    points += [head.rim(x, y + drop * d, 4 + 14 * d) for x, y, d in right]
    points.append(head.free(0, h * 1.012 + drop, 22))
    points += [head.rim(-x, y + drop * d, 4 + 14 * d) for x, y, d in right[::-1]]
    return points


def _draw_face(canvas: skia.Canvas, head: Head, identity: Identity, pose: Pose) -> None:
    """Skin with its shading: side light, cheeks, forehead, jaw; beard and freckles lie on it."""
    contour = _contour(head, identity, pose)
    face = smooth(contour, closed=True)
    w, h, drop = identity.face_width, identity.face_height, 15.0 * pose.jaw
    light, strength = identity.light, abs(identity.light)
    toward = 1.0 if light > 0 else -1.0
    bright = mix(identity.skin, skin_light(identity), 0.25 + 0.15 * strength)
    dim = skin_shadow(identity, 0.30 + 0.35 * strength)
    canvas.drawPath(
        face,
        linear(
            head.free(toward * w, -h * 0.4, 0),
            head.free(-toward * w, h * 0.5, 0),
            ((0.0, argb(bright)), (0.45, argb(identity.skin)), (1.0, argb(dim))),
        ),
    )
    canvas.save()
    canvas.clipPath(face, True)
    canvas.drawPath(face, stroke(skin_shadow(identity, 1.1), 14, 0.50, 5.5))
    glow(canvas, head.at(0.25 * w * light, -h * 0.5), w * 0.75, 26, skin_light(identity), 0.38)
    for side in (-1.0, 1.0):
        lit = max(0.0, 0.45 + 0.55 * side * light)
        glow(canvas, head.at(side * w * 0.55, 22 - 3.0 * pose.smile), 26, 18, (0.88, 0.34, 0.32), 0.65 * identity.blush)
        glow(canvas, head.at(side * w * 0.52, 12 - 2.0 * pose.smile), 21, 12, skin_light(identity), 0.55 * lit)
        _draw_fold(canvas, head, identity, pose, side)
    s = mouth_shape(identity, pose)
    glow(canvas, head.at(0, s.lower_outer + 4.0, 3), s.half_width * 0.75, 5.5, skin_shadow(identity, 1.1), 0.50)
    glow(canvas, head.at(0, h * 0.88 + drop, 4), 17, 9, skin_light(identity), 0.32)
    glow(canvas, head.at(0, s.upper_outer - 5.0, 3), 5, 8, skin_shadow(identity), 0.30)
    if identity.freckles > 0:
        for i in range(26):
            u, v = (i * 0.754878 + identity.texture_phase) % 1.0, (i * 0.569840) % 1.0
            canvas.drawCircle(
                *head.at(w * 1.5 * (u - 0.5), 6 + 18 * v, 2), 0.9, fill((0.55, 0.32, 0.20), 0.30 * identity.freckles)
            )
    draw_beard(canvas, head, identity, pose, contour[4:15])
    canvas.restore()


def _draw_fold(canvas: skia.Canvas, head: Head, identity: Identity, pose: Pose, side: float) -> None:
    """The crease from the nose to beside the mouth; it deepens with width and smile."""
    s = mouth_shape(identity, pose)
    depth = 0.05 + 0.26 * identity.wrinkles + 0.22 * max(0.0, pose.smile) + 0.12 * max(0.0, pose.width)
    x = s.half_width + 5.0
    crease = [
        head.at(side * identity.nose_width * 1.2, 26, 4),
        head.at(side * (x * 0.82), 36, 3),
        head.at(side * x, s.corner_y - 5, 2),
    ]
    canvas.drawPath(smooth(crease), stroke(skin_shadow(identity, 1.2), 3.0, depth, 1.8))
    if identity.wrinkles > 0.3:
        corner = side * (identity.eye_spacing + identity.eye_width)
        for dy in (-4, 1):
            canvas.drawLine(
                *head.at(corner + side * 3, dy),
                *head.at(corner + side * 9, dy * 1.8),
                stroke(skin_shadow(identity, 1.2), 1.0, 0.3 * identity.wrinkles, 0.5),
            )
