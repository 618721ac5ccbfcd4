"""Measure the cost of the live player: nano's graph in a real ComfyUI, with and without a viewer.

The viewer fetches every chunk over HTTP as soon as the server announces it, like the player in the browser. Runs with
and without a viewer alternate. CPU seconds are those of the server alone. Wall seconds are affected by other programs.
Needs COMFYUI_PATH.
"""

from __future__ import annotations

import json
import queue
import statistics
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import requests

from ..scripts._client import ComfyClient, Graph, OnEvent
from .command import command_parser
from .served import nano_graph, node_id, start_server


def main(arguments: list[str] | None = None) -> int:
    """Run the command and return its exit status."""
    parser = command_parser(" watching", __doc__)
    parser.add_argument("--seconds", type=float, default=20.0, help="length of the video (default: %(default)s)")
    parser.add_argument(
        "--repeats", type=int, default=4, help="runs each with and without a viewer (default: %(default)s)"
    )
    parser.add_argument("--json", type=Path, help="JSON file for the figures")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        figures = measure(options.seconds, options.repeats, Path(folder))
    if options.json is not None:
        options.json.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(figures, indent=1))
    return 0


@dataclass
class Sampling:
    """Wall seconds and the server's processor seconds from the Sampler's first message to the start of Mux & Save."""

    wall_s: float
    cpu_s: float


def measure(seconds: float, repeats: int, workdir: Path) -> dict[str, Any]:
    """What every run took, alone and watched, and the ratio of their medians."""
    alone: list[Sampling] = []
    watched: list[Sampling] = []
    chunks: list[int] = []
    with start_server(workdir) as server:
        assert server.process is not None
        process = psutil.Process(server.process.pid)
        client = ComfyClient(server.url)
        graph = nano_graph(client, seconds, workdir)
        # The first run loads the model and warms up.
        sample(client, process, graph, seed=0)
        for number in range(repeats):
            alone.append(sample(client, process, graph, seed=2 * number + 1))
            with Watcher(client) as watcher:
                watched.append(sample(client, process, graph, 2 * number + 2, watcher.on_event))
            chunks.append(watcher.chunks)
    return {
        "seconds_of_video": seconds,
        "chunks_watched": chunks,
        "wall": compared([run.wall_s for run in alone], [run.wall_s for run in watched]),
        "processor": compared([run.cpu_s for run in alone], [run.cpu_s for run in watched]),
    }


def compared(alone: list[float], watched: list[float]) -> dict[str, Any]:
    """Seconds of both kinds of run, and by how much the second's median is above the first's."""
    cost = statistics.median(watched) / statistics.median(alone) - 1
    return {"alone_s": alone, "watched_s": watched, "cost": round(cost, 4)}


def sample(
    client: ComfyClient, process: psutil.Process, graph: Graph, seed: int, also: OnEvent | None = None
) -> Sampling:
    """Run the graph with that seed; ``also`` receives every message of the server."""
    sampler, mux = (node_id(graph, kind) for kind in ("AsymTalkerSampler", "AsymTalkerMux"))
    graph[sampler]["inputs"]["seed"] = seed
    times: dict[str, tuple[float, float]] = {}

    def now() -> tuple[float, float]:
        used = process.cpu_times()
        return time.monotonic(), used.user + used.system

    def on_event(kind: str, data: dict[str, Any]) -> None:
        if kind == "progress_text" and data["node"] == sampler:
            times.setdefault("start", now())
        elif kind == "executing" and data.get("node") == mux:
            times["end"] = now()
        if also is not None:
            also(kind, data)

    client.run(graph, on_event)
    (started, used_before), (ended, used) = times["start"], times["end"]
    return Sampling(round(ended - started, 2), round(used - used_before, 2))


class Watcher:
    """Follows the running job in a thread; ``chunks`` counts what it took."""

    def __init__(self, client: ComfyClient) -> None:
        self.client, self.chunks = client, 0
        self._session = requests.Session()
        self._told: queue.SimpleQueue[bool] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> Watcher:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._told.put(False)
        self._thread.join()

    def on_event(self, kind: str, data: dict[str, Any]) -> None:
        """The Sampler's line of progress comes with every finished chunk."""
        if kind == "progress_text":
            self._told.put(True)

    def _watch(self) -> None:
        known = {job["id"] for job in self._get("").json()}
        while self._told.get():
            for job in self._get("").json():
                if job["id"] not in known:
                    self._take(job)

    def _get(self, path: str) -> requests.Response:
        response = self._session.get(f"{self.client.url}/asymtalker/live{path}", timeout=30)
        response.raise_for_status()
        return response

    def _take(self, job: dict[str, Any]) -> None:
        while self.chunks < job["done"]:
            for part in ("init", self.chunks) if self.chunks == 0 else (self.chunks,):
                self._get(f"/{job['id']}/{part}")
            self.chunks += 1
