"""Look at and measure a checkpoint on held-out people and voices: ``python -m training evaluate``."""

from __future__ import annotations

import json
import logging
from functools import partial
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import torch
from einops import rearrange
from torch import Tensor

from models.audio import FPS, SAMPLE_RATE, AudioFeatures, log_mel_features
from models.checkpoint import read_checkpoint
from models.config import SamplingConfig
from models.dit import TalkingHeadDiT
from models.nano_vae import NanoVAE
from models.reference import Reference, fit_portrait, temporal_reference
from models.rollout import ContinuityOptions, rollout

from .images import save_strip
from .inference import condition, load_for_sampling

matplotlib.use("Agg")
log = logging.getLogger(__name__)

STRIP_FRAMES = 12


@torch.no_grad()
def generate(
    network: TalkingHeadDiT, vae: NanoVAE, portrait: Tensor, audio: Tensor, sampling: SamplingConfig, seed: int
) -> Tensor:
    """Frames uint8 [F, H, W, 3] for a ``portrait`` uint8 [H, W, 3] and ``audio`` [N] at 16 kHz."""
    size = portrait.shape[0]
    pixels = fit_portrait(portrait[None].float() / 255, size, size)
    latents = temporal_reference(vae.encode, pixels, sampling.frames_per_chunk)
    reference = Reference(latents, pixels, sampling.frames_per_chunk)
    num_frames = audio.shape[0] * FPS // SAMPLE_RATE
    features = AudioFeatures(log_mel_features(audio, num_frames), num_frames / FPS, "log-mel")
    chunks = rollout(partial(condition, network), vae, reference, features, sampling, ContinuityOptions(), seed)
    return torch.cat([chunk.frames for chunk, _ in chunks])


def measured_opening(frames: Tensor, boxes: Tensor) -> np.ndarray:
    """Mouth motion seen in ``frames`` uint8 [F, H, W, 3], as an array [F].

    It is the mean difference to the first frame, where the mouth is closed, over the mouth's surroundings (``boxes``
    [F, 4] in pixels); it stands for the opening while the head is held still.
    """
    x0, y0 = boxes[:, :2].amin(0).tolist()
    x1, y1 = boxes[:, 2:].amax(0).tolist()
    mouth = frames[:, y0:y1, x0:x1].float()
    return (mouth - mouth[:1]).abs().mean((1, 2, 3)).numpy()


def correlation(a: np.ndarray, b: np.ndarray, max_lag: int = 3) -> tuple[float, int]:
    """Highest Pearson correlation of two tracks over shifts of up to ``max_lag`` frames, and that lag of ``a``."""
    best = (-1.0, 0)
    for lag in range(-max_lag, max_lag + 1):
        x, y = a[max(0, lag) : len(a) + min(0, lag)], b[max(0, -lag) : len(b) + min(0, -lag)]
        if x.std() > 0 and y.std() > 0:
            best = max(best, (float(np.corrcoef(x, y)[0, 1]), lag))
    return best


def evaluate(network_path: Path, vae_path: Path, clips: Path, out: Path, count: int, seed: int, steps: int) -> None:
    """Generate ``count`` drawn clips again from portrait and speech; write strips, plots and ``metrics.json``."""
    network, sampling, _ = load_for_sampling(network_path)
    if steps:
        sampling = SamplingConfig(sampling.sampler, steps, sampling.shift, sampling.guidance, sampling.frames_per_chunk)
    vae = NanoVAE.from_checkpoint(*read_checkpoint(vae_path))
    out.mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, Any]] = []
    for path in sorted(clips.glob("clip_*.safetensors"))[:count]:
        clip, _ = read_checkpoint(path)
        frames = generate(network, vae, clip["portrait"], clip["audio"], sampling, seed)
        seen = measured_opening(frames, clip["mouth_boxes"])
        sync, lag = correlation(seen, clip["opening"].numpy())
        ceiling, _ = correlation(measured_opening(clip["frames"], clip["mouth_boxes"]), clip["opening"].numpy())
        rows.append(
            {"clip": path.stem, "sync": sync, "lag": lag, "sync_of_ground_truth": ceiling} | _motion(frames, clip)
        )
        _save_strip(frames, clip["frames"], out / f"{path.stem}.png")
        _save_plot(seen, clip, out / f"{path.stem}_opening.png")
    means = {key: float(np.mean([row[key] for row in rows])) for key in rows[0] if key != "clip"}
    (out / "metrics.json").write_text(json.dumps({"mean": means, "clips": rows}, indent=1))
    log.info("%s", ", ".join(f"{key} {value:.3f}" for key, value in means.items()))


def _motion(frames: Tensor, clip: dict[str, Tensor]) -> dict[str, float]:
    """Mean frame difference over the truth's."""
    made, true = (video.float().diff(dim=0).abs().mean().item() for video in (frames, clip["frames"]))
    return {"motion_ratio": made / true}


def _save_strip(frames: Tensor, truth: Tensor, path: Path) -> None:
    index = torch.linspace(0, len(frames) - 1, STRIP_FRAMES).long()
    pixels = rearrange(torch.cat((frames[index], truth[index])), "n h w c -> n c h w").float() / 127.5 - 1
    save_strip(pixels[..., ::2, ::2], STRIP_FRAMES, path)


def _save_plot(seen: np.ndarray, clip: dict[str, Tensor], path: Path) -> None:
    """Opening seen in the frames and the true one, over the waveform."""
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(12, 3))
    time = np.arange(clip["audio"].shape[0]) / SAMPLE_RATE
    axes.plot(time, clip["audio"].numpy(), color="0.8", linewidth=0.3)
    frame_time = (np.arange(len(seen)) + 0.5) / FPS
    axes.plot(frame_time, seen / max(seen.max(), 1e-6), label="seen in the generated frames")
    axes.plot(frame_time, clip["opening"].numpy() / max(clip["opening"].max().item(), 1e-6), "--", label="true")
    axes.legend()
    axes.set_xlabel("seconds")
    figure.savefig(path, dpi=80, bbox_inches="tight")
    pyplot.close(figure)
