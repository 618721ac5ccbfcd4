"""The figures of a finished clip's row in the report, from the Sampler's report and the video file."""

from __future__ import annotations

import io
import json
import math
from pathlib import Path
from typing import Any

import av
from PIL import Image

from ..scripts._workflow import Graph
from .graph import report_node, samplers

THUMBNAIL_SIZE = (144, 144)
THUMBNAIL_QUALITY = 70


def report_figures(graph: Graph, history: dict[str, Any]) -> dict[str, Any]:
    """Drift, worst seam, warnings and size from the reports of a run's Samplers; empty if there are none.

    Drift is the last chunk's distance to the portrait minus the first one's.
    """
    figures: dict[str, Any] = {}
    for node_id in samplers(graph):
        texts = history["outputs"].get(report_node(node_id), {}).get("text", [])
        for text in texts:
            try:
                found = _figures(json.loads(text))
            except (ValueError, KeyError, TypeError):
                continue
            figures = {name: _worse(name, figures.get(name), value) for name, value in found.items()}
    return figures


def _worse(name: str, known: Any, value: Any) -> Any:
    if known is None or value is None:
        return value if known is None else known
    return known + value if isinstance(value, list) else max(known, value)


def _figures(report: dict[str, Any]) -> dict[str, Any]:
    stats = [chunk["stats"] for chunk in report["chunks"]]
    distances = [_finite(chunk.get("reference_distance")) for chunk in stats]
    known = [distance for distance in distances if distance is not None]
    seams = [seam for chunk in stats if (seam := _finite(chunk.get("seam"))) is not None]
    warnings = list(report.get("notes", []))
    regenerated = report.get("chunks_regenerated", [])
    if regenerated:
        warnings.append(f"chunks regenerated after they collapsed: {', '.join(map(str, regenerated))}")
    return {
        "frames": report["frames"],
        "chunks": len(stats),
        "chunks_resumed": report.get("chunks_resumed", 0),
        "drift": round(known[-1] - known[0], 4) if known else None,
        "seam": round(max(seams), 3) if seams else None,
        "warnings": warnings,
    }


def _finite(value: Any) -> float | None:
    return float(value) if isinstance(value, (int, float)) and math.isfinite(value) else None


def look_at_video(path: Path) -> tuple[dict[str, Any], bytes]:
    """Length and size of a video, and its middle key frame as a small JPEG.

    Raises:
        FFmpegError, StopIteration: the file is not a complete video.
    """
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        seconds = (container.duration or 0) / 1e6
        container.seek(int(seconds / 2 * 1e6))
        frame = next(container.decode(stream))
        picture = frame.to_image()
    width, height = picture.size
    picture.thumbnail(THUMBNAIL_SIZE, Image.Resampling.BILINEAR)
    data = io.BytesIO()
    picture.save(data, "JPEG", quality=THUMBNAIL_QUALITY)
    return {"seconds": round(seconds, 3), "width": width, "height": height}, data.getvalue()
