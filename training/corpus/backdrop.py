"""What is behind and below the face: room, neck, clothes."""

from __future__ import annotations

import skia

from .features import skin_light, skin_shadow
from .geometry import Head, Point, argb, difference, fill, glow, linear, polygon, radial, smooth, stroke
from .identity import Identity, Rgb, mix, tint
from .motion import Pose


def draw_backdrop(canvas: skia.Canvas, identity: Identity) -> None:
    """Fills the 256x256 frame behind the person."""
    a, b, c = identity.backdrop_colours
    kind, phase = identity.backdrop, identity.texture_phase
    if kind == "radial":
        canvas.drawPaint(
            radial((128 + 50 * identity.light, 96), 210, ((0.0, argb(mix(a, (1, 1, 1), 0.25))), (1.0, argb(b))))
        )
    else:
        x = 128 + 128 * identity.light
        canvas.drawPaint(linear((x, 0), (256 - x, 256), ((0.0, argb(mix(a, (1, 1, 1), 0.12))), (1.0, argb(b)))))
    if kind == "window":
        x = 10 + 130 * phase
        light = mix(c, (1.0, 0.98, 0.92), 0.75)
        canvas.drawRect(skia.Rect.MakeXYWH(x, -6, 96, 132), fill(mix(b, (0.15, 0.12, 0.12), 0.25), 0.8, 1.5))
        canvas.drawRect(
            skia.Rect.MakeXYWH(x + 5, -6, 86, 126),
            linear((0, 0), (0, 120), ((0.0, argb(light)), (1.0, argb(mix(light, c, 0.5))))),
        )
        canvas.drawRect(skia.Rect.MakeXYWH(x + 45, -6, 5, 126), fill(mix(b, (0.15, 0.12, 0.12), 0.25), 0.8, 1.0))
    elif kind == "shelf":
        _draw_shelf(canvas, identity)
    elif kind == "panel":
        for i in range(5):
            x = i * 62 - 40 * phase
            canvas.drawRect(skia.Rect.MakeXYWH(x, 0, 3, 256), fill(tint(b, (0.7, 0.7, 0.72)), 0.5, 1.2))
            canvas.drawRect(skia.Rect.MakeXYWH(x + 4, 0, 2, 256), fill(mix(a, (1, 1, 1), 0.4), 0.35, 1.0))
    elif kind == "bokeh":
        for i in range(14):
            u, v = (i * 0.618 + phase) % 1.0, (i * 0.3819 + phase * 1.7) % 1.0
            radius = 10 + 22 * ((i * 0.273 + phase) % 1.0)
            canvas.drawCircle(256 * u, 210 * v, radius, fill(mix(c, (1, 0.97, 0.9), v), 0.20, 2.0))
    elif kind == "arch":
        rect = skia.Rect.MakeLTRB(28, 16, 228, 420)
        canvas.drawRoundRect(
            rect, 100, 100, linear((0, 16), (0, 256), ((0.0, argb(mix(c, (1, 1, 1), 0.25))), (1.0, argb(c))))
        )
    canvas.drawPaint(
        radial(
            (128, 110),
            215,
            ((0.0, argb((0, 0, 0), 0)), (0.62, argb((0, 0, 0), 0)), (1.0, argb((0.03, 0.02, 0.06), 0.32))),
        )
    )


def _draw_shelf(canvas: skia.Canvas, identity: Identity) -> None:
    _, b, c = identity.backdrop_colours
    phase = identity.texture_phase
    for row in range(2):
        y = 70 + 92 * row
        canvas.drawRect(skia.Rect.MakeXYWH(-4, y, 264, 7), fill(tint(b, (0.62, 0.55, 0.5)), 0.9, 1.0))
        for i in range(13):
            k = (i * 0.618 + row * 0.37 + phase) % 1.0
            colour = mix(mix(c, b, k), (0.95, 0.9, 0.8), 0.3 * ((k * 7) % 1.0))
            height = 34 + 20 * ((k * 5) % 1.0)
            canvas.drawRect(skia.Rect.MakeXYWH(i * 21 - 8, y - height, 13 + 6 * k, height), fill(colour, 0.85, 1.6))


def _torso_lift(pose: Pose) -> Point:
    return 0.35 * pose.shift_x, -1.6 * pose.breath + 0.3 * pose.shift_y


def draw_body(canvas: skia.Canvas, head: Head, identity: Identity, pose: Pose) -> None:
    """Neck and clothes, with the shade of the chin on them."""
    dx, dy = _torso_lift(pose)
    half_neck = identity.jaw_width * 0.61
    top_l, top_r = head.free(-half_neck * 0.94, 52, -16), head.free(half_neck * 0.94, 52, -16)
    cx = 128 + dx
    y0 = 226 + dy
    canvas.drawPath(_neck_fill(identity, cx, half_neck, y0, top_l, top_r, dy), _neck_paint(identity, cx, half_neck))
    chin = head.free(0, identity.face_height + 8 + 12 * pose.jaw, 14)
    glow(canvas, chin, half_neck * 1.25, 24, skin_shadow(identity, 1.25), 0.85)
    _draw_clothes(canvas, identity, cx, dy, half_neck)


def _neck_paint(identity: Identity, cx: float, half: float) -> skia.Paint:
    light = 0.5 + 0.5 * identity.light
    left = mix(skin_shadow(identity, 0.85), identity.skin, 1 - light)
    right = mix(skin_shadow(identity, 0.85), identity.skin, light)
    middle = skin_shadow(identity, 0.25)
    return linear(
        (cx - half * 1.2, 0), (cx + half * 1.2, 0), ((0.0, argb(left)), (0.5, argb(middle)), (1.0, argb(right)))
    )


def _neck_fill(
    identity: Identity, cx: float, half: float, y0: float, top_l: Point, top_r: Point, dy: float
) -> skia.Path:
    path = smooth(
        [top_l, (cx - half, 206 + dy), (cx - half * 1.35, y0 - 4), (cx - half * 2.3, y0 + 14), (cx - half * 2.3, 270)]
    )
    right = smooth(
        [(cx + half * 2.3, 270), (cx + half * 2.3, y0 + 14), (cx + half * 1.35, y0 - 4), (cx + half, 206 + dy), top_r]
    )
    path.addPath(right, skia.Path.AddPathMode.kExtend_AddPathMode)
    path.close()
    return path


def _shoulders(identity: Identity, cx: float, dy: float, half_neck: float, collar_y: float, depth: float) -> skia.Path:
    """Garment outline; `depth` is how far the neckline dips below the collar at the sides."""
    w = identity.shoulder_width
    neck_x = half_neck * 1.22
    points = [(cx - w - 14, 276), (cx - w, 246 + dy), (cx - w * 0.72, 231 + dy), (cx - neck_x, collar_y)]
    path = smooth(points)
    path.addPath(
        smooth(
            [
                (cx - neck_x, collar_y),
                (cx - neck_x * 0.6, collar_y + depth * 0.82),
                (cx, collar_y + depth),
                (cx + neck_x * 0.6, collar_y + depth * 0.82),
                (cx + neck_x, collar_y),
            ]
        ),
        skia.Path.AddPathMode.kExtend_AddPathMode,
    )
    path.addPath(smooth([(2 * cx - x, y) for x, y in points[::-1]]), skia.Path.AddPathMode.kExtend_AddPathMode)
    path.close()
    return path


def _cloth_paint(identity: Identity, c: Rgb) -> skia.Paint:
    x = 128 + 110 * identity.light
    return linear(
        (x, 215), (256 - x, 262), ((0.0, argb(mix(c, (1, 1, 1), 0.14))), (1.0, argb(tint(c, (0.66, 0.64, 0.70)))))
    )


def _draw_clothes(canvas: skia.Canvas, identity: Identity, cx: float, dy: float, half_neck: float) -> None:
    c, kind = identity.clothes_colour, identity.clothes
    collar_y, depth = {
        "crew": (218, 17), "v_neck": (219, 14), "shirt": (216, 14), "suit": (216, 14), "hoodie": (216, 20),
        "turtleneck": (214, 14),
    }[kind]  # fmt: skip
    collar_y += dy
    garment = _shoulders(identity, cx, dy, half_neck, collar_y, depth)
    if kind == "v_neck":
        cut = polygon([(cx - half_neck * 1.2, collar_y - 1), (cx + half_neck * 1.2, collar_y - 1), (cx, collar_y + 40)])
        garment = difference(garment, cut)
    canvas.drawPath(garment, fill((0.05, 0.02, 0.03), 0.35, 3.0))
    canvas.drawPath(garment, _cloth_paint(identity, c))
    _draw_pattern(canvas, identity, garment, cx, dy)
    _CLOTHES_DETAIL[kind](canvas, identity, cx, collar_y, half_neck)
    for s in (-1.0, 1.0):
        fold = smooth(
            [
                (cx + s * half_neck * 1.9, 262),
                (cx + s * half_neck * 2.05, 250 + dy),
                (cx + s * half_neck * 2.5, 240 + dy),
            ]
        )
        canvas.drawPath(fold, stroke(tint(c, (0.45, 0.42, 0.48)), 2.0, 0.35, 1.5))


def _draw_pattern(canvas: skia.Canvas, identity: Identity, garment: skia.Path, cx: float, dy: float) -> None:
    if identity.pattern == "plain" or identity.clothes == "suit":
        return
    ink = mix(identity.clothes_accent, identity.clothes_colour, 0.25)
    canvas.save()
    canvas.clipPath(garment, True)
    if identity.pattern == "dots":
        for i in range(17):
            for j in range(4):
                canvas.drawCircle(cx - 128 + 16 * i + 8 * (j % 2), 222 + dy + 11 * j, 2.2, fill(ink, 0.8))
    else:
        for j in range(5):
            canvas.drawRect(skia.Rect.MakeXYWH(cx - 140, 221 + dy + 10 * j, 280, 3.5), fill(ink, 0.65))
        if identity.pattern == "check":
            for i in range(18):
                canvas.drawRect(skia.Rect.MakeXYWH(cx - 140 + 16 * i, 200, 4.0, 80), fill(ink, 0.45))
    canvas.restore()


def _rib(canvas: skia.Canvas, identity: Identity, cx: float, y: float, half: float) -> None:
    """Round neckband."""
    x = half * 1.22
    band = smooth([(cx - x, y), (cx - x * 0.6, y + 14), (cx, y + 17), (cx + x * 0.6, y + 14), (cx + x, y)])
    canvas.drawPath(band, stroke(tint(identity.clothes_colour, (0.72, 0.70, 0.74)), 5.0, 0.9))
    canvas.drawPath(band, stroke(mix(identity.clothes_colour, (1, 1, 1), 0.2), 1.0, 0.5))


def _vee(canvas: skia.Canvas, identity: Identity, cx: float, y: float, half: float) -> None:
    paint = stroke(tint(identity.clothes_colour, (0.7, 0.68, 0.72)), 4.0, 0.9)
    for s in (-1.0, 1.0):
        canvas.drawLine(cx + s * half * 1.18, y, cx, y + 39, paint)
    glow(canvas, (cx, y + 16), half, 12, skin_light(identity), 0.15)


def _collar(canvas: skia.Canvas, c: Rgb, cx: float, y: float, half: float) -> None:
    for s in (-1.0, 1.0):
        flap = polygon(
            [
                (cx + s * half * 1.28, y - 7),
                (cx + s * half * 1.05, y - 9),
                (cx, y + 16),
                (cx + s * half * 0.52, y + 31),
                (cx + s * half * 1.5, y + 7),
            ]
        )
        canvas.drawPath(flap, fill((0.05, 0.03, 0.05), 0.35, 2.0))
        canvas.drawPath(
            flap,
            linear(
                (cx, y),
                (cx + s * half * 1.4, y + 10),
                ((0.0, argb(mix(c, (1, 1, 1), 0.22))), (1.0, argb(tint(c, (0.82, 0.81, 0.85))))),
            ),
        )


def _shirt(canvas: skia.Canvas, identity: Identity, cx: float, y: float, half: float) -> None:
    canvas.drawLine(cx, y + 16, cx, 262, stroke(tint(identity.clothes_colour, (0.6, 0.58, 0.62)), 1.4, 0.7))
    _collar(canvas, identity.clothes_colour, cx, y, half)
    canvas.drawCircle(cx, y + 33, 1.9, fill(mix(identity.clothes_colour, (1, 1, 1), 0.5)))


def _suit(canvas: skia.Canvas, identity: Identity, cx: float, y: float, half: float) -> None:
    white: Rgb = (0.93, 0.93, 0.95)
    canvas.drawPath(
        polygon(
            [(cx - half * 1.25, y - 2), (cx + half * 1.25, y - 2), (cx + half * 0.75, 264), (cx - half * 0.75, 264)]
        ),
        fill(white),
    )
    accent = identity.clothes_accent
    canvas.drawPath(
        polygon(
            [(cx - 6, y + 15), (cx + 6, y + 15), (cx + 4, y + 24), (cx + 10, 264), (cx - 10, 264), (cx - 4, y + 24)]
        ),
        linear((cx - 9, 0), (cx + 9, 0), ((0.0, argb(accent)), (1.0, argb(tint(accent, (0.6, 0.6, 0.62)))))),
    )
    _collar(canvas, white, cx, y, half)
    for s in (-1.0, 1.0):
        lapel = polygon(
            [
                (cx + s * half * 1.34, y - 2),
                (cx + s * half * 0.78, y + 42),
                (cx + s * half * 0.7, 268),
                (cx + s * half * 1.7, 268),
                (cx + s * half * 1.95, y + 22),
                (cx + s * half * 1.6, y + 17),
            ]
        )
        canvas.drawPath(lapel, fill((0.03, 0.02, 0.03), 0.4, 2.0))
        canvas.drawPath(lapel, _cloth_paint(identity, mix(identity.clothes_colour, (1, 1, 1), 0.05)))


def _hoodie(canvas: skia.Canvas, identity: Identity, cx: float, y: float, half: float) -> None:
    c = identity.clothes_colour
    for s in (-1.0, 1.0):
        hood = smooth(
            [
                (cx + s * half * 1.12, y - 8),
                (cx + s * half * 1.75, y - 3),
                (cx + s * half * 1.95, y + 12),
                (cx + s * half * 0.8, y + 34),
                (cx, y + 30),
                (cx + s * half * 0.72, y + 17),
            ],
            closed=True,
        )
        canvas.drawPath(hood, fill((0.03, 0.02, 0.03), 0.35, 2.5))
        canvas.drawPath(
            hood,
            linear(
                (cx, y),
                (cx + s * half * 1.9, y + 14),
                ((0.0, argb(tint(c, (0.62, 0.60, 0.65)))), (1.0, argb(mix(c, (1, 1, 1), 0.12)))),
            ),
        )
        canvas.drawLine(cx + s * half * 0.45, y + 30, cx + s * half * 0.5, 262, stroke(mix(c, (1, 1, 1), 0.7), 2.0))


def _turtleneck(canvas: skia.Canvas, identity: Identity, cx: float, y: float, half: float) -> None:
    c = identity.clothes_colour
    band = smooth(
        [
            (cx - half * 1.12, y - 14),
            (cx, y - 7),
            (cx + half * 1.12, y - 14),
            (cx + half * 1.3, y + 6),
            (cx, y + 17),
            (cx - half * 1.3, y + 6),
        ],
        closed=True,
        tension=0.8,
    )
    canvas.drawPath(band, fill((0.03, 0.02, 0.03), 0.3, 2.0))
    canvas.drawPath(
        band,
        linear(
            (cx - half * 1.2, 0),
            (cx + half * 1.2, 0),
            (
                (0.0, argb(tint(c, (0.72, 0.7, 0.74)))),
                (0.5, argb(mix(c, (1, 1, 1), 0.12))),
                (1.0, argb(tint(c, (0.72, 0.7, 0.74)))),
            ),
        ),
    )
    for i in range(-4, 5):
        canvas.drawLine(
            cx + i * half * 0.24, y - 8, cx + i * half * 0.27, y + 12, stroke(tint(c, (0.6, 0.58, 0.62)), 0.9, 0.35)
        )


_CLOTHES_DETAIL = {
    "crew": _rib, "v_neck": _vee, "shirt": _shirt, "suit": _suit, "hoodie": _hoodie, "turtleneck": _turtleneck,
}  # fmt: skip
