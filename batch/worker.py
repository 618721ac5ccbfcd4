"""A worker: runs clips on one ComfyUI, one at a time, and delivers the finished files. Ray runs it as an actor.

While a run is in progress, the next clip's files are sent and the last clip's are fetched, so that the server is not
idle between runs.
"""

from __future__ import annotations

import asyncio
import errno
import re
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from enum import Enum
from pathlib import Path
from typing import Any

import aiohttp
import requests
from av.error import FFmpegError

from ..scripts._client import (
    ComfyClient,
    ConnectionLost,
    PromptFailed,
    PromptInterrupted,
    PromptRefused,
    raise_failure,
    videos,
)
from ..scripts._server import ServerFault
from ..scripts._workflow import Graph
from .figures import look_at_video, report_figures
from .files import digest_of
from .graph import FOLDER, Target, prompt, savers
from .server import Server, check_server
from .shelf import Part, Record
from .storage import Storage

PERMANENT_ERRORS = re.compile(r"(Value|Type|Key|Index|FileNotFound|Config)Error$")
"""Node errors that depend only on the inputs, so that a retry would raise them again."""

NO_VIDEO = "the graph ran, but saved no video"
STALL_S = 1800.0
"""A run without a message for this long is cancelled."""

CHUNK = re.compile(r"chunk (\d+) of (\d+)")
LOST = (ConnectionLost, ServerFault, aiohttp.ClientError, requests.RequestException, asyncio.TimeoutError)

NoteProgress = Callable[[str, int, int], None]
"""Called with a clip, the number of finished chunks and the total."""


class Status(Enum):
    """How an attempt at a clip ended."""

    DONE = "done"
    RETRY = "retry"
    """It may succeed another time."""
    LOST = "lost"
    """The server is no longer available."""
    REFUSED = "refused"
    """The same inputs fail every time."""
    FULL = "full"
    """No clip can be finished: the disk is full, or the folder cannot be written."""


@dataclass(frozen=True)
class Order:
    """A clip to render: the graph with its values, and its files with their content's hashes."""

    clip: str
    graph: Graph
    files: dict[Target, tuple[Path, str]]


@dataclass(frozen=True)
class Outcome:
    """The result of an order: the `chunks` done when it ended, and whether the server began it (`is_begun`).

    `node` is the id of the node that failed.
    """

    clip: str
    status: Status
    reason: str = ""
    chunks: int = 0
    is_begun: bool = True
    run_s: float = 0.0
    node: str = ""


class Stalled(RuntimeError):
    """A run sends no messages."""


@dataclass
class Run:
    """A run: when the server began it, and how long the server was idle before."""

    begun_s: float | None = None
    run_s: float = 0.0
    gap_s: float | None = None
    chunks: int = 0
    has_turn: bool = False
    last_message_s: float = field(default_factory=time.monotonic)


class Renderer:
    """A worker.

    Args:
        server: the ComfyUI that it uses.
        storage: where files come from and go to.
        note_progress: called after each chunk.
    """

    def __init__(self, server: Server, storage: Storage, note_progress: NoteProgress) -> None:
        self._server = server
        self._storage = storage
        self._note_progress = note_progress
        self._turn = threading.Lock()
        self._starting = threading.Lock()
        self._uploaded: dict[str, str] = {}
        self._object_info: dict[str, Any] = {}
        self._idle_since: float | None = None
        self._current: str | None = None

    def ready(self) -> str:
        """Start the server if needed, check it, and return its name. Raises ServerFault, ServerRefused."""
        self._ensure()
        self._object_info = check_server(self._server.client())
        return self._server.name

    def _ensure(self) -> None:
        with self._starting:
            self._server.ensure()

    def object_info(self) -> dict[str, Any]:
        """The server's node infos."""
        return self._object_info

    def render(self, order: Order) -> Outcome:
        """Render a clip and deliver its files; does not raise."""
        run = Run()
        try:
            self._ensure()
            prompt_id = str(uuid.uuid5(uuid.NAMESPACE_URL, f"{FOLDER}/{order.clip}"))
            # Messages go to the client that queued the run, so a replacement worker uses the same client id.
            client = self._server.client(prompt_id)
            history = self._found(client, order, prompt_id)
            if history is None:
                # After a worker ends, its run may continue on a named server.
                graph = None if client.is_queued(prompt_id) else self._prepared(client, order)
                history = self._rendered(client, order.clip, graph, prompt_id, run)
            self._hand_over(client, order, history, run)
            self._forget(client, prompt_id)
            return self._outcome(order, Status.DONE, "", run)
        except Exception as error:  # noqa: BLE001 - whatever it is, it belongs into this clip's row of the report
            return self._failure(order, error, run)

    def try_out(self, order: Order) -> str | None:
        """Run a graph that saves nothing; returns the reason if it fails."""
        outcome = self.render(order)
        return None if outcome.reason == NO_VIDEO else outcome.reason

    def cancel(self) -> None:
        """Cancel the run in progress, and stop a server that is the worker's own."""
        current = self._current
        if current is not None:
            self._cancel_run(self._server.client(), current)
        self._server.stop()

    def _found(self, client: ComfyClient, order: Order, prompt_id: str) -> dict[str, Any] | None:
        """The result of an earlier attempt that finished without reporting it."""
        history = client.history(prompt_id)
        if history is not None:
            try:
                raise_failure(history)
                return history
            except (PromptFailed, PromptInterrupted):
                self._forget(client, prompt_id)
        kinds = {node_id: order.graph[node_id]["class_type"] for node_id in savers(order.graph)}
        saved = self._server.saved(order.clip, kinds)
        return None if saved is None else {"outputs": {"": {"images": saved}}}

    def _prepared(self, client: ComfyClient, order: Order) -> Graph:
        names = {}
        for target, (path, digest) in order.files.items():
            name = f"{digest}{path.suffix.lower()}"
            if name not in self._uploaded:
                local = self._storage.fetch(path, digest)
                self._uploaded[name] = self._sent(client, local, name)
            names[target] = self._uploaded[name]
        return prompt(order.graph, names, order.clip, self._object_info)

    @staticmethod
    def _sent(client: ComfyClient, path: Path, name: str) -> str:
        """Upload a file to the server's input folder. A complete file is not replaced, because it may be in use."""
        there = requests.head(
            f"{client.url}/view",
            params={"filename": name, "subfolder": FOLDER, "type": "input"},
            headers=client.headers,
            timeout=60,
        )
        if there.ok and int(there.headers.get("Content-Length", -1)) == path.stat().st_size:
            return f"{FOLDER}/{name}"
        return client.upload(path, name, FOLDER)

    def _rendered(
        self, client: ComfyClient, clip: str, graph: Graph | None, prompt_id: str, run: Run
    ) -> dict[str, Any]:
        """Queue a graph, or find its queued run, and follow it to its end. One run is followed at a time."""

        def begin() -> str:
            if graph is not None:
                client.queue(graph, prompt_id=prompt_id)
            return prompt_id

        def on_event(kind: str, data: dict[str, Any]) -> None:
            self._follow(run, clip, kind, data)

        self._turn.acquire()
        run.has_turn = True
        self._current = prompt_id
        run.last_message_s = time.monotonic()
        try:
            return asyncio.run(client.follow(begin, on_event))
        except Stalled:
            self._cancel_run(client, prompt_id)
            raise
        finally:
            self._end_turn(run)

    def _end_turn(self, run: Run) -> None:
        """Allow the next run to begin; has an effect only once."""
        if run.has_turn:
            run.has_turn = False
            self._current = None
            self._idle_since = time.monotonic()
            run.run_s = 0.0 if run.begun_s is None else self._idle_since - run.begun_s
            self._turn.release()

    def _follow(self, run: Run, clip: str, kind: str, data: dict[str, Any]) -> None:
        now = time.monotonic()
        if kind == "silence":
            # A shared server may be busy with other users' runs for any length of time.
            if run.begun_s is not None and now - run.last_message_s > STALL_S:
                raise Stalled(f"no message for {STALL_S:.0f} s")
            return
        run.last_message_s = now
        if kind == "execution_start":
            run.begun_s = now
            run.gap_s = None if self._idle_since is None else now - self._idle_since
        elif kind == "executing" and data.get("node") is None:
            self._end_turn(run)
        elif kind == "progress_text" and (found := CHUNK.match(data["text"])):
            run.chunks = int(found[1])
            self._note_progress(clip, run.chunks, int(found[2]))

    def _hand_over(self, client: ComfyClient, order: Order, history: dict[str, Any], run: Run) -> None:
        entries = [entry for entry in videos(history) if entry["type"] == "output"]
        if not entries:
            raise PromptRefused(NO_VIDEO)
        entries.sort(key=lambda entry: [int(part) for part in re.findall(r"\d+", entry["filename"])])
        parts, figures, thumbnail = [], {}, b""
        for number, entry in enumerate(entries):
            suffix = Path(entry["filename"]).suffix.lower()
            path = client.download(entry, self._storage.place(order.clip, number, suffix))
            looked = look_at_video(path)
            figures, thumbnail = (figures, thumbnail) if number else looked
            parts.append(Part(suffix, path.stat().st_size, digest_of(path)))
        figures |= report_figures(order.graph, history)
        figures |= {"worker": self._server.name, "run_s": round(run.run_s, 3), "gap_s": run.gap_s}
        self._storage.deliver(Record(order.clip, tuple(parts), figures, thumbnail))
        self._server.discard(order.clip)

    def _forget(self, client: ComfyClient, prompt_id: str) -> None:
        """Remove a run from the server's history, which is shared with other users."""
        client.post("/history", {"delete": [prompt_id]})

    def _cancel_run(self, client: ComfyClient, prompt_id: str) -> None:
        """Cancel a run of this worker only."""
        for path, body in (("/queue", {"delete": [prompt_id]}), ("/interrupt", {"prompt_id": prompt_id})):
            try:
                client.post(path, body)
            except requests.RequestException:
                # The server is gone, and so is its run.
                return

    def _failure(self, order: Order, error: Exception, run: Run) -> Outcome:
        reason = str(error).strip() or type(error).__name__
        status = Status.RETRY
        if is_permanent(error):
            status = Status.REFUSED
        elif isinstance(error, requests.HTTPError) and error.response is not None and error.response.status_code == 404:
            # The node's result is cached, but its file was removed.
            self._server.client().free()
        elif isinstance(error, LOST):
            status, reason = Status.LOST, f"{self._server.name} was lost ({reason.splitlines()[0]})"
        elif isinstance(error, FFmpegError):
            reason = f"the saved video cannot be read: {reason}"
        elif isinstance(error, OSError):
            status = Status.FULL if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS) else Status.RETRY
        elif not isinstance(error, (PromptFailed, PromptInterrupted, Stalled)):
            reason = f"{type(error).__name__}: {reason}"
        node = error.node if isinstance(error, PromptFailed) else ""
        return replace(self._outcome(order, status, reason, run), node=node)

    @staticmethod
    def _outcome(order: Order, status: Status, reason: str, run: Run) -> Outcome:
        return Outcome(order.clip, status, reason, run.chunks, run.begun_s is not None, run.run_s)


def is_permanent(error: Exception) -> bool:
    """Return whether the same inputs would raise an error again."""
    if isinstance(error, PromptFailed):
        return PERMANENT_ERRORS.search(error.error_type) is not None
    return isinstance(error, PromptRefused)
