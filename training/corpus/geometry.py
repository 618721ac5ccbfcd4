"""From points on a head to paths on a canvas: projection, smooth curves, paints."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import skia

from .identity import Rgb
from .motion import Pose

Point = tuple[float, float]

HEAD_CENTRE: Point = (128.0, 113.0)
_PIVOT_Y, _PIVOT_Z = 72.0, -22.0
_DEPTH = 60.0
_PERSPECTIVE = 780.0
_STROKE, _ROUND_CAP, _ROUND_JOIN = skia.Paint.kStroke_Style, skia.Paint.kRound_Cap, skia.Paint.kRound_Join


class Head:
    """Projects points of the head (pixels about its centre, z towards the viewer) for one pose.

    Everything drawn on the head goes through `at`, so that turning it moves features by their depth.
    """

    def __init__(self, pose: Pose, half_width: float, half_height: float) -> None:
        self._a, self._b = 1.03 * half_width, 1.09 * half_height
        yaw, pitch, roll = (math.radians(a) for a in (pose.yaw, pose.pitch, pose.roll))
        self._cy, self._sy = math.cos(yaw), math.sin(yaw)
        self._cp, self._sp = math.cos(pitch), math.sin(pitch)
        self._cr, self._sr = math.cos(roll), math.sin(roll)
        self._ox, self._oy = HEAD_CENTRE[0] + pose.shift_x, HEAD_CENTRE[1] + pose.shift_y

    def surface(self, x: float, y: float) -> float:
        """Depth of the face's ellipsoid at (x, y)."""
        return _DEPTH * math.sqrt(max(0.0, 1.0 - (x / self._a) ** 2 - (y / self._b) ** 2))

    def rim(self, x: float, y: float, z: float) -> Point:
        """Canvas position of a point of the silhouette: a turned ball stays as wide as it was."""
        return self.free(x / self._cy, y, z)

    def at(self, x: float, y: float, lift: float = 0.0) -> Point:
        """Canvas position of the point `lift` in front of the face's surface."""
        return self.free(x, y, self.surface(x, y) + lift)

    def free(self, x: float, y: float, z: float) -> Point:
        """Canvas position of a point with its own depth."""
        y, z = y - _PIVOT_Y, z - _PIVOT_Z
        x, z = x * self._cy + z * self._sy, z * self._cy - x * self._sy
        y, z = y * self._cp + z * self._sp, z * self._cp - y * self._sp
        scale = 1.0 / (1.0 - (z - 60.0) / _PERSPECTIVE)
        x, y = x * scale, y * scale
        return self._ox + x * self._cr - y * self._sr, self._oy + _PIVOT_Y + x * self._sr + y * self._cr


def smooth(points: Sequence[Point], closed: bool = False, tension: float = 1.0) -> skia.Path:
    """A Catmull-Rom curve through `points`."""
    path = skia.Path()
    n = len(points)
    k = tension / 6.0
    path.moveTo(*points[0])
    for i in range(n if closed else n - 1):
        p1, p2 = points[i], points[(i + 1) % n]
        p0 = points[i - 1] if closed or i > 0 else p1
        p3 = points[(i + 2) % n] if closed or i + 2 < n else p2
        path.cubicTo(
            p1[0] + (p2[0] - p0[0]) * k,
            p1[1] + (p2[1] - p0[1]) * k,
            p2[0] - (p3[0] - p1[0]) * k,
            p2[1] - (p3[1] - p1[1]) * k,
            p2[0],
            p2[1],
        )
    if closed:
        path.close()
    return path


def polygon(points: Sequence[Point]) -> skia.Path:
    """A closed path with straight sides."""
    path = skia.Path()
    path.moveTo(*points[0])
    for p in points[1:]:
        path.lineTo(*p)
    path.close()
    return path


def argb(c: Rgb, alpha: float = 1.0) -> int:
    """Skia's 32-bit colour; channels are in 0..1, `alpha` is clipped to it."""
    a = 255 if alpha >= 1.0 else int(255 * alpha + 0.5) if alpha > 0.0 else 0
    return (a << 24) | (int(255 * c[0] + 0.5) << 16) | (int(255 * c[1] + 0.5) << 8) | int(255 * c[2] + 0.5)


def fill(c: Rgb, alpha: float = 1.0, blur: float = 0.0) -> skia.Paint:
    """Antialiased fill; `blur` softens the edge by that many pixels (of 256)."""
    paint = skia.Paint()
    paint.setAntiAlias(True)
    paint.setColor(argb(c, alpha))
    if blur > 0:
        paint.setMaskFilter(_blur(blur))
    return paint


@lru_cache(maxsize=64)
def _blur(sigma: float) -> skia.MaskFilter:
    return skia.MaskFilter.MakeBlur(skia.BlurStyle.kNormal_BlurStyle, sigma)


def stroke(c: Rgb, width: float, alpha: float = 1.0, blur: float = 0.0) -> skia.Paint:
    """Antialiased round-capped stroke."""
    paint = fill(c, alpha, blur)
    paint.setStyle(_STROKE)
    paint.setStrokeWidth(width)
    paint.setStrokeCap(_ROUND_CAP)
    paint.setStrokeJoin(_ROUND_JOIN)
    return paint


def linear(p0: Point, p1: Point, stops: Sequence[tuple[float, int]]) -> skia.Paint:
    """Fill with a linear gradient; `stops` are (position, argb)."""
    shader = skia.GradientShader.MakeLinear([p0, p1], [c for _, c in stops], [t for t, _ in stops])
    return skia.Paint(AntiAlias=True, Shader=shader)


def radial(centre: Point, radius: float, stops: Sequence[tuple[float, int]]) -> skia.Paint:
    """Fill with a radial gradient; `stops` are (position, argb)."""
    shader = skia.GradientShader.MakeRadial(centre, radius, [c for _, c in stops], [t for t, _ in stops])
    return skia.Paint(AntiAlias=True, Shader=shader)


def glow(canvas: skia.Canvas, centre: Point, rx: float, ry: float, c: Rgb, alpha: float) -> None:
    """A soft elliptical spot of colour: highlights, blush, ambient occlusion."""
    canvas.save()
    canvas.translate(*centre)
    canvas.scale(1.0, ry / rx)
    canvas.drawCircle(
        0, 0, rx, radial((0, 0), rx, ((0.0, argb(c, alpha)), (0.5, argb(c, alpha * 0.5)), (1.0, argb(c, 0))))
    )
    canvas.restore()


def union(a: skia.Path, b: skia.Path) -> skia.Path:
    """Both areas as one path. Skia's path operations fail on rare degenerate curves: then both lie side by side."""
    try:
        return skia.Op(a, b, skia.PathOp.kUnion_PathOp)
    except RuntimeError:
        both = skia.Path(a)
        both.addPath(b)
        both.setFillType(skia.PathFillType.kWinding)
        return both


def difference(a: skia.Path, b: skia.Path) -> skia.Path:
    """The area of `a` outside `b`; `a` itself where Skia's path operation fails."""
    try:
        return skia.Op(a, b, skia.PathOp.kDifference_PathOp)
    except RuntimeError:
        return a
