"""Measure one video of one length in its own process: ``python -m asymtalker.benchmarks.long_run``."""

from __future__ import annotations

import argparse
import json
import resource
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, median
from typing import Any

import av
import numpy as np
import torch

from .host import SIZES, Host, Made

BARE_STAGES = ("network", "decode", "continuity")
"""Network and VAE calls; everything else of a chunk is the Sampler's own."""

DRIFT_FIGURES = ("reference_distance", "color_distance", "sharpness", "motion")
LAG_SECONDS = 3.0


@dataclass(frozen=True)
class Cost:
    """Wall and CPU seconds, those of finished child processes (ffmpeg) included."""

    wall: float
    cpu: float

    @classmethod
    def now(cls) -> Cost:
        children = resource.getrusage(resource.RUSAGE_CHILDREN)
        return cls(time.monotonic(), time.process_time() + children.ru_utime + children.ru_stime)

    def since(self, start: Cost) -> Cost:
        return Cost(self.wall - start.wall, self.cpu - start.cpu)


def main(arguments: list[str] | None = None) -> int:
    """Make and save the video in ``--workdir`` and write the figures to ``--json``."""
    parser = argparse.ArgumentParser(prog="python -m asymtalker.benchmarks.long_run", description=__doc__)
    parser.add_argument("--geometry", choices=tuple(SIZES), required=True)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--workdir", type=Path, required=True)
    parser.add_argument("--json", type=Path, required=True)
    options = parser.parse_args(arguments)
    figures = measure(Host(options.geometry, options.workdir), options.geometry, options.seconds, options.workdir)
    options.json.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    return 0


def measure(host: Host, geometry: str, seconds: float, workdir: Path) -> dict[str, Any]:
    """Make one video and say what it took."""
    started = Cost.now()
    made = host.make(seconds)
    generation = Cost.now().since(started)
    spool_bytes, file = host.spool_bytes(), workdir / "video.mp4"
    started = Cost.now()
    host.save(made, file)
    saving = Cost.now().since(started)
    report = json.loads(made.report)
    return {
        "geometry": geometry,
        "size": f"{report['width']}x{report['height']}",
        "seconds": seconds,
        "threads": torch.get_num_threads(),
        "frames": report["frames"],
        "chunks_resumed": report["chunks_resumed"],
        "generation": per_second(generation, seconds),
        "saving": per_second(saving, seconds),
        # Linux counts in KiB.
        "peak_rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6,
        "spool_mb": spool_bytes / 1e6,
        "mp4_mb": file.stat().st_size / 1e6,
        "stages_s_per_s": stages(report, seconds),
        "pace_s_per_s": pace(report),
        "overhead": overhead(report, generation.wall),
        "drift": drift(report["chunks"]),
        "regenerated": report["chunks_regenerated"],
        "end": end_offsets(file, made),
    }


def per_second(cost: Cost, seconds: float) -> dict[str, float]:
    """Seconds for a second of video."""
    return {"wall_s_per_s": cost.wall / seconds, "cpu_s_per_s": cost.cpu / seconds}


def stages(report: dict[str, Any], seconds: float) -> dict[str, float]:
    """Wall seconds of each stage for a second of video."""
    names = sorted({name for chunk in report["chunks"] for name in chunk["seconds"]})
    return {name: sum(chunk["seconds"].get(name, 0.0) for chunk in report["chunks"]) / seconds for name in names}


def pace(report: dict[str, Any]) -> list[float]:
    """Wall seconds for a second of video in each tenth of the chunks: growth shows, and a disturbed machine too."""
    taken = [sum(chunk["seconds"].values()) for chunk in report["chunks"]]
    chunk_s = report["frames"] / 25 / len(taken)
    return [float(part.mean()) / chunk_s for part in np.array_split(taken, min(10, len(taken)))]


def overhead(report: dict[str, Any], wall_s: float) -> dict[str, float]:
    """What the Sampler takes beyond its network and VAE calls, relative to them; colour correction beside the rest."""
    totals = {name: value * report["frames"] / 25 for name, value in stages(report, report["frames"] / 25).items()}
    bare = sum(totals[name] for name in BARE_STAGES)
    colour = totals["colour"]
    return {"colour": colour / bare, "rest": (wall_s - bare - colour) / bare}


def drift(chunks: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Means over the first and the last tenth of the chunks, and the median seam."""
    tenth = max(1, len(chunks) // 10)
    # The portrait itself opens the first chunk.
    parts = {"first": chunks[1 : 1 + tenth] or chunks, "last": chunks[-tenth:]}
    found = {
        name: {part: fmean(chunk["stats"][name] for chunk in some) for part, some in parts.items()}
        for name in DRIFT_FIGURES
    }
    seams = [chunk["stats"]["seam"] for chunk in chunks if "seam" in chunk["stats"]]
    return {**found, "seam": {"median": median(seams), "worst": max(seams)}} if seams else found


def end_offsets(file: Path, made: Made) -> dict[str, float]:
    """Where picture and sound are at the end of the mp4, in ms off where they belong.

    ``frame_ms``: the last frame's time; ``sound_ms``: the lag at which the last seconds, decoded, fit what was given.
    """
    given, rate = made.audio["waveform"][0, 0].numpy(), made.audio["sample_rate"]
    with av.open(str(file)) as container:
        video, audio = container.streams.video[0], container.streams.audio[0]
        stamps = [packet.pts for packet in container.demux(video) if packet.pts is not None]
        assert video.time_base is not None and audio.time_base is not None
        last_frame_s = float(max(stamps) * video.time_base)
        sample_from = max(0.0, len(given) / rate - LAG_SECONDS)
        container.seek(round(sample_from / audio.time_base), stream=audio)
        blocks = [(float(frame.pts * audio.time_base), frame.to_ndarray()[0]) for frame in container.decode(audio)]
    first_s, decoded = blocks[0][0], np.concatenate([block for _, block in blocks])
    start = round(first_s * rate)
    lag = _lag(decoded, given[start:])
    expected_s = (made.video.get_frame_count() - 1) / 25
    return {"frame_ms": 1000 * (last_frame_s - expected_s), "sound_ms": 1000 * lag / rate}


def _lag(decoded: np.ndarray[Any, Any], given: np.ndarray[Any, Any]) -> int:
    """Samples by which ``decoded`` comes later than ``given``."""
    length = min(len(decoded), len(given))
    size = 2 * length
    spectrum = np.fft.rfft(decoded[:length], size) * np.conj(np.fft.rfft(given[:length], size))
    best = int(np.argmax(np.fft.irfft(spectrum, size)))
    return best if best < length else best - size


if __name__ == "__main__":
    sys.exit(main())
