"""The driver: assigns clips to the workers, publishes finished clips, and reassigns lost ones."""

from __future__ import annotations

import heapq
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from ..scripts._server import ServerFault
from .cluster import Lost
from .ledger import Ledger
from .plan import Clip, Failure, Plan
from .progress import ProgressTable
from .schedule import Schedule
from .server import ServerRefused
from .shelf import Shelf
from .worker import Order, Outcome, Status

WAIT_S = 0.5
START_TRIES = 3
"""After this many failed starts, a batch that has not begun is refused with the server's log."""

SERVER_TRIES = 8
FIRST_PAUSE_S = 1.0
"""Pause before an unavailable server is tried again; doubled each time."""


class BatchStopped(RuntimeError):
    """The batch cannot continue; the message gives the reason. Finished clips are kept."""


class Pool(Protocol):
    """The workers, by number (see cluster.Cluster)."""

    def ready(self, worker: int) -> Any: ...

    def render(self, worker: int, order: Order) -> Any: ...

    def wait(self, calls: Sequence[Any], timeout_s: float) -> list[Any]: ...

    def result(self, call: Any) -> Any: ...

    def progress(self) -> dict[str, tuple[str, int, int]]: ...


@dataclass
class WorkerState:
    """The driver's state of a worker: its orders, oldest first."""

    name: str
    server: str = ""
    orders: list[Clip] = field(default_factory=list)
    is_ready: bool = False
    failures: int = 0
    is_dropped: bool = False


@dataclass(frozen=True)
class Call:
    """A call in progress: an order's attempt, or a check if there is no clip."""

    worker: int
    clip: Clip | None = None
    attempt: int = 0


def order_of(plan: Plan, clip: Clip) -> Order:
    """What a worker needs to render a clip."""
    digests = plan.digests(clip.row)
    files = {target: (path, digests[target]) for target, (path, _) in plan.files(clip.row).items()}
    return Order(clip.identity, plan.filled(clip), files)


class Driver:
    """One batch in progress.

    Args:
        pool: the workers, whose processes have been started.
        names: the workers' names.
        table: shows the progress.
    """

    def __init__(
        self, pool: Pool, names: list[str], plan: Plan, ledger: Ledger, shelf: Shelf, table: ProgressTable
    ) -> None:
        self._pool, self._plan, self._ledger, self._shelf, self._table = pool, plan, ledger, shelf, table
        self._workers = [WorkerState(name) for name in names]
        self._calls: dict[Any, Call] = {}
        self._idle: set[int] = set()
        self._single: set[int] = set()
        self._pauses: list[tuple[float, int]] = []
        self._schedule = Schedule([])
        self.failures: dict[str, Failure] = {}

    def open(self, *, all_of_them: bool) -> int:
        """Wait until a worker (or each) is ready, and return its number.

        Raises:
            ServerRefused, ServerFault: a server cannot be used, or does not start.
            BatchStopped: no worker's process keeps running.
        """
        for worker in range(len(self._workers)):
            self._check(worker)
        while True:
            for call in self._pool.wait(list(self._calls), WAIT_S):
                state = self._workers[self._calls[call].worker]
                error = self._take_check(call)
                if isinstance(error, ServerRefused) or (error is not None and state.failures >= START_TRIES):
                    raise error
            self._retry_checks()
            if self._idle and (not all_of_them or len(self._idle) == len(self._workers)):
                return min(self._idle)

    def run(self) -> None:
        """Render all waiting clips.

        Raises:
            BatchStopped: no worker is left, or the output folder is full or not writable.
        """
        waiting = self._plan.waiting()
        self._schedule = Schedule(waiting)
        self._table.tally.begin(len(waiting), sum(clip.seconds for clip in waiting))
        self._assign()
        while self._schedule or any(call.clip is not None for call in self._calls.values()):
            self._take(self._pool.wait(list(self._calls), WAIT_S) if self._calls else [])
            self._retry_checks()
            self._assign()
            self._show()
        self._ledger.commit()

    def _assign(self) -> None:
        """Assign each idle worker a clip, and a second one while more clips wait than there are workers."""
        while self._schedule and self._idle:
            self._give(self._idle.pop())
        while len(self._schedule) > len(self._workers) and self._single:
            self._give(self._single.pop())
        self._ledger.commit()

    def _give(self, worker: int) -> None:
        state, clip = self._workers[worker], self._schedule.take()
        attempt = self._ledger.begin_attempt(clip.identity, state.server)
        self._calls[self._pool.render(worker, order_of(self._plan, clip))] = Call(worker, clip, attempt)
        state.orders.append(clip)
        self._sort_in(worker)

    def _sort_in(self, worker: int) -> None:
        state = self._workers[worker]
        for group, size in ((self._idle, 0), (self._single, 1)):
            group.discard(worker)
            if state.is_ready and len(state.orders) == size:
                group.add(worker)

    def _take(self, ended: list[Any]) -> None:
        """Handle the calls that have ended; finished clips are published together."""
        finished: list[tuple[Call, Clip]] = []
        for handle in ended:
            call = self._calls[handle]
            if call.clip is None:
                self._take_check(handle)
                continue
            del self._calls[handle]
            outcome = self._pool.result(handle)
            state = self._workers[call.worker]
            is_first = state.orders[0] is call.clip
            state.orders.remove(call.clip)
            if isinstance(outcome, Lost):
                self._lost(call, call.clip, outcome, is_first)
            elif outcome.status is Status.DONE:
                state.failures = 0
                finished.append((call, call.clip))
            else:
                self._failed(call, call.clip, outcome)
            self._sort_in(call.worker)
        if finished:
            self._publish(finished)

    def _publish(self, finished: list[tuple[Call, Clip]]) -> None:
        try:
            refused = self._shelf.publish([clip for _, clip in finished], self._plan)
        except OSError as error:
            raise BatchStopped(f"a finished clip cannot be put into the output folder: {error}") from error
        for call, clip in finished:
            reason = refused.get(clip.identity)
            self._ledger.end_attempt(call.attempt, "done" if reason is None else "failed", reason or "")
            if reason is None:
                self._table.tally.finish(clip.seconds)
                self._table.workers[self._workers[call.worker].name].done += 1
            else:
                self._give_up(clip, reason)

    def _failed(self, call: Call, clip: Clip, outcome: Outcome) -> None:
        self._ledger.end_attempt(call.attempt, outcome.status.value, outcome.reason)
        if outcome.status is Status.FULL:
            raise BatchStopped(f"{outcome.reason}; free space and run the same command again")
        if outcome.status is Status.REFUSED:
            self._give_up(clip, outcome.reason, outcome.node)
        elif outcome.status is Status.LOST and not outcome.is_begun:
            self._schedule.give_back(clip)
        elif not self._schedule.failed(clip, outcome.chunks):
            self._give_up(clip, outcome.reason, outcome.node)
        if outcome.status is Status.LOST:
            self._check(call.worker)

    def _lost(self, call: Call, clip: Clip, lost: Lost, is_first: bool) -> None:
        """A worker's process has ended; its oldest order was the one in progress."""
        if not is_first:
            self._ledger.end_attempt(call.attempt, "not begun", lost.reason)
            self._schedule.give_back(clip)
        else:
            news = self._pool.progress().get(self._workers[call.worker].name)
            chunks = news[1] if news is not None and news[0] == clip.identity else 0
            reason = f"the worker's process ended ({lost.reason})"
            self._ledger.end_attempt(call.attempt, "lost", reason)
            if not self._schedule.failed(clip, chunks):
                self._give_up(clip, reason)
        self._check(call.worker)

    def _give_up(self, clip: Clip, reason: str, node: str = "") -> None:
        self.failures[clip.identity] = Failure(reason, self._plan.template.column_behind(node))
        self._table.tally.fail(clip.seconds)
        self._table.say(f"row {clip.rows[0]} ({clip.names[0]}): {reason.splitlines()[0]}")

    def _check(self, worker: int) -> None:
        """Make a worker start and check its server; it gets no orders before that."""
        if not any(call.worker == worker and call.clip is None for call in self._calls.values()):
            self._workers[worker].is_ready = False
            self._calls[self._pool.ready(worker)] = Call(worker)
        self._sort_in(worker)

    def _take_check(self, handle: Any) -> Exception | None:
        """Handle the result of a check; returns its error, if any."""
        worker = self._calls.pop(handle).worker
        state = self._workers[worker]
        try:
            answer = self._pool.result(handle)
        except (ServerFault, ServerRefused, OSError) as error:
            self._pause(worker, str(error))
            return error
        if isinstance(answer, Lost):
            self._pause(worker, answer.reason)
            return None
        state.server, _ = answer
        state.is_ready = True
        self._sort_in(worker)
        return None

    def _pause(self, worker: int, reason: str) -> None:
        """Try a worker again later, or drop it."""
        state = self._workers[worker]
        state.failures += 1
        if state.failures < SERVER_TRIES:
            due_s = time.monotonic() + FIRST_PAUSE_S * 2 ** (state.failures - 1)
            heapq.heappush(self._pauses, (due_s, worker))
            return
        state.is_dropped = True
        self._table.say(f"{state.name} is no longer used: {reason.splitlines()[0]}")
        if all(other.is_dropped for other in self._workers):
            raise BatchStopped(f"no worker is left; error of the last one: {reason}")

    def _retry_checks(self) -> None:
        while self._pauses and self._pauses[0][0] <= time.monotonic():
            self._check(heapq.heappop(self._pauses)[1])
        if self._pauses and not self._calls:
            time.sleep(min(WAIT_S, max(0.0, self._pauses[0][0] - time.monotonic())))

    def _show(self) -> None:
        if not self._table.is_due:
            return
        news = self._pool.progress()
        for state in self._workers:
            view = self._table.workers[state.name]
            view.state = "rendering" if state.orders else "ready" if state.is_ready else "starting"
            view.state = "dropped" if state.is_dropped else view.state
            clip = state.orders[0] if state.orders else None
            view.clip = clip.names[0] if clip else ""
            noted = news.get(state.name)
            is_current = clip is not None and noted is not None and noted[0] == clip.identity
            view.chunks = f"{noted[1]} of {noted[2]}" if noted and is_current else ""
        self._table.show()
