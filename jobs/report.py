"""The Sampler's report as JSON: settings, files, speed, and every chunk's figures."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import Any

from ..host.checkpoints.sources import file_of
from ..host.compute import description
from ..media import SpoolHeader
from ..models.rates import FPS
from ..models.record import ChunkRecord
from .inputs import Inputs


def run_report(
    inputs: Inputs,
    header: SpoolHeader,
    resumed: Sequence[ChunkRecord],
    made: Sequence[ChunkRecord],
    elapsed_s: float,
    notes: Sequence[str],
    overlapped: int,
    chunk_s: float | None,
) -> str:
    """Chunks that already existed, then those generated in this run; ``overlapped`` of them during the next one.

    ``chunk_s`` is the usual wall time of one. The seconds of overlapped chunks' stages add up to more.
    """
    chunks = [*resumed, *made]
    report: dict[str, Any] = {
        "model": inputs.network.checkpoint.name,
        "files": {
            "model": file_of(inputs.network),
            "vae": file_of(inputs.vae),
            "audio_encoder": inputs.audio.encoder,
        },
        "runs_on": description(inputs.model, inputs.vae),
        "width": header.width,
        "height": header.height,
        "frames": sum(chunk.frames for chunk in chunks),
        "frames_per_second_of_video": FPS,
        "chunks_resumed": len(resumed),
        "chunks_regenerated": [chunk.index for chunk in chunks if chunk.is_regenerated],
        "chunks_overlapped": overlapped,
        "seconds": round(elapsed_s, 3),
        "fps": round(sum(chunk.frames for chunk in made) / elapsed_s, 2) if made else None,
        "seconds_per_chunk": None if chunk_s is None else round(chunk_s, 4),
        "seed": inputs.settings.seed,
        "sampling": dataclasses.asdict(inputs.sampling) | {"blinks": inputs.blinks},
        "shift": list(inputs.reference.shift),
        "continuity": dataclasses.asdict(inputs.settings.continuity),
        "chunks": [_described(chunk) for chunk in chunks],
    }
    if notes:
        report["notes"] = list(notes)
    return json.dumps(report, indent=1)


def _described(chunk: ChunkRecord) -> dict[str, Any]:
    return {
        "index": chunk.index,
        "first_frame": chunk.first_frame,
        "frames": chunk.frames,
        "seconds": _rounded(chunk.seconds),
        "stats": _rounded(chunk.stats),
        "regenerated": chunk.is_regenerated,
    }


def _rounded(values: Mapping[str, float]) -> dict[str, float]:
    return {name: round(value, 4) for name, value in values.items()}
