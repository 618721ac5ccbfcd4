"""Hair in two layers: what hangs behind the head, and the cap with its hairline in front; beards too."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

import skia

from .features import skin_shadow
from .geometry import Head, Point, argb, fill, linear, smooth, stroke, union
from .identity import Identity, Rgb, mix, tint
from .motion import Pose
from .mouth import MouthShape, mouth_shape

Line = tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class Cut:
    """A style: hairline points (x in face half-widths, y in pixels), extra volume at top and sides, hang behind."""

    hairline: Line
    top: float
    sides: float
    hang: float = 0.0
    hang_width: float = 1.0
    waves: float = 0.0
    curls: float = 0.0
    bun: bool = False


_PULLED: Line = (
    (-0.965, -2),
    (-0.89, -28),
    (-0.74, -55),
    (-0.35, -64),
    (0.0, -66),
    (0.35, -64),
    (0.74, -55),
    (0.89, -28),
    (0.965, -2),
)
_PART: Line = (
    (-0.965, -2),
    (-0.90, -24),
    (-0.84, -46),
    (-0.52, -63),
    (-0.1, -55),
    (0.4, -50),
    (0.78, -42),
    (0.89, -24),
    (0.965, -2),
)
_UP: Line = (
    (-0.965, -2),
    (-0.90, -24),
    (-0.80, -50),
    (-0.42, -58),
    (0.0, -57),
    (0.42, -58),
    (0.80, -50),
    (0.90, -24),
    (0.965, -2),
)
_FRINGE: Line = (
    (-1.0, 12),
    (-0.95, -12),
    (-0.78, -25),
    (-0.36, -29),
    (0.0, -30),
    (0.36, -29),
    (0.78, -25),
    (0.95, -12),
    (1.0, 12),
)
_CENTRE: Line = (
    (-1.0, 20),
    (-0.95, -8),
    (-0.80, -34),
    (-0.34, -60),
    (0.0, -71),
    (0.34, -60),
    (0.80, -34),
    (0.95, -8),
    (1.0, 20),
)
_SWEEP: Line = (
    (-1.0, 8),
    (-0.95, -26),
    (-0.82, -52),
    (-0.52, -67),
    (-0.15, -56),
    (0.30, -44),
    (0.72, -31),
    (0.94, -10),
    (1.0, 12),
)
_RECEDING: Line = (
    (-0.965, -2),
    (-0.89, -22),
    (-0.83, -46),
    (-0.66, -66),
    (-0.25, -70),
    (0.25, -70),
    (0.66, -66),
    (0.83, -46),
    (0.89, -22),
    (0.965, -2),
)
_CROP: Line = (
    (-0.965, -2),
    (-0.90, -22),
    (-0.82, -43),
    (-0.40, -47),
    (0.0, -49),
    (0.40, -47),
    (0.82, -43),
    (0.90, -22),
    (0.965, -2),
)

CUTS: dict[str, Cut] = {
    "buzz": Cut(_UP, 2.0, 1.0),
    "side_part": Cut(_PART, 12.0, 4.0),
    "quiff": Cut(_UP, 19.0, 3.0),
    "fringe_bob": Cut(_FRINGE, 11.0, 8.0, 66, 1.22),
    "long_centre": Cut(_CENTRE, 10.0, 6.0, 128, 1.24),
    "long_wavy": Cut(_CENTRE, 13.0, 10.0, 124, 1.36, waves=5.0),
    "curly": Cut(_CROP, 14.0, 9.0, 10, 1.2, curls=9.0),
    "afro": Cut(_PULLED, 24.0, 22.0, 24, 1.42, curls=12.0),
    "bun": Cut(_PULLED, 6.0, 2.0, bun=True),
    "ponytail": Cut(_SWEEP, 8.0, 2.0, 118, 0.62),
    "receding": Cut(_RECEDING, 3.0, 2.0),
    "side_sweep": Cut(_SWEEP, 13.0, 6.0, 58, 1.16),
    "long_fringe": Cut(_FRINGE, 11.0, 7.0, 126, 1.22, waves=2.0),
    "crop": Cut(_CROP, 9.0, 3.0),
}


def _outer(head: Head, identity: Identity, cut: Cut, y_end: float) -> list[Point]:
    """The silhouette of the cap, from the left side over the top to the right."""
    a = identity.face_width + cut.sides * (0.7 + 0.6 * identity.hair_volume)
    top = identity.face_height + 4.0 + cut.top * (0.7 + 0.6 * identity.hair_volume)
    points = [head.rim(-a + 1.0, y_end, 4.0)]
    for i in range(11):
        angle = math.pi * (i + 0.35) / 10.7
        c, s = math.cos(angle), math.sin(angle)
        lean = 0.05 * identity.hair_side * (cut.top / 12.0)
        points.append(
            head.rim(-a * math.copysign(abs(c) ** 0.82, c) + lean * a * s, -top * s**0.86 - 4.0, 6.0 - 14.0 * s)
        )
    points.append(head.rim(a - 1.0, y_end, 4.0))
    return points


def _curl_circles(identity: Identity, points: list[Point], radius: float) -> skia.Path:
    path = skia.Path()
    for i, (x, y) in enumerate(points):
        k = (i * 0.618 + identity.texture_phase) % 1.0
        path.addCircle(x + 3 * (k - 0.5), y + 3 * (((k * 5) % 1.0) - 0.5), radius * (0.75 + 0.5 * k))
    return path


def _sheen(identity: Identity) -> tuple[Rgb, Rgb, Rgb]:
    """Highlight, base and shade of the hair."""
    warm: Rgb = (1.0, 0.90, 0.76)
    return (
        mix(identity.hair, warm, 0.13 + 0.12 * identity.hair[1]),
        identity.hair,
        tint(identity.hair, (0.52, 0.48, 0.50)),
    )


def draw_back_hair(canvas: skia.Canvas, head: Head, identity: Identity) -> None:
    """Hair behind the neck and ears."""
    cut = CUTS.get(identity.hair_style)
    if cut is None:
        return
    light, base, dark = _sheen(identity)
    if cut.bun:
        _draw_bun(canvas, head, identity)
    if cut.hang <= 0:
        return
    end = cut.hang * (0.85 + 0.25 * identity.hair_length)
    half = identity.face_width * cut.hang_width
    n = 8
    left = []
    for i in range(n):
        t = i / (n - 1)
        wave = cut.waves * math.sin(2 * math.pi * (2.2 * t + identity.texture_phase))
        # Narrow where it leaves the skull, full from the ears down.
        taper = min(1.0, 0.62 + 1.5 * t) * (1.0 - 0.10 * t * t if end < 90 else 1.0 - 0.04 * t)
        left.append((-(half * taper + wave * min(1.0, 3 * t)), -66 + (end + 66) * t))
    points = [head.free(0, -78, -26)]
    points += [head.free(x, y, -26 - 10 * (y > 60)) for x, y in left]
    points += [head.free(0, end + (4 if end < 90 else 10), -30)]
    points += [head.free(-x, y, -26 - 10 * (y > 60)) for x, y in left[::-1]]
    path = smooth(points, closed=True)
    if cut.curls:
        path = union(path, _curl_circles(identity, points, cut.curls))
    canvas.drawPath(
        path,
        linear(
            head.free(0, -60, 0),
            head.free(0, end, 0),
            ((0.0, argb(dark)), (0.45, argb(mix(dark, base, 0.6))), (1.0, argb(mix(base, dark, 0.3)))),
        ),
    )
    for i in range(-6, 7):
        if abs(i) < 2:
            continue
        x = half * i / 6.6
        wave = cut.waves * math.copysign(1.0, i)
        lock = smooth(
            [
                head.free(x * 0.95, -30, -10),
                head.free(x * 1.0 + wave, end * 0.3, -16),
                head.free(x * 0.99 - wave, end * 0.65, -20),
                head.free(x * 0.97, end - 5, -22),
            ]
        )
        canvas.drawPath(lock, stroke(light if i % 2 else dark, 2.2, 0.30, 0.6))


def _draw_bun(canvas: skia.Canvas, head: Head, identity: Identity) -> None:
    light, base, dark = _sheen(identity)
    x, y = head.free(6 * identity.hair_side, -identity.face_height - 14, -34)
    radius = 19 + 6 * identity.hair_volume
    canvas.drawCircle(
        x,
        y,
        radius,
        linear((x, y - radius), (x, y + radius), ((0.0, argb(light)), (0.5, argb(base)), (1.0, argb(dark)))),
    )
    for i in range(3):
        bow = smooth(
            [(x - radius * 0.7, y + (i - 1) * 7), (x, y - 5 + (i - 1) * 7), (x + radius * 0.7, y + (i - 1) * 7)]
        )
        canvas.drawPath(bow, stroke(dark, 1.2, 0.5))


def draw_front_hair(canvas: skia.Canvas, head: Head, identity: Identity) -> None:
    """The cap: silhouette outside, hairline inside, with a band of light and strands."""
    cut = CUTS.get(identity.hair_style)
    if cut is None:
        return
    side, w = identity.hair_side, identity.face_width
    line = [(side * x, y) for x, y in cut.hairline]
    line = line if side > 0 else line[::-1]
    inner = [head.at(x * w * 0.985, y, 2.0) for x, y in line]
    outer = _outer(head, identity, cut, max(line[0][1], line[-1][1]) if cut.hang else line[0][1])
    path = smooth(outer)
    path.lineTo(*inner[-1])
    path.addPath(smooth(inner[::-1]), skia.Path.AddPathMode.kExtend_AddPathMode)
    path.close()
    if cut.curls:
        beads = [p for a, b in pairwise(outer) for p in (a, ((a[0] + b[0]) / 2, (a[1] + b[1]) / 2))]
        path = union(path, _curl_circles(identity, beads, cut.curls))
        path = union(path, _curl_circles(identity, inner[1:-1], cut.curls * 0.75))
    if identity.hair_style == "buzz":
        short = mix(identity.hair, identity.skin, 0.30)
        canvas.drawPath(
            path,
            linear(
                outer[len(outer) // 2],
                head.at(0, -48),
                ((0.0, argb(short, 0.92)), (0.5, argb(short, 0.8)), (1.0, argb(short, 0.25))),
            ),
        )
        return
    light, base, dark = _sheen(identity)
    canvas.drawPath(path, fill(skin_shadow(identity, 1.3), 0.55, 3.2))
    top, brow = head.free(0, -identity.face_height - cut.top, 0), head.at(0, -30)
    stops = (
        (0.0, argb(mix(base, dark, 0.35))),
        (0.30, argb(base)),
        (0.48, argb(light)),
        (0.66, argb(base)),
        (1.0, argb(dark)),
    )
    canvas.drawPath(path, linear(top, brow, stops))
    canvas.save()
    canvas.clipPath(path, True)
    if cut.curls:
        _draw_curls(canvas, head, identity, cut, light, dark)
    else:
        _draw_strands(canvas, identity, cut, outer, inner, light, dark)
    shade = -1.0 if identity.light > 0 else 1.0
    edge = [head.free(shade * (w + cut.sides + 4), y, 0) for y in (20, -30, -70, -110)]
    canvas.drawPath(smooth(edge), stroke(tint(dark, (0.5, 0.5, 0.5)), 26, 0.20 + 0.25 * abs(identity.light), 9))
    canvas.restore()


def _draw_strands(
    canvas: skia.Canvas, identity: Identity, cut: Cut, outer: list[Point], inner: list[Point], light: Rgb, dark: Rgb
) -> None:
    """Locks that run from the parting to the hairline."""
    n, m = len(inner), len(outer)
    for i in range(16):
        t = (i + 0.5) / 16
        k = (i * 0.618 + identity.texture_phase) % 1.0
        a = inner[min(n - 1, int(t * n))]
        b = outer[min(m - 1, int((0.12 + 0.76 * t) * m))]
        bend = (2.0 + 4.0 * k) * (identity.hair_side if cut.top > 12.0 else 2.0 * t - 1.0)
        mid = ((a[0] + b[0]) / 2 + bend, (a[1] + b[1]) / 2 - 2.0)
        canvas.drawPath(smooth([a, mid, b]), stroke(light if i % 3 == 0 else dark, 1.2 + 2.2 * k, 0.16 + 0.14 * k))


def _draw_curls(canvas: skia.Canvas, head: Head, identity: Identity, cut: Cut, light: Rgb, dark: Rgb) -> None:
    """Small arcs spread over the cap."""
    w, top = identity.face_width + cut.sides, identity.face_height + cut.top
    pale, deep = stroke(light, 1.3, 0.45), stroke(dark, 1.6, 0.55)
    for i in range(54):
        u, v = (i * 0.754878 + identity.texture_phase) % 1.0, (i * 0.569840 + 0.37) % 1.0
        x, y = w * (2.1 * u - 1.05), -top * (0.45 + 0.62 * v)
        px, py = head.free(x, y, 20)
        r = cut.curls * (0.30 + 0.5 * ((i * 0.31) % 1.0))
        canvas.drawArc(skia.Rect.MakeLTRB(px - r, py - r, px + r, py + r), 360 * u, 200, False, deep if i % 2 else pale)


def draw_beard(canvas: skia.Canvas, head: Head, identity: Identity, pose: Pose, jaw_line: list[Point]) -> None:
    """Stubble, moustache, goatee or full beard; it follows the jaw. Drawn inside the face's clip, before the mouth."""
    if identity.beard == "none":
        return
    s = mouth_shape(identity, pose)
    colour = mix(tint(identity.hair, (0.85, 0.82, 0.82)), skin_shadow(identity), 0.12)
    drop, density = 15.0 * pose.jaw, identity.beard_density
    if identity.beard in ("stubble", "full"):
        _draw_cheek_beard(canvas, head, identity, s, colour, drop, jaw_line)
    if identity.beard == "goatee":
        chin = identity.face_height + drop
        area = [
            head.at(-17, s.lower_outer + 7),
            head.at(0, s.lower_outer + 4),
            head.at(17, s.lower_outer + 7),
            head.at(19, chin - 4),
            head.at(0, chin + 6),
            head.at(-19, chin - 4),
        ]
        canvas.drawPath(smooth(area, closed=True), fill(colour, 0.92 * density, 1.1))
    if identity.beard in ("moustache", "goatee", "full"):
        hw = s.half_width
        area = [
            head.at(-hw * 1.06, s.corner_y + 1.5, 2),
            head.at(-hw * 0.6, s.upper_outer - 4.5, 3),
            head.at(-3, s.upper_outer - 7.5, 4),
            head.at(3, s.upper_outer - 7.5, 4),
            head.at(hw * 0.6, s.upper_outer - 4.5, 3),
            head.at(hw * 1.06, s.corner_y + 1.5, 2),
            head.at(hw * 0.5, s.upper_outer + 1.0, 3),
            head.at(0, s.upper_outer + 1.8, 4),
            head.at(-hw * 0.5, s.upper_outer + 1.0, 3),
        ]
        canvas.drawPath(smooth(area, closed=True), fill(colour, 0.9 * density, 1.0))


def _draw_cheek_beard(
    canvas: skia.Canvas,
    head: Head,
    identity: Identity,
    s: MouthShape,
    colour: Rgb,
    drop: float,
    jaw_line: list[Point],
) -> None:
    w, density = identity.face_width, identity.beard_density
    cheek_y = 22 if identity.beard == "full" else 24
    top = [
        head.at(-w * 1.05, 0),
        head.at(-w * 0.86, cheek_y - 6),
        head.at(-w * 0.55, cheek_y + 12),
        head.at(-s.half_width * 0.9, s.upper_outer - 6),
        head.at(0, s.upper_outer - 7),
    ]
    mirror = [
        head.at(w * 1.05, 0),
        head.at(w * 0.86, cheek_y - 6),
        head.at(w * 0.55, cheek_y + 12),
        head.at(s.half_width * 0.9, s.upper_outer - 6),
    ]
    area = smooth(top + mirror[::-1])
    area.lineTo(*head.at(w * 1.2, 120 + drop))
    area.lineTo(*head.at(-w * 1.2, 120 + drop))
    area.close()
    alpha, blur = (0.26 * density, 4.0) if identity.beard == "stubble" else (0.92 * density, 2.2)
    canvas.drawPath(area, fill(colour, alpha, blur))
    if identity.beard == "full":
        edge = stroke(tint(colour, (0.62, 0.6, 0.6)), 10, 0.35, 4)
        canvas.drawPath(smooth(jaw_line), edge)
        canvas.drawPath(
            smooth([head.at(-8, s.lower_outer + 5), head.at(8, s.lower_outer + 5)]),
            stroke(identity.skin, 4, 0.22, 1.8),
        )
