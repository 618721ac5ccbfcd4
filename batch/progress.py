"""The progress of a batch: the workers' messages, and the table on the terminal."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from types import TracebackType

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table as Grid
from rich.text import Text

LINE_INTERVAL_S = 10.0
DRAW_INTERVAL_S = 0.5
MOST_WORKERS_SHOWN = 24


class Board:
    """Collects the workers' progress. An actor for Ray."""

    def __init__(self) -> None:
        self._news: dict[str, tuple[str, int, int]] = {}

    def note(self, worker: str, clip: str, chunks: int, total: int) -> None:
        """Report the number of finished chunks of a clip."""
        self._news[worker] = clip, chunks, total

    def read(self) -> dict[str, tuple[str, int, int]]:
        """The last report of each worker."""
        return self._news


@dataclass
class WorkerView:
    """One worker's line."""

    state: str = "starting"
    clip: str = ""
    chunks: str = ""
    done: int = 0


@dataclass
class Tally:
    """The counts of a batch; `seconds` are of video."""

    total: int = 0
    total_s: float = 0.0
    done: int = 0
    done_s: float = 0.0
    failed: int = 0
    failed_s: float = 0.0
    begun_s: float = 0.0

    def begin(self, clips: int, seconds: float) -> None:
        """Start the clock for this many clips and seconds."""
        self.total, self.total_s, self.begun_s = clips, seconds, time.monotonic()

    def finish(self, seconds: float) -> None:
        """Count a finished clip."""
        self.done += 1
        self.done_s += seconds

    def fail(self, seconds: float) -> None:
        """Count a clip that is given up."""
        self.failed += 1
        self.failed_s += seconds

    def rate(self) -> tuple[float, float]:
        """Clips a minute, and seconds of video a second."""
        elapsed = max(time.monotonic() - self.begun_s, 1e-3)
        return 60 * self.done / elapsed, self.done_s / elapsed

    def time_left_s(self) -> float | None:
        """The time left at the same rate; None before the first clip is done."""
        clips, seconds = self.rate()
        if seconds > 0:
            return max(0.0, self.total_s - self.done_s - self.failed_s) / seconds
        return 60 * (self.total - self.done - self.failed) / clips if clips else None


class ProgressTable:
    """A table that is redrawn in place on a terminal, and occasional lines elsewhere. A context manager."""

    def __init__(self, workers: list[str]) -> None:
        self.tally = Tally()
        self.workers = {name: WorkerView() for name in workers}
        self._shown_s = 0.0
        self._console = Console(file=sys.stderr)
        self._live = Live(console=self._console, auto_refresh=False) if self._console.is_terminal else None

    def __enter__(self) -> ProgressTable:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.show(at_once=True)
        if self._live is not None:
            self._live.stop()

    def say(self, text: str) -> None:
        """Print a line above the table."""
        self._console.print(Text(text))

    @property
    def is_due(self) -> bool:
        """Whether it is time to show the state again."""
        interval = LINE_INTERVAL_S if self._live is None else DRAW_INTERVAL_S
        return time.monotonic() - self._shown_s >= interval

    def show(self, *, at_once: bool = False) -> None:
        """Show the state, if it is time to."""
        if not at_once and not self.is_due:
            return
        self._shown_s = time.monotonic()
        if self._live is None:
            self._console.print(Text(self.line()))
        else:
            self._live.update(Group(Text(self.line()), self._grid()), refresh=True)

    def line(self) -> str:
        """The counts, the rate and the time left."""
        tally = self.tally
        clips, seconds = tally.rate()
        left = tally.time_left_s()
        failed = f", {tally.failed} failed" if tally.failed else ""
        remaining = "" if left is None else f", {in_words(left)} left"
        return (
            f"{tally.done} of {tally.total} clips{failed}, {clips:.1f} a minute ({seconds:.2f}x real time){remaining}"
        )

    def _grid(self) -> Grid:
        grid = Grid("worker", "state", "clip", "chunk", "done", expand=False)
        for name, view in list(self.workers.items())[:MOST_WORKERS_SHOWN]:
            grid.add_row(name, view.state, view.clip, view.chunks, str(view.done))
        more = len(self.workers) - MOST_WORKERS_SHOWN
        if more > 0:
            working = sum(view.state == "rendering" for view in self.workers.values())
            grid.add_row(f"... {more} more", f"{working} rendering in total", "", "", "")
        return grid


def in_words(seconds: float) -> str:
    """A duration as text."""
    minutes = round(seconds / 60)
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02d} min"
