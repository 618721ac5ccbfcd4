"""Shows how far a run is: a bar with chunk, frames per second and time left, or lines where stderr is no terminal."""

from __future__ import annotations

import math
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import av
from av.error import FFmpegError
from tqdm import tqdm

if TYPE_CHECKING:
    from ._client import Graph

FPS = 25
"""As in models/rates.py: this runs where the pack is not installed as a package."""
LINE_INTERVAL_S = 5.0
BAR_FORMAT = (
    "{desc} {percentage:3.0f}%|{bar}| {n:.0f}/{total} frames [{elapsed}<{remaining}, {rate_noinv_fmt}{postfix}]"
)


def audio_seconds(path: Path) -> float:
    """Return the length of the first audio stream of a file.

    Raises:
        ValueError: the file has no audio.
    """
    try:
        with av.open(str(path)) as container:
            if not container.streams.audio:
                raise ValueError(f"{path}: no audio in it")
            stream = container.streams.audio[0]
            if stream.duration is not None and stream.time_base is not None:
                return float(stream.duration * stream.time_base)
            return (container.duration or 0) / 1e6
    except FFmpegError as error:
        raise ValueError(f"{path}: not an audio file that ffmpeg reads ({error.strerror})") from error


class RunProgress:
    """The progress of one run, fed with the server's messages; a context manager that closes the bar.

    Args:
        graph: the workflow in API form.
        seconds: length of the speech, for the number of frames.
    """

    def __init__(self, graph: Graph, seconds: float) -> None:
        self.graph = graph
        self.total = max(1, math.ceil(seconds * FPS))
        self.on_terminal = sys.stderr.isatty()
        self.bar: tqdm[Any] | None = None
        self.started = 0.0
        self.last_line = 0.0
        self.finished = False
        self.chunk = ""

    def on_event(self, kind: str, data: dict[str, Any]) -> None:
        """Take one message of the server."""
        if kind == "executing" and data.get("node") in self.graph:
            self.node_begins(self.graph[data["node"]]["class_type"])
        elif kind == "progress_state":
            for node_id, state in data["nodes"].items():
                if self.is_sampler(node_id):
                    self.sampled(state["value"], state["max"])
        elif kind == "progress_text" and self.is_sampler(data["node"]):
            # "chunk 2 of 5, ..."
            self.chunk = data["text"].split(",")[0]
            if self.bar is not None:
                self.bar.set_postfix_str(self.chunk)

    def is_sampler(self, node_id: str) -> bool:
        """Whether a node of the graph is the Sampler."""
        return self.graph.get(node_id, {}).get("class_type") == "AsymTalkerSampler"

    def node_begins(self, class_type: str) -> None:
        """Name the node that runs now."""
        if class_type == "AsymTalkerSampler":
            self.started = time.monotonic()
            if self.on_terminal and self.bar is None:
                self.bar = tqdm(total=self.total, desc="Sampling", bar_format=BAR_FORMAT, unit=" frames")
        elif not self.on_terminal:
            print(class_type, file=sys.stderr, flush=True)

    def sampled(self, value: float, maximum: float) -> None:
        """Show that `value` of `maximum` denoising steps are done."""
        # A node that has not begun or has ended reports 0 or 1 of 1.
        if self.finished or maximum <= 0 or (maximum == 1 and value == 0):
            return
        frames = self.total * value / maximum
        self.finished = value >= maximum
        if self.bar is not None:
            self.bar.update(frames - self.bar.n)
        elif not self.on_terminal:
            self.line(frames)

    def line(self, frames: float) -> None:
        """Print a line, at most every LINE_INTERVAL_S and at the end."""
        now = time.monotonic()
        if not self.finished and now - self.last_line < LINE_INTERVAL_S:
            return
        self.last_line = now
        elapsed = max(now - self.started, 1e-3)
        rate = frames / elapsed
        left = (self.total - frames) / rate if rate > 0 else math.inf
        print(
            f"{self.chunk or 'sampling'}: {frames:.0f}/{self.total} frames, {rate:.2f} frames/s, {left:.0f} s left",
            file=sys.stderr,
            flush=True,
        )

    def __enter__(self) -> RunProgress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.bar is not None:
            self.bar.close()
