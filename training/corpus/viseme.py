"""From timed phonemes to mouth motion at 25 fps, with coarticulation."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ...models.rates import FPS, SAMPLE_RATE
from .speech import Phoneme

CHANNELS = ("jaw", "width", "rounding", "press", "tuck", "teeth", "tongue")
_JAW, _WIDTH, _ROUNDING, _PRESS, _TUCK, _TEETH, _TONGUE = range(7)

Target = tuple[float, float, float, float, float, float, float]

#                 jaw   width rnd   press tuck  teeth tongue
_REST: Target = (0.00, 0.00, 0.00, 0.00, 0.00, 0.20, 0.00)
_VOWELS: dict[str, Target] = {
    "ɑ": (1.00, 0.05, 0.00, 0.0, 0.0, 0.35, 0.05),
    "a": (0.95, 0.20, 0.00, 0.0, 0.0, 0.45, 0.05),
    "æ": (0.85, 0.55, 0.00, 0.0, 0.0, 0.60, 0.10),
    "ɐ": (0.75, 0.10, 0.00, 0.0, 0.0, 0.40, 0.10),
    "ʌ": (0.68, 0.10, 0.00, 0.0, 0.0, 0.40, 0.10),
    "ɛ": (0.62, 0.50, 0.00, 0.0, 0.0, 0.65, 0.20),
    "e": (0.48, 0.65, 0.00, 0.0, 0.0, 0.75, 0.25),
    "i": (0.28, 0.95, 0.00, 0.0, 0.0, 0.95, 0.25),
    "ɪ": (0.34, 0.55, 0.00, 0.0, 0.0, 0.75, 0.25),
    "ɨ": (0.28, 0.35, 0.00, 0.0, 0.0, 0.70, 0.25),
    "y": (0.26, 0.00, 0.85, 0.0, 0.0, 0.40, 0.15),
    "ʏ": (0.30, 0.00, 0.70, 0.0, 0.0, 0.40, 0.15),
    "ø": (0.45, 0.00, 0.75, 0.0, 0.0, 0.35, 0.15),
    "œ": (0.58, 0.00, 0.55, 0.0, 0.0, 0.35, 0.15),
    "ɔ": (0.78, 0.00, 0.62, 0.0, 0.0, 0.20, 0.00),
    "ɒ": (0.88, 0.00, 0.45, 0.0, 0.0, 0.25, 0.00),
    "o": (0.58, 0.00, 0.85, 0.0, 0.0, 0.15, 0.00),
    "ɤ": (0.50, 0.20, 0.10, 0.0, 0.0, 0.40, 0.10),
    "ɯ": (0.28, 0.40, 0.10, 0.0, 0.0, 0.60, 0.10),
    "u": (0.28, 0.00, 1.00, 0.0, 0.0, 0.10, 0.00),
    "ʉ": (0.28, 0.00, 0.90, 0.0, 0.0, 0.20, 0.00),
    "ɵ": (0.40, 0.00, 0.70, 0.0, 0.0, 0.20, 0.05),
    "ʊ": (0.34, 0.00, 0.75, 0.0, 0.0, 0.20, 0.00),
    "ə": (0.40, 0.10, 0.05, 0.0, 0.0, 0.45, 0.15),
    "ɚ": (0.38, 0.00, 0.40, 0.0, 0.0, 0.40, 0.15),
    "ɜ": (0.46, 0.00, 0.35, 0.0, 0.0, 0.40, 0.15),
}
_CONSONANTS: dict[str, Target] = {
    **dict.fromkeys("pbm", (0.10, 0.05, 0.00, 1.0, 0.0, 0.10, 0.00)),
    **dict.fromkeys("fvɱʋ", (0.14, 0.15, 0.00, 0.0, 1.0, 0.85, 0.00)),
    **dict.fromkeys("ɸβ", (0.10, 0.00, 0.25, 0.3, 0.0, 0.20, 0.00)),
    **dict.fromkeys("wʍɥ", (0.14, 0.00, 1.00, 0.0, 0.0, 0.05, 0.00)),
    **dict.fromkeys("θð", (0.26, 0.20, 0.00, 0.0, 0.0, 0.60, 1.00)),
    **dict.fromkeys("tdnɾʈɖɳ", (0.20, 0.25, 0.00, 0.0, 0.0, 0.75, 0.70)),
    **dict.fromkeys("lɫɭʎɬ", (0.32, 0.20, 0.00, 0.0, 0.0, 0.55, 1.00)),
    **dict.fromkeys("sz", (0.13, 0.55, 0.00, 0.0, 0.0, 1.00, 0.15)),
    **dict.fromkeys("ʃʒʂʐɕʑ", (0.18, 0.00, 0.60, 0.0, 0.0, 0.95, 0.10)),
    **dict.fromkeys("ɹɻ", (0.24, 0.00, 0.50, 0.0, 0.0, 0.45, 0.20)),
    **dict.fromkeys("rʀʁ", (0.30, 0.10, 0.10, 0.0, 0.0, 0.50, 0.40)),
    **dict.fromkeys("jɲcɟçʝ", (0.24, 0.65, 0.00, 0.0, 0.0, 0.80, 0.30)),
    **dict.fromkeys("kɡgŋxɣqχɢ", (0.34, 0.15, 0.00, 0.0, 0.0, 0.45, 0.10)),
    **dict.fromkeys("hɦʔħʕ", (0.40, 0.10, 0.00, 0.0, 0.0, 0.40, 0.05)),
}
# How strongly a phoneme insists on its shape; the rest is lent by its neighbours.
_WEAK = frozenset("hɦʔħʕkɡgŋxɣqχɢəɾ")
_STRONG = frozenset("pbmfvɱʋwʃʒʂʐɕʑuoyi")
_BILABIALS = frozenset("pbm")
_LABIODENTALS = frozenset("fvɱʋ")


def _parts(symbol: str) -> list[tuple[str, Target]]:
    """The targets that one IPA symbol runs through: two for diphthongs and affricates, none for silence."""
    return [(c, t) for c in symbol if (t := _VOWELS.get(c) or _CONSONANTS.get(c)) is not None][:3]


def _segments(phonemes: Sequence[Phoneme], duration: float) -> list[tuple[float, float, str, Target]]:
    segments: list[tuple[float, float, str, Target]] = [(-1.0, 0.0, "", _REST)]
    for p in phonemes:
        parts = _parts(p.symbol) or [("", _REST)]
        if p.symbol.startswith("("):  # a language switch is reported as a symbol of its own
            parts = [("", _REST)]
        step = (p.end - p.start) / len(parts)
        segments += [(p.start + i * step, p.start + (i + 1) * step, c, t) for i, (c, t) in enumerate(parts)]
    return [*segments, (max(duration, segments[-1][1]), duration + 1.0, "", _REST)]


def _loudness(audio: np.ndarray, start: float, end: float) -> float:
    piece = audio[max(0, int(start * SAMPLE_RATE)) : max(1, int(end * SAMPLE_RATE))]
    return float(np.sqrt(np.mean(piece**2))) if len(piece) else 0.0


def mouth_track(phonemes: Sequence[Phoneme], audio: np.ndarray, num_frames: int) -> np.ndarray:
    """Mouth channels `[F, 7]` (see `CHANNELS`) at the middles of the frames; audio is 16 kHz `[N]`."""
    times = (np.arange(num_frames) + 0.5) / FPS
    segments = _segments(phonemes, num_frames / FPS)
    start, end = np.array([s[0] for s in segments]), np.array([s[1] for s in segments])
    target = np.array([s[3] for s in segments], dtype=np.float64)
    loud = np.array([_loudness(audio, a, b) if c else 0.0 for a, b, c, _ in segments])
    voiced = loud[loud > 0]
    reference = float(np.percentile(voiced, 80)) if len(voiced) else 1.0
    # Louder speech opens the jaw further; the square root keeps quiet vowels visible.
    target[:, _JAW] *= np.clip(0.55 + 0.5 * np.sqrt(loud / max(reference, 1e-6)), 0.6, 1.15)
    strength = np.array([2.2 if c in _STRONG else 0.5 if c in _WEAK else 1.0 for _, _, c, _ in segments])
    silent = np.array([c == "" for _, _, c, _ in segments])
    # Gaps shorter than a breath do not close the mouth all the way.
    strength[silent] = np.clip((end - start)[silent] / 0.12, 0.1, 3.0)

    # Dominance functions (Cohen & Massaro, 1993): each segment pulls with a strength that falls off outside it.
    ahead = np.maximum(start[None] - times[:, None], 0.0)
    behind = np.maximum(times[:, None] - end[None], 0.0)
    pull = strength * np.exp(-((ahead / 0.036) ** 1.2) - (behind / 0.032) ** 1.2)
    track = pull @ target / np.maximum(pull.sum(axis=1, keepdims=True), 1e-9)
    # Lips round earlier than the jaw moves.
    slow = strength * np.exp(-ahead / 0.07 - behind / 0.055)
    track[:, _ROUNDING] = (slow @ target[:, _ROUNDING]) / np.maximum(slow.sum(axis=1), 1e-9)
    # Blending pulls everything towards the middle; this gives the range back.
    track[:, [_JAW, _ROUNDING]] *= (1.3, 1.2)
    _contact(track, segments, times, _BILABIALS, _PRESS)
    _contact(track, segments, times, _LABIODENTALS, _TUCK)
    track[:, _TUCK] *= 1.0 - track[:, _PRESS]
    return np.clip(track, [0, -1, 0, 0, 0, 0, 0], 1.0).astype(np.float32)


def _contact(
    track: np.ndarray,
    segments: list[tuple[float, float, str, Target]],
    times: np.ndarray,
    symbols: frozenset[str],
    channel: int,
) -> None:
    """Raises `channel` to 1 at every phoneme of `symbols`, for at least the frame nearest to its middle."""
    level = np.zeros(len(times))
    for start, end, symbol, _ in segments:
        if symbol not in symbols:
            continue
        middle, half = 0.5 * (start + end), max(0.5 * (end - start) - 0.008, 0.021)
        outside = np.maximum(np.abs(times - middle) - half, 0.0)
        level = np.maximum(level, np.clip(1.0 - outside / 0.055, 0.0, 1.0) ** 1.5)
    track[:, channel] = level


def emphasis_track(audio: np.ndarray, num_frames: int) -> np.ndarray:
    """How much speech is stressed, `[F]` in 0..1: smoothed loudness above its usual level."""
    hop = SAMPLE_RATE // FPS
    frames = np.zeros(num_frames * hop)
    frames[: len(audio)] = audio[: len(frames)]
    level = np.sqrt(np.mean(frames.reshape(num_frames, hop) ** 2, axis=1))
    kernel = np.exp(-0.5 * (np.arange(-6, 7) / 2.5) ** 2)
    level = np.convolve(level, kernel / kernel.sum(), mode="same")[:num_frames] if num_frames >= 13 else level
    high, middle = np.percentile(level, 95), np.percentile(level, 50)
    return np.clip((level - middle) / max(float(high - middle), 1e-6), 0.0, 1.0)
