"""Measure nano's frames per second in a real ComfyUI, saving included: its graph from portrait and speech to the mp4.

What a video needs once does not count: the figure is the difference of a long and a short video, frames over time. The
portraits take turns; medians are reported. The figures mean something on an otherwise idle machine. Needs COMFYUI_PATH.
"""

from __future__ import annotations

import json
import os
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from ..models.audio import FPS
from ..scripts._client import ComfyClient, Graph
from .command import command_parser
from .contention import instructions
from .report import aligned
from .served import nano_graph, node_id, start_server
from .speech import ASSETS, PORTRAIT

PORTRAITS = (PORTRAIT, ASSETS / "asymtalker_person.png")
SHORT_SECONDS = 1.0
# What makes PyTorch and its libraries use nothing newer; nano then computes in float32, as on such a processor.
AVX2 = {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2", "MKL_ENABLE_INSTRUCTIONS": "AVX2"}
AVX2_OPTIONS = ("--force-fp32",)


def main(arguments: list[str] | None = None) -> int:
    """Run the command and return its exit status."""
    parser = command_parser(" throughput", __doc__)
    parser.add_argument(
        "--portrait", type=Path, nargs="+", default=PORTRAITS, help="pictures (default: a drawn and a rendered person)"
    )
    parser.add_argument("--seconds", type=float, default=40.0, help="what a long video has more (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="measurements of each portrait (default: %(default)s)")
    parser.add_argument("--avx2", action="store_true", help="use no newer instructions than AVX2")
    parser.add_argument("--json", type=Path, help="JSON file for the figures")
    options = parser.parse_args(arguments)
    if options.avx2:
        os.environ |= AVX2
    with tempfile.TemporaryDirectory() as folder:
        server_options = AVX2_OPTIONS if options.avx2 else ()
        found = measure(options.portrait, options.seconds, options.rounds, Path(folder), server_options)
    used = ["AVX2"] if options.avx2 else instructions()
    figures = {"cores": os.cpu_count(), "instructions": used, "frames_per_second": found}
    if options.json is not None:
        options.json.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    print(f"{figures['cores']} cores, {', '.join(figures['instructions']) or 'instructions unknown'}")
    print(aligned(as_rows(found)))
    return 0


def measure(
    portraits: Sequence[Path], seconds: float, rounds: int, workdir: Path, server_options: Sequence[str] = ()
) -> dict[str, list[float]]:
    """Frames per second of each portrait's videos, by the portrait's path."""
    found: dict[str, list[float]] = {str(path): [] for path in portraits}
    with start_server(workdir, options=server_options) as server:
        client = ComfyClient(server.url)
        graphs = {str(path): _graphs(client, path, seconds, workdir) for path in portraits}
        for number in range(rounds):
            for name, (short, long) in graphs.items():
                # Untimed: it loads the model, and encodes the portrait where the last run was of another one.
                _run_time(client, short, rounds + number)
                taken = _run_time(client, long, number) - _run_time(client, short, number)
                found[name].append(round(seconds * FPS / taken, 1))
    return found


def as_rows(found: dict[str, list[float]]) -> list[tuple[str, ...]]:
    """A table: the median of each portrait, and every measurement."""
    rows = [
        (Path(name).name, f"{statistics.median(each):.1f}", " ".join(map(str, each))) for name, each in found.items()
    ]
    return [("portrait", "frames per second", "measurements"), *rows]


def _graphs(client: ComfyClient, portrait: Path, seconds: float, workdir: Path) -> tuple[Graph, Graph]:
    short, long = (nano_graph(client, length, workdir, portrait) for length in (SHORT_SECONDS, SHORT_SECONDS + seconds))
    return short, long


def _run_time(client: ComfyClient, graph: Graph, seed: int) -> float:
    graph[node_id(graph, "AsymTalkerSampler")]["inputs"]["seed"] = seed
    started = time.perf_counter()
    client.run(graph)
    return time.perf_counter() - started
