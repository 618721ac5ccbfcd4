"""Pictures of what was measured."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from einops import rearrange
from torch import Tensor

from ...models.rates import FPS, SAMPLE_RATE
from ..core.images import figure, save_strip, shrunk
from .probe import TRACKS
from .subjects import Subject

SHOWN_S = 10.0


def save_frames(frames: Tensor, truth: Tensor | None, path: Path) -> None:
    """``frames`` uint8 [n, H, W, 3] in a row, over the true ones where there are any; large ones in half their size."""
    rows = frames if truth is None else torch.cat((frames, truth))
    pixels = rearrange(rows, "n h w c -> n c h w").float() / 127.5 - 1
    save_strip(shrunk(pixels), len(frames), path)


def save_opening(seen: np.ndarray, subject: Subject, path: Path) -> None:
    """Opening read in the frames, and the true one where it is known, over the waveform of the first seconds."""
    frames = min(len(seen), round(SHOWN_S * FPS))
    audio = subject.audio[: frames * SAMPLE_RATE // FPS].numpy()
    with figure(path, (12, 3)) as (axes,):
        axes.plot(np.arange(len(audio)) / SAMPLE_RATE, audio, color="0.8", linewidth=0.3)
        time = (np.arange(frames) + 0.5) / FPS
        axes.plot(time, seen[:frames], label="read in the generated frames")
        if subject.truth is not None:
            axes.plot(time, subject.truth[:frames, 0], "--", label="true")
        axes.legend()
        axes.set_xlabel("seconds")


def save_tracks(seen: np.ndarray, truth: np.ndarray, path: Path) -> None:
    """Every track read in the frames and its truth, the first seconds."""
    frames = min(len(seen), round(SHOWN_S * FPS))
    with figure(path, (12, 1.4 * len(TRACKS)), len(TRACKS)) as panels:
        for index, (name, axes) in enumerate(zip(TRACKS, panels, strict=True)):
            axes.plot(np.arange(frames) / FPS, seen[:frames, index])
            axes.plot(np.arange(frames) / FPS, truth[:frames, index], "--")
            axes.set_ylabel(name)


def save_drift(curves: dict[str, list[list[float]]], folder: Path) -> None:
    """``drift.png``: identity distance over the seconds for every name, mean and range of its videos."""
    with figure(folder / "drift.png", (10, 5)) as (axes,):
        longest = max(len(video) for videos in curves.values() for video in videos)
        for name, videos in curves.items():
            _plot_range(axes, name, videos, window=max(1, longest // 60))
        axes.set_xlabel("seconds")
        axes.set_ylabel("identity distance to the portrait (1: a stranger)")
        # Beside the curves: there may be ten, and they fill the plot.
        axes.legend(fontsize="small", loc="center left", bbox_to_anchor=(1, 0.5))


def _plot_range(axes: Any, name: str, videos: list[list[float]], window: int) -> None:
    """Mean and range over ``videos``, some of which may be shorter, of means over ``window`` seconds."""
    means = [np.mean(np.reshape(video[: len(video) // window * window], (-1, window)), axis=1) for video in videos]
    places = range(max(map(len, means)))
    there = [[mean[place] for mean in means if place < len(mean)] for place in places]
    seconds = (np.array(places) + 0.5) * window
    (line,) = axes.plot(seconds, [np.mean(values) for values in there], label=name)
    low, high = ([extreme(values) for values in there] for extreme in (min, max))
    axes.fill_between(seconds, low, high, color=line.get_color(), alpha=0.15)
