"""The pack's only use of Ray: the workers as actors, and their shared actors."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any

import psutil

from .progress import Board
from .server import NamedServer, OwnServer, ServerRefused
from .shelf import WORK_FOLDER
from .storage import Depot, SentStorage, SharedStorage, Storage
from .worker import Order, Renderer

TOKEN_FILE = "batch-id"
OBJECT_STORE_BYTES = 100 << 20
"""Frames never pass through the object store, so Ray's smallest size is enough."""

START_TRIES = 5
CONNECT_S = 10
RESTARTS_AWAITED = 200
"""How often Ray retries a call while a process starts; each retry counts."""

CALLS_PER_WORKER = 4
"""Concurrent calls of a worker: two clips (files of the next are sent during a render), a check, a cancellation."""

SERVERS_FOLDER = "servers"


class NoRay(RuntimeError):
    """Ray is missing or does not start; the message says what to do."""


@dataclass(frozen=True)
class Lost:
    """The result of a call whose worker's process ended."""

    reason: str


@dataclass(frozen=True)
class Setup:
    """The settings shared by all workers.

    Args:
        folder: the output folder on the driver's machine.
        token: content of `.batch/batch-id` in it, with which a worker checks that it can access that folder.
        scratch: folder for servers' files on each machine; None for `.batch/servers` if the folder is accessible.
        servers: addresses of named servers, one for each worker; empty if workers start their own.
        headers: sent to named servers.
        cpu: run own servers on the CPU.
        comfyui_options: further options of own servers' command line.
        note_interval_s: shortest time between two progress messages of a worker.
    """

    folder: Path
    token: str
    scratch: Path | None
    servers: tuple[str, ...]
    headers: tuple[tuple[str, str], ...]
    cpu: bool
    comfyui_options: tuple[str, ...]
    note_interval_s: float

    @property
    def parts(self) -> Path:
        """Folder for finished clips on the driver's machine."""
        return self.folder / WORK_FOLDER / "parts"

    def actor_name(self, kind: type) -> str:
        """The name of an actor that all workers of this batch use."""
        return f"{kind.__name__}-{self.token}"


def import_ray() -> ModuleType:
    """Ray, with usage statistics turned off. Raises NoRay."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # Ray gives workers a low priority, and the servers would inherit it.
    os.environ.setdefault("RAY_worker_niceness", "0")
    try:
        import ray
    except ImportError as error:
        raise NoRay("Ray is missing; install it with: pip install 'ray[default]'") from error
    return ray


def worker_of(setup: Setup, name: str) -> Renderer:
    """A worker on this machine; called in its own process."""
    ray = import_ray()
    board, depot = (ray.get_actor(setup.actor_name(kind)) for kind in (Board, Depot))
    mark = setup.folder / WORK_FOLDER / TOKEN_FILE
    is_shared = mark.is_file() and mark.read_text(encoding="utf-8") == setup.token
    scratch = setup.scratch or (setup.folder / WORK_FOLDER / SERVERS_FOLDER if is_shared else None)
    if scratch is None:
        raise ServerRefused(
            f"{socket.gethostname()} cannot access the output folder; give a local folder with --scratch"
        )
    local = scratch / socket.gethostname()
    storage: Storage = SharedStorage(setup.parts)
    if not is_shared:
        storage = SentStorage(
            local / "files",
            lambda *block: ray.get(depot.read.remote(*block)),
            lambda *block: ray.get(depot.write.remote(*block)),
            lambda record: ray.get(depot.finish.remote(record)),
        )
    number = int(name.rpartition(" ")[2]) - 1
    server = (
        NamedServer(setup.servers[number], setup.headers)
        if setup.servers
        else OwnServer(local, name.replace(" ", "_"), cpu=setup.cpu, options=setup.comfyui_options)
    )
    return Renderer(server, storage, lambda *news: board.note.remote(name, *news))


class LazyRenderer:
    """A Renderer created on its first call, so that an error in creating it fails the call and not the actor."""

    def __init__(self, setup: Setup, name: str) -> None:
        self._make: Callable[[], Renderer] = lambda: worker_of(setup, name)
        self._made: Renderer | None = None
        self._making = threading.Lock()

    def _renderer(self) -> Renderer:
        with self._making:
            self._made = self._made or self._make()
        return self._made

    def ready(self) -> tuple[str, int]:
        """See Renderer; with the process id."""
        return self._renderer().ready(), os.getpid()

    def object_info(self) -> dict[str, Any]:
        """See Renderer."""
        return self._renderer().object_info()

    def render(self, order: Order) -> Any:
        """See Renderer."""
        return self._renderer().render(order)

    def try_out(self, order: Order) -> str | None:
        """See Renderer."""
        return self._renderer().try_out(order)

    def cancel(self) -> None:
        """See Renderer."""
        if self._made is not None:
            self._made.cancel()


def _connection_problem(options: dict[str, Any], error: Exception) -> str:
    if options["address"] == "local":
        return f"cannot be started: {error}"
    # Ray's error does not mention a missing token.
    return (
        f"cannot be reached: {error}. Check the address; if `ray start --head` reported token authentication, set "
        "RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN to the output of `ray get-auth-token` on the head"
    )


def _check_address(address: str) -> None:
    """Raise NoRay if nothing listens at HOST:PORT; Ray itself tries for minutes. Other forms are left to Ray."""
    host, colon, port = address.rpartition(":")
    if not colon or "/" in address or not port.isdecimal():
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), CONNECT_S).close()
    except (OSError, OverflowError) as error:
        raise NoRay(f"--address {address}: nothing answers there ({error}); correct it, or start Ray there") from error


def _kill_with_children(process: psutil.Process) -> None:
    with contextlib.suppress(psutil.NoSuchProcess):
        for child in process.children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):
                child.kill()
        process.kill()
        process.wait()


class Cluster:
    """A connection to Ray with its workers; a context manager.

    Args:
        address: of a cluster; None starts Ray on this machine.
        dashboard: start Ray's dashboard with it.
        say: prints a line.

    Raises:
        NoRay: Ray is missing or cannot be reached.
    """

    def __init__(self, address: str | None, *, dashboard: bool, say: Callable[[str], None]) -> None:
        if address:
            _check_address(address)
        self._say = say
        self._ray = import_ray()
        options: dict[str, Any] = {"address": address} if address else {"address": "local"}
        if not address:
            options |= {"include_dashboard": dashboard, "object_store_memory": OBJECT_STORE_BYTES}
        self.dashboard_url: str | None = self._connect(options, 1 if address else START_TRIES).dashboard_url
        self._workers: list[Any] = []
        self._board: Any = None
        self._depot: Any = None

    def _connect(self, options: dict[str, Any], tries: int) -> Any:
        """Connect to Ray. Ray waits 30 s for its own processes to start, which a busy machine may exceed."""
        for left in reversed(range(tries)):
            before = set(psutil.Process().children())
            try:
                return self._ray.init(**options, log_to_driver=False, logging_level="error")
            except Exception as error:
                # Ray may also raise the class itself.
                self._ray.shutdown()
                # It leaves the processes that it started.
                for process in set(psutil.Process().children()) - before:
                    _kill_with_children(process)
                if not left:
                    raise NoRay(f"Ray ({options['address']}) {_connection_problem(options, error)}") from error
                self._say(f"Ray did not start; {left} more {'try' if left == 1 else 'tries'} ...")
        raise AssertionError("unreachable")

    def __enter__(self) -> Cluster:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ray.shutdown()

    def resources(self) -> dict[str, float]:
        """The cluster's resources, as {"GPU": 8.0, "CPU": 64.0}."""
        return self._ray.cluster_resources()

    def start_workers(self, setup: Setup, count: int, *, cpus: float, gpus: float) -> list[str]:
        """Start the workers and return their names; Ray restarts processes that end."""
        ray = self._ray
        here = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(
            ray.get_runtime_context().get_node_id(), soft=False
        )
        local = {"num_cpus": 0, "scheduling_strategy": here, "max_restarts": -1}
        self._board = ray.remote(Board).options(**local, name=setup.actor_name(Board)).remote()
        self._depot = (
            ray.remote(Depot).options(**local, name=setup.actor_name(Depot), max_concurrency=8).remote(setup.parts)
        )
        names = [f"worker {number}" for number in range(1, count + 1)]
        actor = ray.remote(LazyRenderer).options(
            num_cpus=cpus, num_gpus=gpus, max_restarts=-1, max_concurrency=CALLS_PER_WORKER
        )
        self._workers = [actor.remote(setup, name) for name in names]
        return names

    def ready(self, worker: int) -> Any:
        """Begin the check of a worker; for `wait` and `result`."""
        # Ray restarts a process that ends in the meantime, which may take long on a busy machine.
        return self._workers[worker].ready.options(max_task_retries=RESTARTS_AWAITED).remote()

    def render(self, worker: int, order: Order) -> Any:
        """Begin an order; for `wait` and `result`."""
        return self._workers[worker].render.remote(order)

    def try_out(self, worker: int, order: Order) -> Any:
        """Begin a run that saves nothing; for `wait` and `result`."""
        return self._workers[worker].try_out.remote(order)

    def object_info(self, worker: int) -> dict[str, Any]:
        """The node infos of a worker's server."""
        return self._ray.get(self._workers[worker].object_info.remote())

    def wait(self, calls: Sequence[Any], timeout_s: float) -> list[Any]:
        """Wait until a call has ended, then return all that have."""
        calls = list(calls)
        first, _ = self._ray.wait(calls, num_returns=1, timeout=timeout_s)
        if not first:
            return []
        return self._ray.wait(calls, num_returns=len(calls), timeout=0)[0]

    def result(self, call: Any) -> Any:
        """The result of a call that has ended; Lost if its worker ended.

        Raises the call's own error.
        """
        try:
            return self._ray.get(call)
        except self._ray.exceptions.RayActorError as error:
            return Lost(str(error).splitlines()[0])
        except self._ray.exceptions.RayTaskError as error:
            raise error.cause from None

    def progress(self) -> dict[str, tuple[str, int, int]]:
        """{worker: (clip, chunks done, chunks in total)} as last reported."""
        try:
            return self._ray.get(self._board.read.remote(), timeout=5)
        except (self._ray.exceptions.RayActorError, self._ray.exceptions.GetTimeoutError):
            return {}

    def cancel(self, timeout_s: float = 15.0) -> None:
        """Cancel the runs in progress, so that named servers do not continue them."""
        calls = [worker.cancel.remote() for worker in self._workers]
        self._ray.wait(calls, num_returns=len(calls), timeout=timeout_s)
