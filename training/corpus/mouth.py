"""The mouth: lips, teeth, tongue and the dark between them."""

from __future__ import annotations

from dataclasses import dataclass

import skia

from .geometry import Head, Point, argb, fill, glow, linear, radial, smooth, stroke
from .identity import Identity, Rgb, mix, tint
from .motion import Pose, opening

MAX_OPENING = 33.0
_DARK: Rgb = (0.17, 0.045, 0.06)


@dataclass(frozen=True)
class MouthShape:
    """Lip contours in head coordinates (pixels of 256 about the head's centre)."""

    half_width: float
    corner_y: float
    upper_outer: float
    upper_dip: float
    upper_inner: float
    lower_inner: float
    lower_outer: float
    roundness: float
    lift: float

    @property
    def gap(self) -> float:
        """Distance between the lips at the middle."""
        return self.lower_inner - self.upper_inner


def mouth_shape(identity: Identity, pose: Pose) -> MouthShape:
    """Places the lips for one pose."""
    gap = MAX_OPENING * opening(pose)
    half = identity.mouth_width * (1.0 + 0.15 * pose.width + 0.07 * pose.smile - 0.40 * pose.rounding - 0.05 * pose.jaw)
    thick = (1.0 + 0.22 * pose.rounding) * (1.0 - 0.45 * pose.press) * (1.0 - 0.07 * pose.width)
    upper_h = identity.upper_lip * thick * (1.0 - 0.15 * pose.jaw)
    lower_h = identity.lower_lip * thick * (1.0 - 0.45 * pose.tuck) * (1.0 - 0.08 * pose.jaw)
    up, down = gap * 0.20 + 1.2 * pose.teeth * (1.0 - pose.press) * min(1.0, gap / 4), gap * 0.80
    y = identity.mouth_height
    return MouthShape(
        half_width=half,
        corner_y=y - 1.3 + gap * 0.24 - 4.0 * pose.smile * (1.0 - 0.5 * pose.rounding),
        upper_outer=y - up - upper_h,
        upper_dip=y - up - upper_h * 0.74,
        upper_inner=y - up,
        lower_inner=y + down,
        lower_outer=y + down + lower_h,
        roundness=min(1.0, 0.35 + 0.5 * pose.rounding + 0.35 * pose.jaw),
        lift=2.0 + 6.0 * pose.rounding,
    )


def _arc(head: Head, s: MouthShape, y: float, inset: float, flat: float) -> list[Point]:
    """From the left corner through (0, y) to the right one; `flat` 1 keeps the middle level, 0 makes it pointed."""
    w = s.half_width * inset
    dy = y - s.corner_y
    xs = (-1.0, -0.82, -0.5, 0.0, 0.5, 0.82, 1.0)
    side, shoulder = 0.30 + 0.28 * flat, 0.70 + 0.24 * flat
    shares = (0.0, side, shoulder, 1.0, shoulder, side, 0.0)
    return [head.at(w * x, s.corner_y + dy * t, s.lift * (1.0 - x * x)) for x, t in zip(xs, shares, strict=True)]


def _joined(top: list[Point], bottom: list[Point]) -> skia.Path:
    """The area between two arcs that run left to right."""
    path = smooth(top)
    back = smooth(bottom[::-1])
    path.addPath(back, skia.Path.AddPathMode.kExtend_AddPathMode)
    path.close()
    return path


def mouth_points(head: Head, s: MouthShape) -> list[Point]:
    """Outline points of the lips on the canvas: corners, top, bottom."""
    return [
        head.at(-s.half_width, s.corner_y),
        head.at(s.half_width, s.corner_y),
        head.at(0.0, s.upper_outer, s.lift),
        head.at(0.0, s.lower_outer, s.lift),
    ]


def draw_mouth(canvas: skia.Canvas, head: Head, identity: Identity, pose: Pose) -> None:
    """Lips with what shows between them."""
    s = mouth_shape(identity, pose)
    flat = s.roundness
    top_inner = _arc(head, s, s.upper_inner, 0.955, flat)
    bottom_inner = _arc(head, s, s.lower_inner, 0.955, flat)
    if s.gap > 0.4:
        _draw_cavity(canvas, head, identity, pose, s, _joined(top_inner, bottom_inner))
    _draw_lips(canvas, head, identity, pose, s, top_inner, bottom_inner)


def _draw_cavity(
    canvas: skia.Canvas, head: Head, identity: Identity, pose: Pose, s: MouthShape, cavity: skia.Path
) -> None:
    w = s.half_width
    middle = head.at(0, 0.5 * (s.upper_inner + s.lower_inner))
    canvas.save()
    canvas.clipPath(cavity, True)
    canvas.drawPath(
        cavity, radial(middle, w, ((0.0, argb((0.10, 0.02, 0.035))), (1.0, argb(mix(_DARK, identity.lip, 0.18)))))
    )
    _draw_lower(canvas, head, pose, s)
    # Upper teeth are fixed to the skull: the lip uncovers them.
    bottom = min(identity.mouth_height + 0.5 + 4.5 * pose.teeth, s.lower_inner + 0.5)
    top = s.upper_inner - 4.0
    curve = [head.at(x * w * 0.80, bottom - abs(x) ** 2 * 2.2, -3.0) for x in (-1.0, -0.6, -0.2, 0.2, 0.6, 1.0)]
    row = smooth(curve)
    row.lineTo(*head.at(w * 0.9, top, -3.0))
    row.lineTo(*head.at(-w * 0.9, top, -3.0))
    row.close()
    canvas.drawPath(row, linear(head.at(-w * 0.85, 0), head.at(w * 0.85, 0), _TEETH_STOPS))
    for x in (-0.45, -0.23, 0.0, 0.23, 0.45):
        x0 = x * w
        canvas.drawLine(
            *head.at(x0, top, -3.0), *head.at(x0, bottom - 0.8, -3.0), stroke((0.55, 0.45, 0.45), 0.6, 0.38)
        )
    # Ambient occlusion: the lips throw shade on what lies behind them.
    canvas.drawPath(cavity, stroke((0.10, 0.02, 0.03), 4.0, 0.55, 1.6))
    canvas.restore()


_TEETH_STOPS = (
    (0.0, argb((0.50, 0.42, 0.41))),
    (0.25, argb((0.87, 0.84, 0.81))),
    (0.5, argb((0.97, 0.955, 0.93))),
    (0.75, argb((0.87, 0.84, 0.81))),
    (1.0, argb((0.50, 0.42, 0.41))),
)


def _draw_lower(canvas: skia.Canvas, head: Head, pose: Pose, s: MouthShape) -> None:
    """Lower teeth ride on the jaw; the tongue lies behind them and rises for l, n, d, t, th."""
    w, gap = s.half_width, s.gap
    rise = min(gap * 0.92, 3.0 + gap * (0.30 + 0.45 * pose.tongue))
    centre = head.at(0, s.lower_inner + gap * 0.12 + 2.0, -6.0)
    canvas.save()
    canvas.translate(*centre)
    canvas.scale(1.0, (rise + gap * 0.12 + 2.0) / (w * 0.62))
    tongue = ((0.0, argb((0.80, 0.40, 0.42))), (0.65, argb((0.70, 0.30, 0.33))), (1.0, argb((0.48, 0.16, 0.19))))
    canvas.drawCircle(0, 0, w * 0.62, radial((0.0, -w * 0.25), w * 0.8, tongue))
    canvas.restore()
    if gap > 14:
        groove = [head.at(0, s.lower_inner - rise * 0.75, -6.0), head.at(0, s.lower_inner, -6.0)]
        canvas.drawLine(*groove[0], *groove[1], stroke((0.45, 0.15, 0.18), 1.4, 0.45, 0.8))
    height = (1.5 + 3.5 * pose.teeth) * (1.0 - 0.6 * pose.tongue)
    edge = [
        head.at(x * w * 0.62, s.lower_inner - height + abs(x) ** 2 * 2.5, -4.0) for x in (-1.0, -0.5, 0.0, 0.5, 1.0)
    ]
    row = smooth(edge)
    row.lineTo(*head.at(w * 0.62, s.lower_inner + 4, -4.0))
    row.lineTo(*head.at(-w * 0.62, s.lower_inner + 4, -4.0))
    row.close()
    canvas.drawPath(row, fill((0.80, 0.77, 0.74)))


def _draw_lips(
    canvas: skia.Canvas,
    head: Head,
    identity: Identity,
    pose: Pose,
    s: MouthShape,
    top_inner: list[Point],
    bottom_inner: list[Point],
) -> None:
    w, flat = s.half_width, s.roundness
    lip, dark, pale = identity.lip, tint(identity.lip, (0.66, 0.56, 0.58)), mix(identity.lip, (1.0, 0.86, 0.84), 0.28)
    dy_peak, dy_dip = s.upper_outer - s.corner_y, s.upper_dip - s.corner_y
    side = 0.40 + 0.15 * flat
    shares = ((-1.0, 0.0), (-0.66, side * dy_peak), (-0.24, dy_peak), (0.0, dy_dip))
    left = [head.at(w * x, s.corner_y + dy, s.lift * (1.0 - x * x)) for x, dy in shares]
    right = [head.at(-w * x, s.corner_y + dy, s.lift * (1.0 - x * x)) for x, dy in shares[-2::-1]]
    top_outer = left + right
    bottom_outer = _arc(head, s, s.lower_outer, 1.0, 0.30 + 0.5 * flat)

    lower = _joined(bottom_inner, bottom_outer)
    y0, y1 = head.at(0, s.lower_inner, s.lift), head.at(0, s.lower_outer, s.lift)
    canvas.drawPath(
        lower,
        linear(
            y0,
            y1,
            ((0.0, argb(mix(lip, dark, 0.35))), (0.4, argb(mix(lip, pale, 0.45))), (1.0, argb(mix(lip, dark, 0.3)))),
        ),
    )
    upper = _joined(top_outer, top_inner)
    y0, y1 = head.at(0, s.upper_outer, s.lift), head.at(0, s.upper_inner, s.lift)
    canvas.drawPath(
        upper, linear(y0, y1, ((0.0, argb(mix(lip, pale, 0.15))), (0.45, argb(lip)), (1.0, argb(mix(lip, dark, 0.7)))))
    )

    thickness = s.lower_outer - s.lower_inner
    shine = head.at(-0.12 * w + 0.2 * w * identity.light, s.lower_inner + 0.42 * thickness, s.lift)
    glow(canvas, shine, w * 0.42, thickness * 0.30, (1.0, 0.96, 0.95), 0.75 * identity.lip_gloss + 0.10)
    glow(
        canvas,
        head.at(0.25 * w * identity.light, s.upper_outer + 1.5, s.lift),
        w * 0.3,
        1.8,
        (1.0, 0.95, 0.93),
        0.35 * identity.lip_gloss + 0.08,
    )

    seam = stroke(tint(dark, (0.55, 0.45, 0.48)), 1.5 if s.gap <= 0.4 else 0.9, 0.85)
    canvas.drawPath(smooth(top_inner), seam)
    for sign in (-1.0, 1.0):
        glow(canvas, head.at(sign * (w + 0.5), s.corner_y), 4.0, 3.2, tint(identity.skin, (0.50, 0.36, 0.36)), 0.75)
