"""Figures of a generated video: does the mouth follow, does the person stay, does the head move, do seams show."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from ...models.rates import FPS
from .probe import TRACKS, FaceProbe

HEAD = tuple(TRACKS.index(name) for name in ("yaw", "pitch", "roll"))
OPENING = TRACKS.index("opening")
MAX_LAG = 3
# Of a track that stands still: it follows nothing.
NO_CORRELATION = -1.0


@dataclass
class Reading:
    """Measurements of a video, taken while it was generated. Only a few numbers per frame are kept.

    Per frame: ``tracks`` [9] (``probe.TRACKS``), ``identity`` distance to the portrait. ``steps``: mean difference to
    the frame before, 0..1. ``seams``: the first frames of chunks after the first. ``sharpness`` per chunk.
    """

    tracks: list[np.ndarray] = field(default_factory=list)
    identity: list[np.ndarray] = field(default_factory=list)
    steps: list[np.ndarray] = field(default_factory=list)
    seams: list[int] = field(default_factory=list)
    sharpness: list[float] = field(default_factory=list)
    last: Tensor | None = None
    num_frames: int = 0

    def add(self, probe: FaceProbe, portrait: Tensor, frames: Tensor, sharpness: float) -> None:
        """Read a chunk's new ``frames`` uint8 [n, H, W, 3]; ``portrait`` is the portrait's embedding [D]."""
        seen, who = probe.read(frames)
        self.tracks.append(seen.numpy())
        self.identity.append(probe.identity_distance(who, portrait).numpy())
        before = frames[:1] if self.last is None else self.last[None]
        self.steps.append(frame_steps(torch.cat((before, frames))))
        self.last = frames[-1].clone()
        if self.num_frames:
            self.seams.append(self.num_frames)
        self.sharpness.append(sharpness)
        self.num_frames += len(frames)


def frame_steps(frames: Tensor) -> np.ndarray:
    """Mean differences between neighbours of ``frames`` uint8 [n, H, W, 3], at every second pixel: [n - 1]."""
    return frames[:, ::2, ::2].float().diff(dim=0).abs().mean((1, 2, 3)).numpy() / 255


def correlation(a: np.ndarray, b: np.ndarray) -> tuple[float, float]:
    """Highest Pearson correlation of two tracks over shifts of up to ``MAX_LAG`` frames, and that lag of ``a``.

    The lag is found to a fraction of a frame, by the parabola through the best shift and its neighbours.
    """
    lags = range(-MAX_LAG, MAX_LAG + 1)
    values = [_shifted_correlation(a, b, lag) for lag in lags]
    best = int(np.argmax(values))
    if values[best] == NO_CORRELATION:
        return NO_CORRELATION, 0.0
    if not 0 < best < len(values) - 1:
        return values[best], float(lags[best])
    before, peak, after = values[best - 1 : best + 2]
    bend = before - 2 * peak + after
    return peak, lags[best] + (0.5 * (before - after) / bend if bend < 0 else 0.0)


def _shifted_correlation(a: np.ndarray, b: np.ndarray, lag: int) -> float:
    x, y = a[max(0, lag) : len(a) + min(0, lag)], b[max(0, -lag) : len(b) + min(0, -lag)]
    return float(np.corrcoef(x, y)[0, 1]) if x.std() > 0 and y.std() > 0 else NO_CORRELATION


def window_figures(
    reading: Reading, truth: np.ndarray | None, proxy: np.ndarray, start_s: float, stop_s: float
) -> dict[str, float]:
    """Figures of the seconds [start_s, stop_s).

    ``sync`` and ``lag``: of the opening read in the frames with the true one, and with the sound's ``proxy``, which is
    the only measure where the truth is unknown; ``head_motion`` and ``mouth_motion``: deviation over the true one's;
    ``identity``: mean distance (1 is a stranger); ``seam``: step into the first frames of chunks over the usual step.
    """
    window = slice(round(start_s * FPS), round(stop_s * FPS))
    seen = np.concatenate(reading.tracks)[window]
    goal = proxy[window] if truth is None else truth[window, OPENING]
    sync, lag = correlation(seen[:, OPENING], goal)
    sync_proxy, lag_proxy = correlation(seen[:, OPENING], proxy[window])
    figures = {
        "sync": sync,
        "lag": lag,
        "sync_proxy": sync_proxy,
        "lag_proxy": lag_proxy,
        "identity": float(np.concatenate(reading.identity)[window].mean()),
        "sharpness": float(np.mean(_chunks_within(reading, window))),
    }
    steps = np.concatenate(reading.steps)
    inside = [s for s in reading.seams if window.start <= s < window.stop]
    if inside:
        others = np.delete(steps[window], [s - window.start for s in inside])
        figures["seam"] = float(steps[inside].mean() / max(float(others.mean()), 1e-9))
    if truth is not None:
        true = truth[window]
        figures["head_motion"] = float(np.mean([seen[:, i].std() / max(true[:, i].std(), 1e-6) for i in HEAD]))
        figures["mouth_motion"] = float(seen[:, OPENING].std() / max(true[:, OPENING].std(), 1e-6))
        figures["head_sync"] = float(np.mean([correlation(seen[:, i], true[:, i])[0] for i in HEAD]))
    return figures


def _chunks_within(reading: Reading, window: slice) -> list[float]:
    starts = [0, *reading.seams]
    chosen = [s for start, s in zip(starts, reading.sharpness, strict=True) if window.start <= start < window.stop]
    return chosen or reading.sharpness[-1:]


def psnr(frames: Tensor, truth: Tensor) -> float:
    """Peak signal-to-noise ratio in dB of two videos uint8 [n, H, W, 3]."""
    error = (frames.float() - truth.float()).square().mean().item()
    return 10 * float(np.log10(255**2 / max(error, 1e-9)))
