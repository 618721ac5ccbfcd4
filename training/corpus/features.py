"""Eyes, brows, nose, ears, glasses."""

from __future__ import annotations

import math
from collections.abc import Callable

import skia

from .geometry import Head, Point, argb, fill, glow, linear, radial, smooth, stroke
from .identity import Identity, Rgb, mix, tint
from .motion import Pose

EYE_Y = -3.0

EyePlace = Callable[[float, float], Point]


def skin_shadow(identity: Identity, depth: float = 1.0) -> Rgb:
    """The skin in shade: darker, warmer."""
    return mix(identity.skin, tint(identity.skin, (0.62, 0.46, 0.44)), depth)


def skin_light(identity: Identity) -> Rgb:
    """The skin where light falls."""
    warm = (1.0, 0.93, 0.84) if identity.light_warmth > 0 else (0.96, 0.96, 1.0)
    return mix(identity.skin, warm, 0.55)


def draw_eye(canvas: skia.Canvas, head: Head, identity: Identity, pose: Pose, side: float) -> None:
    """One eye; `side` is -1 for the left of the picture, 1 for the right."""
    cx, w = side * identity.eye_spacing, identity.eye_width
    squint = 0.10 * max(0.0, pose.smile)
    lid = identity.eye_height * (1.0 + 0.12 * max(0.0, pose.brow) + 0.10 * pose.gaze_y * -1.0)
    open_up, open_down = (
        lid * (1.0 - pose.blink) * (1.0 - squint),
        identity.eye_height * 0.55 * (1.0 - 0.55 * pose.blink),
    )
    closed_y = identity.eye_height * 0.42 * pose.blink

    def at(u: float, y: float) -> Point:
        """Eye coordinates: u runs from the inner (-1) to the outer corner (1)."""
        return head.at(cx + side * u * w, EYE_Y + y - identity.eye_tilt * u)

    upper = [
        at(-1.0, 1.6),
        at(-0.55, closed_y - open_up * 0.62),
        at(0.05, closed_y - open_up),
        at(0.62, closed_y - open_up * 0.70),
        at(1.0, 0.0),
    ]
    lower = [at(1.0, 0.0), at(0.55, open_down * 0.80), at(0.0, open_down), at(-0.6, open_down * 0.72), at(-1.0, 1.6)]
    # Socket shade and the lid's skin.
    glow(canvas, at(-0.1, -7.5), w * 1.45, 9.5, skin_shadow(identity), 0.42)
    glow(canvas, at(0.1, 8.5), w * 1.2, 6.5, skin_shadow(identity), 0.22 + 0.2 * identity.wrinkles)
    shape = smooth(upper)
    shape.addPath(smooth(lower), skia.Path.AddPathMode.kExtend_AddPathMode)
    shape.close()
    if pose.blink < 0.93:
        _draw_eyeball(canvas, identity, pose, shape, at)
    _draw_lids(canvas, identity, pose, upper, lower, at)


def _draw_eyeball(canvas: skia.Canvas, identity: Identity, pose: Pose, shape: skia.Path, at: EyePlace) -> None:
    h = identity.eye_height
    canvas.save()
    canvas.clipPath(shape, True)
    white = ((0.0, argb((0.70, 0.68, 0.70))), (0.45, argb((0.95, 0.945, 0.94))), (1.0, argb((0.90, 0.86, 0.86))))
    canvas.drawPath(shape, linear(at(0, -h), at(0, h * 0.6), white))
    radius = max(5.6, h * 0.90)
    # Gaze is the viewer's left and right, so it must not mirror with the side.
    base = at(0.0, -0.12 * h + 2.6 * pose.gaze_y)
    centre = (base[0] + 4.6 * pose.gaze_x, base[1])
    iris, dark = identity.iris, tint(identity.iris, (0.30, 0.30, 0.32))
    bright = mix(iris, (1.0, 0.92, 0.75), 0.30)
    stops = ((0.0, argb(dark)), (0.40, argb(iris)), (0.78, argb(bright)), (0.90, argb(iris)), (1.0, argb(dark)))
    canvas.drawCircle(*centre, radius, radial((centre[0], centre[1] + radius * 0.25), radius * 1.12, stops))
    canvas.drawCircle(*centre, radius * 0.45, fill((0.03, 0.025, 0.03)))
    spark = 0.32 * radius * (1.0 if identity.light > 0 else -1.0)
    canvas.drawCircle(centre[0] + spark, centre[1] - 0.36 * radius, radius * 0.23, fill((1, 1, 1), 0.95))
    canvas.drawCircle(centre[0] - spark, centre[1] + 0.42 * radius, radius * 0.13, fill((1, 1, 1), 0.40))
    canvas.drawPath(shape, stroke((0.12, 0.07, 0.08), 3.0, 0.45, 1.2))
    glow(canvas, at(-0.95, 1.4), 2.6, 2.2, (0.80, 0.42, 0.40), 0.7)
    canvas.restore()


def _draw_lids(
    canvas: skia.Canvas, identity: Identity, pose: Pose, upper: list[Point], lower: list[Point], at: EyePlace
) -> None:
    ink = mix(tint(identity.hair, (0.4, 0.4, 0.4)), (0.07, 0.045, 0.05), 0.7)
    h = identity.eye_height
    crease_y = -h - 3.6 - 1.5 * max(0.0, pose.brow) + 2.2 * pose.blink
    crease = smooth(
        [at(-0.85, crease_y * 0.45), at(-0.3, crease_y * 0.92), at(0.3, crease_y), at(1.02, crease_y * 0.42)]
    )
    canvas.drawPath(crease, stroke(skin_shadow(identity, 1.15), 1.25, 0.62, 0.35))
    # The lash line swells towards the outer corner.
    weight = 1.1 + 1.1 * identity.lashes
    thick = [(x, y - t * weight) for (x, y), t in zip(upper, (0.2, 0.7, 1.2, 1.5, 0.6), strict=True)]
    line = smooth(upper)
    line.addPath(smooth(thick[::-1]), skia.Path.AddPathMode.kExtend_AddPathMode)
    line.close()
    canvas.drawPath(line, fill(ink))
    canvas.drawPath(smooth(upper), stroke(ink, 1.0))
    if identity.lashes > 0.3:
        tip = at(1.22, -2.6 * (1.0 - 2.0 * pose.blink) - 0.6)
        canvas.drawPath(smooth([upper[3], upper[4], tip]), stroke(ink, 1.3))
        far = at(0.86, (-h * 0.75 - 2.2) * (1.0 - pose.blink) + (h * 0.42 + 4.0) * pose.blink)
        canvas.drawLine(*upper[3], *far, stroke(ink, 1.0, identity.lashes))
    canvas.drawPath(smooth(lower), stroke(mix(ink, identity.skin, 0.35), 0.8, 0.55))


def draw_brow(canvas: skia.Canvas, head: Head, identity: Identity, pose: Pose, side: float) -> None:
    """One eyebrow: a tapered soft-edged shape."""
    cx, w = side * identity.eye_spacing, identity.eye_width
    y = EYE_Y - identity.eye_height - 11.0 - 6.0 * pose.brow
    top, bottom = [], []
    for u, arch, size in (
        (-1.25, 0.0, 0.75),
        (-0.6, 0.55, 1.0),
        (0.1, 1.0, 0.95),
        (0.75, 0.95, 0.65),
        (1.4, 0.1, 0.12),
    ):
        yy = y - identity.brow_arch * arch - identity.brow_tilt * u + 2.0 * max(0.0, -pose.brow) * max(0.0, -u)
        top.append(head.at(cx + side * u * w, yy - identity.brow_thickness * size * 0.5, 2.0))
        bottom.append(head.at(cx + side * u * w, yy + identity.brow_thickness * size * 0.5, 2.0))
    shape = smooth(top)
    shape.addPath(smooth(bottom[::-1]), skia.Path.AddPathMode.kExtend_AddPathMode)
    shape.close()
    colour = mix(tint(identity.hair, (0.62, 0.60, 0.60)), tint(identity.skin, (0.45, 0.38, 0.36)), 0.25)
    canvas.drawPath(shape, fill(colour, 0.45, 1.2))
    canvas.drawPath(shape, fill(colour, 0.80, 0.35))
    for u in (-1.05, -0.75, -0.45, -0.1, 0.25, 0.6):
        i = u + 1.25
        foot = head.at(
            cx + side * u * w,
            y - identity.brow_arch * min(1.0, i * 0.8) - identity.brow_tilt * u + identity.brow_thickness * 0.4,
            2.0,
        )
        tip = head.at(
            cx + side * (u + 0.25) * w,
            y - identity.brow_arch * min(1.0, i * 0.9) - identity.brow_tilt * u - identity.brow_thickness * 0.5,
            2.0,
        )
        canvas.drawLine(*foot, *tip, stroke(tint(colour, (0.6, 0.6, 0.6)), 0.7, 0.35))


def draw_nose(canvas: skia.Canvas, head: Head, identity: Identity) -> None:
    """Bridge, tip, nostrils; the shade falls away from the light."""
    w, tip_y = identity.nose_width, EYE_Y + identity.nose_length
    dark = skin_shadow(identity, 1.1)
    shade = -1.0 if identity.light > 0 else 1.0
    strength = 0.30 + 0.25 * abs(identity.light)
    side_path = smooth(
        [
            head.at(shade * 4.5, -10, 3),
            head.at(shade * 5.5, 4, 8),
            head.at(shade * w * 0.72, tip_y - 4, 14),
            head.at(shade * w * 0.98, tip_y + 2, 6),
        ]
    )
    canvas.drawPath(side_path, stroke(dark, 4.5, strength, 2.2))
    canvas.drawPath(smooth([head.at(-shade * 5.0, -8, 3), head.at(-shade * 5.5, 2, 6)]), stroke(dark, 3.5, 0.25, 2.0))
    glow(canvas, head.at(0, tip_y + 7.0, 6), w * 1.5, 5.5, dark, 0.55)
    bridge = [head.at(0, -9, 7), head.at(0, tip_y - 7, 16)]
    canvas.drawLine(*bridge[0], *bridge[1], stroke(skin_light(identity), 4.0, 0.42, 2.2))
    glow(canvas, head.at(0, tip_y + 1.5, 16), w * 0.95, 7.0, mix(identity.skin, (0.85, 0.36, 0.32), 0.35), 0.40)
    glow(canvas, head.at(-shade * 1.8, tip_y - 2.0, 18), 5.0, 4.2, skin_light(identity), 0.75)
    for s in (-1.0, 1.0):
        wing = smooth(
            [
                head.at(s * w * 0.92, tip_y - 3.5, 8),
                head.at(s * w * 1.06, tip_y + 1.5, 6),
                head.at(s * w * 0.84, tip_y + 5.0, 7),
                head.at(s * w * 0.6, tip_y + 4.4, 10),
            ]
        )
        canvas.drawPath(wing, stroke(dark, 1.6, 0.70, 0.5))
        nostril = smooth(
            [
                head.at(s * w * 0.24, tip_y + 4.8, 12),
                head.at(s * w * 0.50, tip_y + 3.2, 11),
                head.at(s * w * 0.72, tip_y + 4.2, 9),
                head.at(s * w * 0.48, tip_y + 5.8, 11),
            ],
            closed=True,
        )
        canvas.drawPath(nostril, fill(tint(dark, (0.45, 0.36, 0.36)), 0.85, 0.4))
    canvas.drawPath(
        smooth([head.at(-w * 0.3, tip_y + 6.0, 12), head.at(0, tip_y + 7.2, 13), head.at(w * 0.3, tip_y + 6.0, 12)]),
        stroke(dark, 1.3, 0.6, 0.5),
    )


def draw_ear(canvas: skia.Canvas, head: Head, identity: Identity, side: float) -> None:
    """One ear, behind the face."""
    e, x0 = identity.ear_size, identity.face_width
    outline = ((-3, -12), (4, -17), (10, -14), (11, -4), (8, 7), (4, 14), (-2, 15), (-6, 4))
    points = [head.free(side * (x0 + dx * e), 6 + dy * e, -8 - dx) for dx, dy in outline]
    light = identity.light * side
    c = mix(identity.skin, skin_light(identity), 0.25 * max(0.0, light))
    canvas.drawPath(
        smooth(points, closed=True),
        linear(points[1], points[5], ((0.0, argb(c)), (1.0, argb(skin_shadow(identity, 0.45))))),
    )
    inner = [
        head.free(side * (x0 + dx * e), 6 + dy * e, -8) for dx, dy in ((1, -11), (7, -11), (7.5, -3), (4, 4), (2.5, 8))
    ]
    canvas.drawPath(smooth(inner), stroke(skin_shadow(identity, 1.1), 1.6, 0.7, 0.5))
    glow(canvas, head.free(side * (x0 + 2 * e), 6, -8), 5.0, 7.0, skin_shadow(identity, 1.2), 0.6)
    if identity.earrings:
        x, y = head.free(side * (x0 + 3.0 * e), 6 + 17 * e, -8)
        canvas.drawCircle(
            x, y, 3.0, radial((x - 1, y - 1), 4.0, ((0.0, argb((1.0, 0.96, 0.80))), (1.0, argb((0.72, 0.55, 0.20)))))
        )


def draw_glasses(canvas: skia.Canvas, head: Head, identity: Identity) -> None:
    """Rims, bridge, temples and a faint reflection."""
    if identity.glasses == "none":
        return
    rx, ry = identity.eye_width + 7.0, identity.eye_height + 9.0
    power = {"round": 1.0, "square": 0.45, "thin": 0.62}[identity.glasses]
    weight = {"round": 2.2, "square": 3.2, "thin": 1.3}[identity.glasses]
    rim = stroke(identity.glasses_colour, weight)
    for side in (-1.0, 1.0):
        cx = side * identity.eye_spacing
        points = []
        for i in range(16):
            a = 2 * math.pi * i / 16
            c, s = math.cos(a), math.sin(a)
            points.append(
                head.free(
                    cx + rx * math.copysign(abs(c) ** power, c),
                    EYE_Y + 1 + ry * math.copysign(abs(s) ** power, s),
                    54.0 - 8.0 * side * c,
                )
            )
        lens = smooth(points, closed=True)
        canvas.drawPath(
            lens,
            linear(
                points[10],
                points[2],
                ((0.0, argb((1, 1, 1), 0.22)), (0.35, argb((1, 1, 1), 0.03)), (1.0, argb((0.7, 0.8, 0.9), 0.10))),
            ),
        )
        canvas.drawPath(lens, stroke((0.05, 0.03, 0.03), weight, 0.22, 1.4))
        canvas.drawPath(lens, rim)
        hinge = head.free(side * (identity.eye_spacing + rx), EYE_Y - 4, 44)
        canvas.drawLine(*hinge, *head.free(side * (identity.face_width + 3), EYE_Y - 4, -6), rim)
    inner = identity.eye_spacing - rx
    canvas.drawPath(
        smooth([head.free(-inner, EYE_Y - 1, 60), head.free(0, EYE_Y - 4, 62), head.free(inner, EYE_Y - 1, 60)]), rim
    )
