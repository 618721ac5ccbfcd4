"""The drift strip as a picture: the figures of a Sampler's report, chunk by chunk."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from ..host.messages import encodable
from ..models.choices import Choice
from ..models.rates import FPS
from ..models.record import REGENERATED, ChunkRecord


class Theme(Choice):
    """The chart's colours."""

    DARK = "dark"
    LIGHT = "light"


WIDTH, PANEL_HEIGHT, MARGIN, GAP = 960, 150, 24, 44
HEADING_HEIGHT = 64
VALUES_WIDTH = 70
HEADROOM = 1.25
LONGEST_NAME = 80
LARGEST_NUMBER = 2.0**64
"""Seeds are below it."""
# Drawn larger and scaled down, for smooth lines.
SCALE = 2

Point = tuple[float, float]


@dataclass(frozen=True)
class Palette:
    """Colours of a theme."""

    background: str
    panel: str
    text: str
    faint: str


PALETTES = {
    Theme.DARK: Palette("#1e1e1e", "#2a2a2a", "#e8e8e8", "#999999"),
    Theme.LIGHT: Palette("#ffffff", "#f2f2f2", "#222222", "#777777"),
}


@dataclass(frozen=True)
class Curve:
    """A figure of the report's chunks, as the live drift strip shows it."""

    figure: str
    title: str
    color: str
    digits: int


CURVES = (
    Curve(
        "reference_distance", "identity: distance to the portrait in latents (rising: the face drifts)", "#4a90d9", 3
    ),
    Curve("sharpness", "sharpness, relative to the portrait (falling: the picture blurs)", "#c77a1e", 3),
    Curve("color_distance", "colour shift against the portrait before correction, Delta E", "#3f9b6b", 2),
)


def drift_chart(report: str, theme: Theme) -> Tensor:
    """IMAGE [1, H, W, 3] in 0..1 of a Sampler's report.

    Raises:
        ValueError: ``report`` is not one.
    """
    heading, chunks = _parsed(report)
    palette = PALETTES[theme]
    height = MARGIN + HEADING_HEIGHT + len(CURVES) * (PANEL_HEIGHT + GAP)
    image = Image.new("RGB", (WIDTH * SCALE, height * SCALE), palette.background)
    draw = ImageDraw.Draw(image)
    _write(draw, (MARGIN, MARGIN), heading, palette.text, 20)
    for number, curve in enumerate(CURVES):
        _panel(draw, curve, chunks, MARGIN + HEADING_HEIGHT + number * (PANEL_HEIGHT + GAP), palette)
    image = image.resize((WIDTH, height), Image.Resampling.LANCZOS)
    return torch.from_numpy(np.asarray(image).astype(np.float32) / 255.0)[None]


def _parsed(report: str) -> tuple[str, list[ChunkRecord]]:
    """The heading and the chunks of a report."""
    try:
        fields = json.loads(report)
        chunks = [_chunk(index, chunk) for index, chunk in enumerate(fields["chunks"])]
        numbers = [int(_number(fields[name])) for name in ("width", "height", "frames", "seed")]
        model = fields["model"]
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
        chunks, numbers, model = [], [], None
    if not chunks or not isinstance(model, str):
        raise ValueError("report: this is not the report of a video; connect the `report` output of AsymTalker Sampler")
    width, height, frames, seed = numbers
    return f"{encodable(model)[:LONGEST_NAME]}, {width}x{height}, {frames} frames, seed {seed}", chunks


def _chunk(index: int, fields: dict[str, Any]) -> ChunkRecord:
    """The chunk with those of its figures that the chart shows."""
    stats = dict(fields["stats"])
    given = {curve.figure: stats[curve.figure] for curve in CURVES if curve.figure in stats}
    # JSON as Python writes it may contain NaN and infinity, which a curve cannot show.
    shown = {name: float(_number(value)) for name, value in given.items() if math.isfinite(value)}
    if REGENERATED in stats:
        shown[REGENERATED] = 1.0
    first_frame, frames = int(_number(fields["first_frame"])), int(_number(fields.get("frames", 0)))
    return ChunkRecord(index=index, first_frame=first_frame, frames=frames, stats=shown)


def _number(value: Any) -> float:
    """``value`` if it is a number that the chart can show. Raises ValueError or TypeError."""
    if isinstance(value, bool) or not 0 <= value < LARGEST_NUMBER:
        raise ValueError("not a number of a report")
    return value


def _panel(draw: ImageDraw.ImageDraw, curve: Curve, chunks: list[ChunkRecord], top: int, palette: Palette) -> None:
    """One curve from 0 up, with a dashed line at the first chunk's value and a ring around each regenerated chunk."""
    left, right, bottom = MARGIN, WIDTH - MARGIN - VALUES_WIDTH, top + PANEL_HEIGHT
    _write(draw, (left, top - 22), curve.title, curve.color, 15)
    draw.rectangle(_scaled((left, top), (right, bottom)), fill=palette.panel)
    known = [chunk for chunk in chunks if curve.figure in chunk.stats]
    if not known:
        return
    values = [chunk.stats[curve.figure] for chunk in known]
    highest = HEADROOM * max(*values, 1e-6)
    end = max(*(chunk.first_frame for chunk in chunks), 1)

    def place(chunk: ChunkRecord, value: float) -> Point:
        return left + (right - left) * chunk.first_frame / end, bottom - PANEL_HEIGHT * value / highest

    _dashes(draw, place(known[0], values[0])[1], left, right, palette.faint)
    points = [place(chunk, value) for chunk, value in zip(known, values, strict=True)]
    draw.line(_scaled(*points), fill=curve.color, width=2 * SCALE, joint="curve")
    for chunk, (x, y) in zip(known, points, strict=True):
        radius = 6 if chunk.is_regenerated else 2 if len(points) < 60 else 0
        _dot(draw, (x, y), radius, curve.color, palette.text if radius == 6 else None)
    _write(draw, (right + 8, points[-1][1] - 9), f"{values[-1]:.{curve.digits}f}", palette.text, 15)
    _time_axis(draw, end / FPS, left, right, bottom, palette)


def _time_axis(draw: ImageDraw.ImageDraw, seconds: float, left: int, right: int, bottom: int, palette: Palette) -> None:
    for share in (0.0, 0.5, 1.0):
        label = f"{share * seconds:.1f} s"
        x = left + (right - left) * share - share * ImageFont.load_default(size=12).getlength(label)
        _write(draw, (x, bottom + 2), label, palette.faint, 12)


def _write(draw: ImageDraw.ImageDraw, place: Point, text: str, color: str, size: int) -> None:
    draw.text(_scaled(place)[0], text, fill=color, font=ImageFont.load_default(size=size * SCALE))


def _dashes(draw: ImageDraw.ImageDraw, y: float, left: int, right: int, color: str) -> None:
    for x in range(left, right, 10):
        draw.line(_scaled((x, y), (min(x + 5, right), y)), fill=color, width=SCALE)


def _dot(draw: ImageDraw.ImageDraw, center: Point, radius: float, color: str, ring: str | None) -> None:
    if radius:
        (x, y), (reach, _) = _scaled(center, (radius, 0))
        draw.ellipse((x - reach, y - reach, x + reach, y + reach), fill=color, outline=ring, width=SCALE)


def _scaled(*points: Point) -> list[Point]:
    return [(x * SCALE, y * SCALE) for x, y in points]
