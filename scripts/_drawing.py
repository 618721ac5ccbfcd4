"""The pictures of the pack: thumbnails, strips of frames and the moving picture, out of what its graphs made."""

from __future__ import annotations

import wave
from collections.abc import Sequence
from pathlib import Path

import av
import matplotlib
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from ..models.rates import FPS

Size = tuple[int, int]
Color = tuple[int, int, int]
Levels = npt.NDArray[np.float64]

THUMBNAIL = (640, 360)
BANNER = (1344, 576)
NIGHT: Color = (18, 24, 40)
INK: Color = (255, 255, 255)
PALE: Color = (183, 194, 214)
ROUND = 0.09
FONT = Path(matplotlib.get_data_path(), "fonts", "ttf", "DejaVuSans-Bold.ttf")


def loudness(speech: Path) -> Levels:
    """Root mean square of a 16-bit mono wav for each video frame, 0..1."""
    with wave.open(str(speech)) as file:
        samples = np.frombuffer(file.readframes(file.getnframes()), np.int16).astype(np.float64)
        per_frame = file.getframerate() // FPS
    frames = samples[: len(samples) // per_frame * per_frame].reshape(-1, per_frame)
    levels = np.sqrt((frames**2).mean(axis=1))
    return levels / levels.max()


def loud_moments(levels: Levels, count: int) -> list[int]:
    """The loudest frame of each of `count` equal parts: where mouths are open."""
    return [int(part[np.argmax(levels[part])]) for part in np.array_split(np.arange(len(levels)), count)]


def read_video(path: Path, size: Size) -> list[Image.Image]:
    """All frames, scaled."""
    with av.open(str(path)) as container:
        return [frame.to_image().resize(size, Image.Resampling.LANCZOS) for frame in container.decode(video=0)]


def spread(film: list[Image.Image], count: int) -> list[Image.Image]:
    """``count`` frames of ``film`` at even distances."""
    return [film[(2 * number + 1) * len(film) // (2 * count)] for number in range(count)]


def strip(pictures: Sequence[Image.Image], height: int, gap: int = 4) -> Image.Image:
    """Pictures side by side, of the same height."""
    scaled = [
        picture.resize((round(picture.width * height / picture.height), height), Image.Resampling.LANCZOS)
        for picture in pictures
    ]
    result = Image.new("RGB", (sum(p.width for p in scaled) + gap * (len(scaled) - 1), height), NIGHT)
    x = 0
    for picture in scaled:
        result.paste(picture, (x, 0))
        x += picture.width + gap
    return result


def with_square(picture: Image.Image, box: tuple[int, int, int, int], color: Color = (255, 214, 102)) -> Image.Image:
    """A copy with a square (left, top, right, bottom) drawn on it."""
    result = picture.copy()
    ImageDraw.Draw(result).rectangle(box, outline=color, width=max(2, picture.width // 160))
    return result


def features_picture(features: npt.NDArray[np.float32], size: Size) -> Image.Image:
    """Features [F, channels] as colours, time to the right and channels upwards."""
    low, high = np.percentile(features, (2, 98))
    values = np.clip((features.T[::-1] - low) / (high - low), 0, 1)
    colors = matplotlib.colormaps["magma"](values)[..., :3]
    return Image.fromarray((colors * 255).astype(np.uint8)).resize(size, Image.Resampling.BILINEAR)


def thumbnail(
    title: str, subtitle: str, accent: Color, left: Image.Image, frames: Sequence[Image.Image], levels: Levels
) -> Image.Image:
    """A card of the template browser: what goes in, what comes out, and what it is called."""
    card = _gradient(THUMBNAIL, NIGHT, accent)
    x = _paste_rounded(card, left, (36, 52), 184) + 22
    right = THUMBNAIL[0] - 36
    _draw_speech(card, levels, (x, 60, right, 112 if frames else 220), accent)
    if frames:
        width = min((right - x - 16 * (len(frames) - 1)) // len(frames), 200)
        for frame in frames:
            height = min(round(width * frame.height / frame.width), 108)
            x = _paste_rounded(card, frame, (x, 128), height) + 16
    draw = ImageDraw.Draw(card)
    draw.text((36, 264), title, INK, ImageFont.truetype(FONT, 30))
    draw.text((36, 312), subtitle, PALE, ImageFont.truetype(FONT, 15))
    return card


def banner(title: str, lines: Sequence[str], accent: Color, picture: Image.Image, levels: Levels) -> Image.Image:
    """A wide card with the pack's name."""
    card = _gradient(BANNER, NIGHT, accent)
    x = _paste_rounded(card, picture, (72, 72), BANNER[1] - 144) + 64
    draw = ImageDraw.Draw(card)
    draw.text((x, 104), title, INK, ImageFont.truetype(FONT, 92))
    draw.text((x, 236), "\n".join(lines), PALE, ImageFont.truetype(FONT, 32), spacing=14)
    _draw_speech(card, levels, (x, 372, BANNER[0] - 72, 500), accent)
    return card


def speech_card(size: Size, accent: Color, levels: Levels) -> Image.Image:
    """The speech alone."""
    card = _gradient(size, NIGHT, accent)
    _draw_speech(card, levels, (20, 20, size[0] - 20, size[1] - 20), accent)
    return card


def icon(picture: Image.Image, accent: Color, side: int = 400) -> Image.Image:
    """A square picture with the speaking face and its sound."""
    card = _gradient((side, side), NIGHT, accent)
    edge = side // 12
    _paste_rounded(card, picture, (edge, edge), side - 2 * edge)
    return card


def write_moving_picture(path: Path, pictures: Sequence[Image.Image], fps: float, quality: int) -> None:
    """An animated WebP that repeats."""
    first, *others = pictures
    first.save(
        path,
        save_all=True,
        append_images=others,
        duration=round(1000 / fps),
        loop=0,
        quality=quality,
        method=4,
        minimize_size=False,
    )


def _gradient(size: Size, start: Color, end: Color) -> Image.Image:
    """From the upper left to the lower right corner; the end colour is darkened, so that white text can be read."""
    width, height = size
    t = (np.linspace(0, 1, width)[None, :] + np.linspace(0, 1, height)[:, None])[..., None] / 2
    colors = np.array(start) * (1 - t) + np.array(end) * 0.45 * t
    return Image.fromarray(colors.astype(np.uint8))


def _paste_rounded(card: Image.Image, picture: Image.Image, at: Size, height: int) -> int:
    """Paste with round corners; returns the right edge."""
    width = round(picture.width * height / picture.height)
    scaled = picture.resize((width, height), Image.Resampling.LANCZOS)
    mask = Image.new("L", (4 * width, 4 * height), 0)
    ImageDraw.Draw(mask).rounded_rectangle((0, 0, 4 * width - 1, 4 * height - 1), 4 * ROUND * height, fill=255)
    card.paste(scaled, at, mask.resize((width, height), Image.Resampling.LANCZOS))
    return at[0] + width


def _draw_speech(card: Image.Image, levels: Levels, box: tuple[int, int, int, int], accent: Color) -> None:
    """The speech's loudness as bars."""
    left, top, right, bottom = box
    count = (right - left) // 12
    middle, half = (top + bottom) / 2, (bottom - top) / 2
    bright: Color = tuple(min(255, 90 + value) for value in accent)  # pyright: ignore[reportAssignmentType]
    draw = ImageDraw.Draw(card)
    for number, part in enumerate(np.array_split(levels, count)):
        x, reach = left + 12 * number, max(3.0, half * float(part.max()))
        draw.rounded_rectangle((x, middle - reach, x + 6, middle + reach), 3, fill=bright)
