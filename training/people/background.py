"""What is behind a person: a picture from a folder, or a room made of soft shapes."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter
from scipy.ndimage import gaussian_filter

from ..core.config import TrainingError

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp"})


@lru_cache(maxsize=4)
def pictures(folder: Path) -> tuple[Path, ...]:
    """The pictures in ``folder`` and below, in an order that does not depend on the machine.

    Raises:
        TrainingError: there are none.
    """
    found = tuple(sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES))
    if not found:
        raise TrainingError(f"--backgrounds {folder}: no pictures ({', '.join(sorted(SUFFIXES))}) are there")
    return found


def make_background(rng: np.random.Generator, size: int, folder: Path | None = None) -> np.ndarray:
    """Float32 [size, size, 3] in 0..1; two of three come from ``folder`` where one is given."""
    if folder is not None and rng.random() < 2 / 3:
        return _from_picture(rng, size, pictures(folder))
    kind = rng.random()
    if kind < 0.3:
        return _wall(rng, size)
    return _room(rng, size, bokeh=kind > 0.8)


def _from_picture(rng: np.random.Generator, size: int, paths: tuple[Path, ...]) -> np.ndarray:
    path = paths[int(rng.integers(len(paths)))]
    share, x, y, out_of_focus = rng.uniform(0.3, 0.9), rng.random(), rng.random(), rng.uniform(0, 5)
    try:
        with Image.open(path) as image:
            image.draft("RGB", (4 * size, 4 * size))
            rgb = image.convert("RGB")
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise TrainingError(f"--backgrounds: {path} cannot be read ({error}): remove or replace it") from error
    side = share * min(rgb.size)
    left, top = x * (rgb.width - side), y * (rgb.height - side)
    square = rgb.resize((size, size), Image.Resampling.BILINEAR, (left, top, left + side, top + side), reducing_gap=2.0)
    return _out_of_focus(np.asarray(square, np.float32) / 255, float(out_of_focus) * size / 256)


def _out_of_focus(picture: np.ndarray, sigma: float) -> np.ndarray:
    return gaussian_filter(picture, (sigma, sigma, 0)) if sigma > 0.3 else picture


def _colour(rng: np.random.Generator, low: float = 0.05, high: float = 0.9) -> np.ndarray:
    return np.clip(rng.uniform(low, high) + rng.normal(0, 0.07, 3), 0.01, 0.97)


def _wall(rng: np.random.Generator, size: int) -> np.ndarray:
    """A wall or a studio's paper: a slow gradient with a little grain."""
    y, x = (np.mgrid[0:size, 0:size] + 0.5) / size
    spot = np.exp(-(((x - rng.uniform(0.2, 0.8)) / 0.7) ** 2) - ((y - rng.uniform(0.1, 0.7)) / 0.7) ** 2)
    base = _colour(rng)
    shade = rng.uniform(0.55, 0.95) + rng.uniform(0.05, 0.35) * spot
    grain = gaussian_filter(rng.normal(size=(size, size)), rng.uniform(0.8, 6.0))
    texture = 1 + rng.uniform(0, 0.03) * grain / grain.std()
    return np.clip(base * (shade * texture)[..., None], 0, 1).astype(np.float32)


def _room(rng: np.random.Generator, size: int, bokeh: bool) -> np.ndarray:
    """Furniture, windows and lamps as shapes out of focus."""
    base, other = _colour(rng, 0.08, 0.7), _colour(rng, 0.08, 0.7)
    y, x = (np.mgrid[0:size, 0:size] + 0.5) / size
    slope = np.clip(0.5 + rng.normal(0, 0.5) * (x - 0.5) + rng.normal(0, 0.5) * (y - 0.5), 0, 1)[..., None]
    image = Image.fromarray((255 * np.clip(base * (1 - slope) + other * slope, 0, 1)).astype(np.uint8))
    draw = ImageDraw.Draw(image)
    for _ in range(int(rng.integers(3, 26))):
        left, top = rng.uniform(-0.2, 1.0, 2) * size
        wide, high = rng.uniform(0.03, 0.45, 2) * size
        at = image.getpixel((int(np.clip(left, 0, size - 1)), int(np.clip(top, 0, size - 1))))
        colour = np.clip(np.array(at) + rng.normal(0, 34) + rng.normal(0, 12, 3), 0, 255)
        shape = draw.rectangle if rng.random() < 0.75 else draw.ellipse
        shape([left, top, left + wide, top + high], fill=tuple(int(c) for c in colour))
    image = image.filter(ImageFilter.GaussianBlur(float(rng.uniform(0.006, 0.035)) * size))
    if bokeh:
        lights = ImageDraw.Draw(image, "RGBA")
        for _ in range(int(rng.integers(6, 30))):
            cx, cy, r = rng.random() * size, rng.random() * 0.8 * size, rng.uniform(0.015, 0.06) * size
            colour = tuple(int(c) for c in np.clip(rng.uniform(120, 255, 3), 0, 255))
            lights.ellipse([cx - r, cy - r, cx + r, cy + r], fill=(*colour, int(rng.uniform(30, 140))))
        image = image.filter(ImageFilter.GaussianBlur(0.004 * size))
    return np.asarray(image, np.float32) / 255
