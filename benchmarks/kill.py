"""SIGKILL a real ComfyUI server at random moments of a job, queue it again each time, and compare frames bit by bit.

One server makes the video without interruption. Another makes the same video and is killed repeatedly: while loading,
between and within chunks, and while saving. After every kill, the frames on disk must match the start of the
uninterrupted run, and the next run must continue after them. At the end, all frames and the mp4 must be the same.
Needs COMFYUI_PATH.
"""

from __future__ import annotations

import argparse
import hashlib
import random
import re
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import av
import requests

from ..media import SpoolReader, list_spools
from ..scripts._client import ComfyClient, ConnectionLost, Graph, videos
from ..scripts._server import ComfyServer
from .command import command_parser, report, scratch_folder
from .served import nano_graph, node_id, start_server

LOST = (ConnectionLost, aiohttp.ClientError, requests.RequestException)


@dataclass
class Run:
    """Times of one run of the graph, in seconds since it was queued."""

    started_s: float = field(default_factory=time.monotonic)
    sampling_s: float | None = None
    saving_s: float | None = None
    resumed_chunks: int = 0
    done_chunks: int = 0
    total_chunks: int = 0
    is_over: bool = False

    def passed_s(self) -> float:
        return time.monotonic() - self.started_s


@dataclass(frozen=True)
class Timeline:
    """How long the undisturbed run loaded, sampled and saved."""

    loading_s: float
    sampling_s: float
    saving_s: float

    @property
    def total_s(self) -> float:
        return self.loading_s + self.sampling_s + self.saving_s


@dataclass(frozen=True)
class Kill:
    """One kill: chunks that were said to be done and those found on disk, and whether their frames were right."""

    phase: str
    told_chunks: int
    stored_chunks: int
    frames: int
    identical: bool
    resumed_right: bool

    @property
    def repeated_chunks(self) -> int:
        """Chunks that were done and have to be made once more."""
        return self.told_chunks - self.stored_chunks


def parse_arguments(arguments: list[str] | None) -> argparse.Namespace:
    """Return the command line's options."""
    parser = command_parser(" kill", __doc__)
    parser.add_argument("--seconds", type=float, default=60.0, help="length of the video (default: %(default)s)")
    parser.add_argument("--kills", type=int, default=25, help="number of kills (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="seed for the moments of the kills (default: %(default)s)")
    parser.add_argument("--workdir", type=Path, help="folder for the servers' files (default: a temporary one)")
    parser.add_argument("--json", type=Path, help="JSON file for the figures")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    """Run the command; the exit status is 0 only if every kill went well."""
    options = parse_arguments(arguments)
    with scratch_folder("kill-", options.workdir) as folder:
        figures = measure(options.seconds, options.kills, options.seed, folder)
    return report(figures, options.json, hidden={"kills"})


def measure(seconds: float, kills: int, seed: int, folder: Path) -> dict[str, Any]:
    """Make the video undisturbed and with ``kills`` kills in ``folder``; the figures."""
    expected, timeline = _undisturbed(seconds, folder / "undisturbed")
    rng = random.Random(seed)
    moments = sorted(rng.uniform(0, timeline.total_s) for _ in range(kills))
    done: list[Kill] = []
    workdir = folder / "killed"
    stored = 0
    for moment in moments:
        with start_server(workdir) as server:
            run = _run_until(server, nano_graph(ComfyClient(server.url), seconds, workdir), timeline, moment)
        found = _stored(workdir)
        frames = _prefix(found, expected)
        done.append(
            Kill(
                phase=_phase(run),
                told_chunks=max(run.done_chunks, run.resumed_chunks),
                stored_chunks=found.chunks,
                frames=found.frames,
                identical=frames == found.frames,
                resumed_right=run.sampling_s is None or run.resumed_chunks == stored,
            )
        )
        # Frames of a saved video go when the next job starts.
        stored = 0 if run.is_over else found.chunks
        print(f"{len(done)} of {kills}: {done[-1]}", file=sys.stderr, flush=True)
    with start_server(workdir) as server:
        made, run = _finished(server, seconds, workdir)
    last_right = run.resumed_chunks == stored
    return _summary(seconds, timeline, done, last_right and made == expected, _leftovers(workdir))


def _summary(
    seconds: float, timeline: Timeline, kills: list[Kill], final: bool, leftovers: list[str]
) -> dict[str, Any]:
    right = sum(kill.identical and kill.resumed_right and kill.repeated_chunks <= 1 for kill in kills)
    return {
        "seconds": seconds,
        "kills_right": right,
        "kills_in_all": len(kills),
        "most_chunks_repeated": max((kill.repeated_chunks for kill in kills), default=0),
        "final_frames_identical": final,
        "leftovers": leftovers,
        "undisturbed_s": {name: round(value, 1) for name, value in asdict(timeline).items()},
        "passed": right == len(kills) and final and not leftovers,
        "kills": [{**asdict(kill), "repeated_chunks": kill.repeated_chunks} for kill in kills],
    }


@dataclass(frozen=True)
class Stored:
    """A hash of every frame on disk."""

    chunks: int
    hashes: tuple[str, ...]

    @property
    def frames(self) -> int:
        return len(self.hashes)


@dataclass(frozen=True)
class Video:
    """A finished job: hashes of the Sampler's frames, and of the frames of the mp4."""

    spool: tuple[str, ...]
    mp4: tuple[str, ...]


def _undisturbed(seconds: float, workdir: Path) -> tuple[Video, Timeline]:
    with start_server(workdir) as server:
        video, run = _finished(server, seconds, workdir)
    assert run.sampling_s is not None and run.saving_s is not None
    end = run.passed_s()
    return video, Timeline(run.sampling_s, run.saving_s - run.sampling_s, end - run.saving_s)


def _finished(server: ComfyServer, seconds: float, workdir: Path) -> tuple[Video, Run]:
    client, run = ComfyClient(server.url), Run()
    graph = nano_graph(client, seconds, workdir)
    run.started_s = time.monotonic()
    history = client.run(graph, _observer(graph, run))
    (file,) = videos(history)
    mp4 = client.download(file, workdir / "result.mp4")
    # ComfyUI still has the Sampler's result, so its frames are still there.
    return Video(_stored(workdir).hashes, tuple(_hashes(_mp4_frames(mp4)))), run


def _observer(graph: Graph, run: Run) -> Any:
    sampler, mux = (node_id(graph, kind) for kind in ("AsymTalkerSampler", "AsymTalkerMux"))

    def on_event(kind: str, data: dict[str, Any]) -> None:
        if kind == "executing" and data.get("node") == mux:
            run.saving_s = run.passed_s()
        elif kind == "progress_text" and data["node"] == sampler:
            chunk = re.match(r"chunk (\d+) of (\d+)", data["text"])
            if chunk is None:
                return
            run.total_chunks = int(chunk[2])
            if run.sampling_s is None:
                run.sampling_s, run.resumed_chunks = run.passed_s(), int(chunk[1])
            else:
                run.done_chunks = int(chunk[1])

    return on_event


def _run_until(server: ComfyServer, graph: Graph, timeline: Timeline, moment: float) -> Run:
    """Queue the graph and kill the server at the ``moment`` of the undisturbed run's time line."""
    run, process = Run(), server.process
    assert process is not None
    over = threading.Event()
    told_at: list[float] = []

    def reached() -> bool:
        if moment < timeline.loading_s:
            return run.passed_s() >= moment
        share = (moment - timeline.loading_s) / timeline.sampling_s
        if share < 1:
            # So many chunks are done, and the next one as far as its share of the time allows.
            whole, part = divmod(share * run.total_chunks, 1)
            if not run.total_chunks or max(run.done_chunks, run.resumed_chunks) < whole:
                return False
            told_at.append(time.monotonic())
            return told_at[-1] - told_at[0] >= part * timeline.sampling_s / run.total_chunks
        into_saving = moment - timeline.loading_s - timeline.sampling_s
        return run.saving_s is not None and run.passed_s() - run.saving_s >= into_saving

    def kill() -> None:
        while not over.wait(0.002):
            if reached():
                process.kill()
                return

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        ComfyClient(server.url).run(graph, _observer(graph, run))
    except LOST:
        process.wait()
    finally:
        over.set()
        killer.join()
    if process.poll() is None:
        # Saving was faster than in the undisturbed run: killed after the end instead.
        run.is_over = True
        process.kill()
        process.wait()
    return run


def _phase(run: Run) -> str:
    if run.is_over:
        return "after the end"
    return "loading" if run.sampling_s is None else "sampling" if run.saving_s is None else "saving"


def _stored(workdir: Path) -> Stored:
    """What lies in the spool of the one job there is."""
    spools = list_spools(workdir / "user" / "asymtalker" / "spool")
    if not spools:
        return Stored(0, ())
    (spool,) = spools
    reader = SpoolReader(spool.folder)
    return Stored(len(reader.segments), tuple(_hashes(reader.frames())))


def _prefix(found: Stored, expected: Video) -> int:
    """How many frames agree from the beginning on."""
    pairs = zip(found.hashes, expected.spool, strict=False)
    return next((index for index, (a, b) in enumerate(pairs) if a != b), min(found.frames, len(expected.spool)))


def _hashes(frames: Iterator[Any]) -> Iterator[str]:
    for frame in frames:
        yield hashlib.blake2b(frame.tobytes(), digest_size=16).hexdigest()


def _mp4_frames(path: Path) -> Iterator[Any]:
    with av.open(str(path)) as container:
        for frame in container.decode(video=0):
            yield frame.to_ndarray(format="rgb24")


def _leftovers(workdir: Path) -> list[str]:
    """Files that should not be there once the job is done and the server stopped, but for the finished frames."""
    output = [str(path.relative_to(workdir)) for path in (workdir / "output").rglob("*") if path.is_file()]
    broken = [name for name in output if not re.fullmatch(r"output/video/AsymTalker_\d{5}_\.mp4", name)]
    parts = [str(path.relative_to(workdir)) for path in (workdir / "user" / "asymtalker").rglob("*.part")]
    return broken + parts
