"""Measure generated videos against real ones: ``python -m asymtalker.training metrics``.

Both folders hold videos of the same names: the real ones face-centred as the generated ones are, such as `prepare`
writes with --keep-videos. Image quality needs nothing more; the others need the file of a published network each.
"""

from __future__ import annotations

import argparse
import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torchmetrics.functional.image import peak_signal_noise_ratio, structural_similarity_index_measure
from tqdm import tqdm

from ..core.config import TrainingError
from ..videos.faces import aligned_faces, sync_faces, track_face
from ..videos.video import BadClip, read_clip, video_files
from .frechet import FeatureStatistics, frechet_distance
from .networks import (
    ARCFACE,
    FILES,
    I3D,
    I3D_FRAMES,
    INCEPTION,
    SYNCNET,
    load_arcface,
    load_i3d,
    load_inception,
    load_syncnet,
)
from .report import write_report
from .syncnet import SIZE, WINDOW_FRAMES, SyncNet, measure_sync

log = logging.getLogger(__name__)

BATCH = 16


@dataclass(frozen=True)
class Networks:
    """The measuring networks; None where no file was given."""

    inception: Callable[[Tensor], Tensor] | None
    i3d: Callable[[Tensor], Tensor] | None
    syncnet: SyncNet | None
    arcface: Callable[[Tensor], Tensor] | None


def load_networks(files: Mapping[str, Path | None]) -> Networks:
    """Networks of ``files`` by their names in ``networks.FILES``.

    Raises:
        TrainingError: a file is missing or of another network; the message says which published file is wanted.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    for name, path in files.items():
        if path is not None and not path.is_file():
            raise TrainingError(f"there is no {path}: {FILES[name].option} needs {FILES[name].published}")
    inception, i3d, syncnet, arcface = (files.get(name) for name in ("inception", "i3d", "syncnet", "arcface"))
    return Networks(
        load_inception(inception, device) if inception else None,
        load_i3d(i3d, device) if i3d else None,
        load_syncnet(syncnet, device) if syncnet else None,
        load_arcface(arcface) if arcface else None,
    )


def pairs(real: Path, generated: Path) -> list[tuple[str, Path, Path]]:
    """(name, real file, generated file) of every video that is in both folders, by name without suffix.

    Raises:
        TrainingError: there is none.
    """
    found = [
        {path.relative_to(folder).with_suffix("").as_posix(): path for path in video_files(folder)}
        for folder in (real, generated)
    ]
    if alone := sorted(found[0].keys() ^ found[1].keys()):
        log.warning("%d videos are in one folder only and left out: %s", len(alone), ", ".join(alone[:5]))
    both = sorted(found[0].keys() & found[1].keys())
    if not both:
        raise TrainingError(f"no video in {generated} has the name of one in {real}")
    return [(name, found[0][name], found[1][name]) for name in both]


class Measurement:
    """Collects the measurements, one pair of videos after the other."""

    def __init__(self, networks: Networks) -> None:
        self.networks = networks
        self.rows: list[dict[str, Any]] = []
        self.curves: dict[str, dict[str, list[float]]] = {"identity": {}, "sync": {}, "psnr": {}}
        self._pictures = (FeatureStatistics(), FeatureStatistics())
        self._clips = (FeatureStatistics(), FeatureStatistics())

    def add(self, name: str, real: tuple[Tensor, Tensor], generated: tuple[Tensor, Tensor]) -> None:
        """One pair: frames uint8 [F, H, W, 3] and audio [N] of each; the longer is cut, other sizes are scaled."""
        count = min(len(real[0]), len(generated[0]))
        truth, made = real[0][:count], _scaled(generated[0][:count], real[0].shape[1:3])
        row: dict[str, Any] = {"name": name, "frames": count}
        row |= self._quality(name, truth, made)
        self._collect(truth, made)
        if self.networks.syncnet or self.networks.arcface:
            row |= self._faces(name, (truth, real[1]), (made, generated[1]))
        self.rows.append(row)

    def _faces(self, name: str, real: tuple[Tensor, Tensor], generated: tuple[Tensor, Tensor]) -> dict[str, Any]:
        """Sync of both videos and the generated one's likeness to the real one's first frame, the portrait."""
        (truth, _), (made, _) = real, generated
        tracks = track_face(truth), track_face(made)
        if tracks[0] is None or tracks[1] is None:
            return {"note": f"no face is found in the {'real' if tracks[0] is None else 'generated'} video"}
        row: dict[str, Any] = {}
        if self.networks.syncnet:
            of_truth = measure_sync(self.networks.syncnet, sync_faces(truth, tracks[0], SIZE), real[1])
            sync = measure_sync(self.networks.syncnet, sync_faces(made, tracks[1], SIZE), generated[1])
            row |= {"sync_c": sync.confidence, "sync_d": sync.distance, "sync_offset": sync.offset}
            row |= {"sync_c_real": of_truth.confidence, "sync_d_real": of_truth.distance}
            self.curves["sync"][name] = sync.distances.tolist()
        if self.networks.arcface:
            portrait = self.networks.arcface(aligned_faces(truth[:1], tracks[0]))
            similarity = (self.networks.arcface(aligned_faces(made, tracks[1])) @ portrait.T)[:, 0]
            row["identity"] = similarity.mean().item()
            self.curves["identity"][name] = similarity.tolist()
        return row

    def _quality(self, name: str, truth: Tensor, made: Tensor) -> dict[str, float]:
        noise, similarity = [], []
        for start in range(0, len(truth), BATCH):
            a, b = (part[start : start + BATCH].permute(0, 3, 1, 2).float() for part in (made, truth))
            noise.append(peak_signal_noise_ratio(a, b, 255.0, reduction="none", dim=(1, 2, 3)))
            similarity.append(structural_similarity_index_measure(a, b, reduction="none", data_range=255.0))
        # Frames without any error have no finite ratio; 8-bit pictures go to about 60 dB.
        ratios = torch.cat(noise).clamp(max=60.0)
        self.curves["psnr"][name] = ratios.tolist()
        return {"psnr": ratios.mean().item(), "ssim": torch.cat([torch.as_tensor(s) for s in similarity]).mean().item()}

    def _collect(self, truth: Tensor, made: Tensor) -> None:
        for index, frames in enumerate((truth, made)):
            if self.networks.inception:
                for start in range(0, len(frames), BATCH):
                    self._pictures[index].add(self.networks.inception(frames[start : start + BATCH]))
            if self.networks.i3d:
                for start in range(0, len(frames) - I3D_FRAMES + 1, I3D_FRAMES):
                    self._clips[index].add(self.networks.i3d(frames[None, start : start + I3D_FRAMES]))

    def result(self) -> dict[str, Any]:
        """``mean`` over the videos, the sets' distances, each video's row, and what was not measured and why."""
        names = sorted({key for row in self.rows for key in row} - {"name", "frames", "note", "sync_offset"})
        mean = {name: float(np.mean([row[name] for row in self.rows if name in row])) for name in names}
        not_measured: dict[str, str] = {}
        for name, wanted, statistics in (("fid", INCEPTION, self._pictures), ("fvd", I3D, self._clips)):
            if min(part.count for part in statistics) >= 2:
                mean[name] = frechet_distance(*statistics)
            elif getattr(self.networks, wanted.option[2:]) is not None:
                not_measured[name] = "not measured: it takes at least two samples"
        for key, wanted in FILES.items():
            if getattr(self.networks, key) is None:
                not_measured |= dict.fromkeys(wanted.metrics, wanted.missing())
        for key, wanted in (("syncnet", SYNCNET), ("arcface", ARCFACE)):
            if getattr(self.networks, key) is not None:
                absent = {name: "not measured: no face is found" for name in wanted.metrics if name not in mean}
                not_measured |= absent
        counts = {"videos": len(self.rows), "pictures": self._pictures[0].count, "clips": self._clips[0].count}
        return {"mean": mean, "not_measured": not_measured, "counts": counts, "videos": self.rows}


def _scaled(frames: Tensor, size: torch.Size) -> Tensor:
    if frames.shape[1:3] == size:
        return frames
    pixels = torch.nn.functional.interpolate(frames.permute(0, 3, 1, 2), tuple(size), mode="bicubic", antialias=True)
    return pixels.permute(0, 2, 3, 1)


def measure(real: Path, generated: Path, out: Path, files: Mapping[str, Path | None]) -> dict[str, Any]:
    """Measure all pairs; writes `metrics.json`, `metrics.md` and plots to ``out`` and returns what the first holds.

    Raises:
        TrainingError: no pairs, none that can be read, or a network's file that is not the one wanted.
    """
    found = pairs(real, generated)
    measurement = Measurement(load_networks(files))
    unread: dict[str, str] = {}
    for name, *paths in tqdm(found, unit="pair"):
        try:
            clips = [read_clip(path) for path in paths]
            if (shortest := min(len(frames) for frames, _ in clips)) <= WINDOW_FRAMES:
                raise BadClip(f"too short: {shortest} frames")
        except BadClip as reason:
            unread[name] = str(reason)
            continue
        measurement.add(name, *clips)
    if not measurement.rows:
        raise TrainingError(f"none of the {len(found)} pairs can be read, such as {name}: {unread[name]}")
    result = measurement.result() | {"left_out": unread}
    for reason in sorted(set(result["not_measured"].values())):
        log.warning("%s %s", ", ".join(k for k, v in result["not_measured"].items() if v == reason), reason)
    out.mkdir(parents=True, exist_ok=True)
    (out / "metrics.json").write_text(json.dumps(result, indent=1), "utf-8")
    write_report(result, measurement.curves, out)
    return result


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command."""
    parser.add_argument("--real", type=Path, required=True, help="folder of real, face-centred videos")
    parser.add_argument("--generated", type=Path, required=True, help="folder of generated videos with the same names")
    parser.add_argument("--out", type=Path, required=True, help="folder for metrics.json, metrics.md and plots")
    parser.add_argument("--inception", type=Path, help="network for FID: pt_inception-2015-12-05-6726825d.pth")
    parser.add_argument("--i3d", type=Path, help="network for FVD: i3d_pretrained_400.pt")
    parser.add_argument("--syncnet", type=Path, help="network for Sync-C and Sync-D: syncnet_v2.model")
    parser.add_argument("--arcface", type=Path, help="network for identity: w600k_r50.onnx")


def run(args: argparse.Namespace) -> None:
    """Run the command."""
    names = ("inception", "i3d", "syncnet", "arcface")
    measure(args.real, args.generated, args.out, {name: getattr(args, name) for name in names})
