"""`python -m asymtalker.scripts.examples` draws the second portrait and the painting of workflows/assets.

Needs skia-python (training/requirements.txt). The people are those of the corpus: no real ones.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import skia

from ..training.corpus.clip import identity_of, portrait_pose
from ..training.corpus.render import render
from ._environment import ROOT

ASSETS = ROOT / "workflows" / "assets"
SECOND_PERSON = (5, 22)
PAINTED_PERSON = (5, 11)
PORTRAIT_SIZE = 512

WALL_SIZE = (1280, 720)
PAINTING = skia.Rect.MakeXYWH(430, 70, 420, 420)
FRAME_WIDTH = 34


def main() -> int:
    """Draw both pictures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=ASSETS, help="folder (default: %(default)s)")
    folder: Path = parser.parse_args().out
    folder.mkdir(parents=True, exist_ok=True)
    portrait = render(identity_of(*SECOND_PERSON), portrait_pose(*SECOND_PERSON), PORTRAIT_SIZE)
    _image(portrait).save(str(folder / "asymtalker_portrait_2.png"), skia.kPNG)
    _wall().save(str(folder / "asymtalker_painting.png"), skia.kPNG)
    return 0


def _image(rgb: np.ndarray) -> skia.Image:
    rgba = np.dstack((rgb, np.full(rgb.shape[:2], 255, np.uint8)))
    return skia.Image.fromarray(np.ascontiguousarray(rgba), colorType=skia.kRGBA_8888_ColorType)


def _wall() -> skia.Image:
    """A painting on the wall of a room."""
    surface = skia.Surface(*WALL_SIZE)
    canvas = surface.getCanvas()
    _draw_room(canvas)
    _draw_frame(canvas)
    size = round(PAINTING.width())
    painted = _image(render(identity_of(*PAINTED_PERSON), portrait_pose(*PAINTED_PERSON), size))
    canvas.drawImage(painted, PAINTING.left(), PAINTING.top())
    _draw_lamp(canvas)
    _draw_books(canvas)
    return surface.makeImageSnapshot()


def _gradient(points: list[tuple[float, float]], colors: list[int]) -> skia.Paint:
    shader = skia.GradientShader.MakeLinear(points=[skia.Point(*point) for point in points], colors=colors)
    return skia.Paint(Shader=shader, AntiAlias=True)


def _glow(canvas: skia.Canvas, centre: tuple[float, float], radius: float, color: int) -> None:
    shader = skia.GradientShader.MakeRadial(skia.Point(*centre), radius, [color, color & 0x00FFFFFF])
    canvas.drawCircle(*centre, radius, skia.Paint(Shader=shader))


def _draw_room(canvas: skia.Canvas) -> None:
    width, height = WALL_SIZE
    canvas.drawRect(skia.Rect(0, 0, width, height), _gradient([(0, 0), (0, 560)], [0xFF35504F, 0xFF47686A]))
    pattern = skia.Paint(Color=0x12FFFFFF, StrokeWidth=2)
    for x in range(40, width, 80):
        canvas.drawLine(x, 0, x, 560, pattern)
    canvas.drawRect(skia.Rect(0, 548, width, 566), _gradient([(0, 548), (0, 566)], [0xFFE9DFC9, 0xFFB7A98C]))
    canvas.drawRect(skia.Rect(0, 566, width, height), _gradient([(0, 566), (0, 720)], [0xFF8F7551, 0xFF5E4A33]))
    _glow(canvas, (1080, 330), 520, 0x66FFD9A0)


def _draw_frame(canvas: skia.Canvas) -> None:
    """Gold moulding around the painting, and its shadow on the wall."""
    outer = PAINTING.makeOutset(FRAME_WIDTH, FRAME_WIDTH)
    shadow = skia.Paint(Color=0x70000000, MaskFilter=skia.MaskFilter.MakeBlur(skia.kNormal_BlurStyle, 16))
    canvas.drawRect(outer.makeOffset(-8, 16), shadow)
    corners = [(outer.left(), outer.top()), (outer.right(), outer.bottom())]
    canvas.drawRect(outer, _gradient(corners, [0xFF8A6A2C, 0xFFE9CF85, 0xFF9C7A36, 0xFFD9B968, 0xFF7C5D24]))
    for inset, color in ((9, 0xFF6E521F), (20, 0xFFF0DDA2), (FRAME_WIDTH - 5, 0xFF4A3714)):
        line = skia.Paint(Color=color, Style=skia.Paint.kStroke_Style, StrokeWidth=3, AntiAlias=True)
        canvas.drawRect(outer.makeInset(inset, inset), line)


def _draw_lamp(canvas: skia.Canvas) -> None:
    """A table with a lamp, right of the painting."""
    canvas.drawRect(skia.Rect(930, 590, 1240, 612), _gradient([(930, 590), (930, 612)], [0xFF6B4426, 0xFF4A2D17]))
    for x in (950, 1204):
        canvas.drawRect(skia.Rect(x, 612, x + 16, 720), skia.Paint(Color=0xFF3C2412))
    canvas.drawRect(skia.Rect(1073, 440, 1087, 560), _gradient([(1073, 0), (1087, 0)], [0xFFB08D4C, 0xFF6F5527]))
    canvas.drawOval(skia.Rect(1030, 556, 1130, 592), _gradient([(1030, 0), (1130, 0)], [0xFFC9A661, 0xFF6F5527]))
    shade = skia.Path()
    for i, point in enumerate(((1030, 300), (1130, 300), (1176, 450), (984, 450))):
        shade.moveTo(*point) if i == 0 else shade.lineTo(*point)
    shade.close()
    canvas.drawPath(shade, _gradient([(0, 300), (0, 450)], [0xFFF7D9A2, 0xFFFFF1CF]))
    _glow(canvas, (1080, 400), 190, 0x70FFE9B8)


def _draw_books(canvas: skia.Canvas) -> None:
    """Books on a shelf, left of the painting."""
    canvas.drawRect(skia.Rect(60, 430, 360, 446), _gradient([(0, 430), (0, 446)], [0xFF7A5230, 0xFF53351C]))
    x = 78.0
    for width, height, color in (
        (30, 120, 0xFF8C3B32),
        (22, 104, 0xFF2F5D62),
        (34, 132, 0xFFC9A24D),
        (26, 112, 0xFF4B4453),
        (30, 126, 0xFF6B7F4E),
        (24, 100, 0xFFA85C3A),
    ):
        book = skia.Rect(x, 430 - height, x + width, 430)
        canvas.drawRoundRect(
            book, 3, 3, _gradient([(x, 0), (x + width, 0)], [color, (color >> 1) & 0x7F7F7F | 0xFF000000])
        )
        canvas.drawRect(
            skia.Rect(x + 4, 430 - height + 16, x + width - 4, 430 - height + 20), skia.Paint(Color=0x80FFF3D0)
        )
        x += width + 4
    canvas.drawOval(skia.Rect(288, 372, 340, 430), _gradient([(288, 0), (340, 0)], [0xFFD8CFC0, 0xFF8E8474]))


if __name__ == "__main__":
    raise SystemExit(main())
