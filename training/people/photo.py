"""What cameras, files and filters do to a picture: drawn once for a clip, the same for its frames and its portrait."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass

import av
import numpy as np
from PIL import Image
from scipy.ndimage import gaussian_filter, gaussian_filter1d, uniform_filter

from ...models.rates import FPS

STYLES = ("none", "smooth", "grey", "sepia", "painterly", "posterised")
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)


@dataclass(frozen=True)
class Look:
    """One clip's treatment. Neutral values leave a picture as it is.

    ``crop`` is the share of the picture's side that is kept, around ``crop_at`` (0..1). ``tint`` [3] are the light's
    colours towards the side ``tint_from`` (radians). ``jpeg`` is a quality, ``crf`` a rate factor of H.264; 0 is none.
    """

    crop: float = 1.0
    crop_at: tuple[float, float] = (0.5, 0.5)
    exposure: float = 1.0
    contrast: float = 1.0
    saturation: float = 1.0
    balance: tuple[float, float, float] = (1.0, 1.0, 1.0)
    tint: tuple[float, float, float] = (0.0, 0.0, 0.0)
    tint_from: float = 0.0
    vignette: float = 0.0
    style: str = "none"
    blur: float = 0.0
    sharpen: float = 0.0
    noise: float = 0.0
    colour_noise: float = 0.0
    jpeg: int = 0
    crf: int = 0


def sample_look(rng: np.random.Generator, *, crops: bool = False) -> Look:
    """Draws a treatment; ``crops`` reframes the picture (for corpora whose faces all have one size)."""

    def sometimes(chance: float, low: float, high: float, otherwise: float = 0.0) -> float:
        value = float(rng.uniform(low, high))
        return value if rng.random() < chance else otherwise

    temperature, green = rng.normal(0, 0.07), rng.normal(0, 0.025)
    tint = rng.normal(0, 0.16, 3) - 0.05
    style = str(rng.choice(STYLES, p=[0.76, 0.08, 0.06, 0.02, 0.05, 0.03]))
    tinted = rng.random() < 0.35
    return Look(
        crop=sometimes(0.6, 0.74, 1.0, 1.0) if crops else 1.0,
        crop_at=(float(np.clip(rng.normal(0.5, 0.1), 0, 1)), float(np.clip(rng.normal(0.35, 0.12), 0, 1))),
        exposure=float(np.exp(rng.normal(-0.03, 0.12))),
        contrast=float(np.exp(rng.normal(0, 0.12))),
        saturation=float(np.exp(rng.normal(-0.03, 0.18))),
        balance=(float(np.exp(temperature)), float(np.exp(green)), float(np.exp(-temperature))),
        tint=(float(tint[0]), float(tint[1]), float(tint[2])) if tinted else (0.0, 0.0, 0.0),
        tint_from=float(rng.uniform(0, 2 * np.pi)),
        vignette=sometimes(0.3, 0.05, 0.5),
        style=style,
        blur=sometimes(0.45, 0.3, 1.3),
        sharpen=sometimes(0.3, 0.2, 1.2),
        noise=sometimes(0.5, 0.4, 5.0),
        colour_noise=sometimes(0.3, 0.3, 3.0),
        jpeg=int(sometimes(0.35, 45, 96)),
        # Beyond this small mouths stop moving, while the truth says that they speak.
        crf=int(sometimes(0.35, 18, 29)),
    )


def crop_box(look: Look, size: int) -> tuple[float, float, float]:
    """Left, top and side, in pixels, of the square that is kept."""
    side = look.crop * size
    return (size - side) * look.crop_at[0], (size - side) * look.crop_at[1], side


def crop_boxes(look: Look, boxes: np.ndarray, size: int) -> np.ndarray:
    """``boxes`` [F, 4] (x0, y0, x1, y1) in the cropped picture of the same size."""
    left, top, side = crop_box(look, size)
    moved = (boxes - np.array([left, top, left, top])) * size / side
    low, high = np.floor(moved[:, :2]), np.ceil(moved[:, 2:])
    return np.clip(np.concatenate([low, high], axis=1), 0, size).astype(np.int32)


def develop(frames: np.ndarray, look: Look, rng: np.random.Generator, *, video: bool = True) -> np.ndarray:
    """uint8 ``frames`` [F, S, S, 3] treated by ``look``; ``video`` compresses them together, as files of videos do."""
    if look == Look():
        return frames.copy()
    light = _light_field(look, frames.shape[1])
    style = _STYLED[look.style]
    out = np.empty_like(frames)
    for i, frame in enumerate(frames):
        picture = _cropped(frame, look).astype(np.float32)
        picture = _toned(picture, look) * light
        picture = style(np.clip(picture, 0, 255))
        picture = _focused(picture, look)
        out[i] = np.clip(picture + _noise(rng, look, picture.shape) + 0.5, 0, 255).astype(np.uint8)
        if look.jpeg:
            out[i] = _jpeg(out[i], look.jpeg)
    return compress(out, look.crf) if look.crf and video else out


def _cropped(frame: np.ndarray, look: Look) -> np.ndarray:
    if look.crop >= 1.0:
        return frame
    size = len(frame)
    left, top, side = crop_box(look, size)
    picture = Image.fromarray(frame).resize(
        (size, size), Image.Resampling.BICUBIC, (left, top, left + side, top + side)
    )
    return np.asarray(picture)


def _toned(picture: np.ndarray, look: Look) -> np.ndarray:
    picture = picture * (look.exposure * np.array(look.balance, np.float32))
    picture = 118 + look.contrast * (picture - 118)
    grey = (picture @ _LUMA)[..., None]
    # Highlights roll off instead of clipping.
    picture = grey + look.saturation * (picture - grey)
    return np.where(picture > 200, 255 - 55 * np.exp((200 - picture) / 55), picture)


def _light_field(look: Look, size: int) -> np.ndarray:
    """What the light from one side and the vignette multiply by: float32 [S, S, 3]."""
    y, x = (np.mgrid[0:size, 0:size] + 0.5) / size * 2 - 1
    slope = 0.5 + 0.5 * (np.cos(look.tint_from) * x + np.sin(look.tint_from) * y) / 1.2
    field = np.exp(slope[..., None] * np.array(look.tint))
    return (field * (1 - look.vignette * np.clip(x**2 + y**2, 0, 2)[..., None] / 2)).astype(np.float32)


def _guided(picture: np.ndarray, radius: int, strength: float) -> np.ndarray:
    """Smooths within edges (He et al.'s guided filter, by its own luma)."""
    size = 2 * radius + 1
    guide = picture @ _LUMA
    mean = uniform_filter(guide, size)
    variance = uniform_filter(guide * guide, size) - mean**2
    out = np.empty_like(picture)
    for k in range(3):
        channel = picture[..., k]
        average = uniform_filter(channel, size)
        slope = (uniform_filter(guide * channel, size) - mean * average) / (variance + strength)
        offset = average - slope * mean
        out[..., k] = uniform_filter(slope, size) * guide + uniform_filter(offset, size)
    return out


def _painterly(picture: np.ndarray, radius: int = 2) -> np.ndarray:
    """Kuwahara's filter: each pixel takes the mean of the calmest of the four squares around it."""
    size = radius + 1
    luma = picture @ _LUMA
    mean = np.stack([uniform_filter(picture[..., k], size) for k in range(3)], axis=-1)
    variance = uniform_filter(luma * luma, size) - uniform_filter(luma, size) ** 2
    half = (radius + 1) // 2
    shifts = [(-half, -half), (-half, half), (half, -half), (half, half)]
    variances = np.stack([np.roll(variance, s, axis=(0, 1)) for s in shifts])
    means = np.stack([np.roll(mean, s, axis=(0, 1)) for s in shifts])
    calmest = variances.argmin(axis=0)
    return np.take_along_axis(means, calmest[None, ..., None], axis=0)[0]


def _posterised(picture: np.ndarray) -> np.ndarray:
    """Few levels of brightness; the hue stays."""
    flat = _guided(picture, 2, 150.0)
    grey = (flat @ _LUMA)[..., None]
    return flat * (np.round(grey / 28) * 28 + 4) / (grey + 4)


def _grey(picture: np.ndarray) -> np.ndarray:
    return np.repeat((picture @ _LUMA)[..., None], 3, axis=2)


_STYLED: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "none": lambda picture: picture,
    "smooth": lambda picture: 0.2 * picture + 0.8 * _guided(picture, 4, 120.0),
    "grey": _grey,
    "sepia": lambda picture: _grey(picture) * np.array([1.06, 0.96, 0.80], np.float32),
    "painterly": _painterly,
    "posterised": _posterised,
}


def _focused(picture: np.ndarray, look: Look) -> np.ndarray:
    if look.blur:
        picture = gaussian_filter(picture, (look.blur, look.blur, 0))
    if look.sharpen:
        picture = picture + look.sharpen * (picture - gaussian_filter(picture, (1.0, 1.0, 0)))
    return picture


def _noise(rng: np.random.Generator, look: Look, shape: tuple[int, ...]) -> np.ndarray:
    """A sensor's noise: grains of luma, and softer ones of colour."""
    noise = np.zeros(shape, np.float32)
    if look.noise:
        noise += look.noise * rng.standard_normal((*shape[:2], 1), np.float32)
    if look.colour_noise:
        grains = rng.standard_normal(shape, np.float32)
        noise += 2 * look.colour_noise * gaussian_filter1d(gaussian_filter1d(grains, 0.8, axis=0), 0.8, axis=1)
    return noise


def _jpeg(frame: np.ndarray, quality: int) -> np.ndarray:
    file = io.BytesIO()
    Image.fromarray(frame).save(file, "JPEG", quality=quality)
    with Image.open(file) as image:
        return np.asarray(image.convert("RGB"))


def compress(frames: np.ndarray, crf: int) -> np.ndarray:
    """uint8 ``frames`` [F, S, S, 3] through H.264 at rate factor ``crf`` and back."""
    file = io.BytesIO()
    # Without looking ahead, and on one thread, the same frames give the same file.
    options = {"crf": str(crf), "preset": "veryfast", "tune": "zerolatency"}
    with av.open(file, "w", format="matroska") as container:
        stream = container.add_stream("libx264", rate=FPS, options=options)
        stream.codec_context.thread_count = 1
        stream.height, stream.width, stream.pix_fmt = frames.shape[1], frames.shape[2], "yuv420p"
        for frame in frames:
            picture = av.VideoFrame.from_ndarray(frame, format="rgb24").reformat(format="yuv420p")
            container.mux(stream.encode(picture))
        container.mux(stream.encode())
    file.seek(0)
    with av.open(file) as container:
        container.streams.video[0].codec_context.thread_count = 1
        decoded = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    return np.stack(decoded)
