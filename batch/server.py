"""The ComfyUI that a worker drives: one that it started, or one that was named."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import requests

from ..host.server import VERSION, VERSION_ROUTE
from ..scripts._client import ComfyClient
from ..scripts._environment import find_comfyui
from ..scripts._server import ComfyServer
from .graph import FOLDER

SAVED_WHOLE = "AsymTalkerMux"
"""The node whose files appear under their names when they are whole."""


class ServerRefused(RuntimeError):
    """A server cannot be used for this batch at all; the message names it and the remedy."""


class Server(Protocol):
    """A ComfyUI."""

    @property
    def name(self) -> str:
        """For messages."""
        ...

    def ensure(self) -> None:
        """Start it where it does not run and is the worker's own. Raises ServerFault."""
        ...

    def client(self, client_id: str | None = None) -> ComfyClient:
        """A client of it."""
        ...

    def saved(self, clip: str, savers: Mapping[str, str]) -> list[dict[str, str]] | None:
        """The files that a run saved whose end the worker did not see; None where it did not save all."""
        ...

    def discard(self, clip: str) -> None:
        """Remove a clip's files, which are the batch's now."""
        ...

    def stop(self) -> None:
        """Stop it where it is the worker's own."""
        ...


class OwnServer:
    """A ComfyUI that the worker started; it is killed with the worker.

    All of them on a machine share `folder`/user, where the frames of unfinished clips are, and `folder`/output.

    Args:
        folder: for all that the servers of this machine write.
        name: of this one.
        cpu: run it on the CPU.
        options: further options of ComfyUI's command line.
    """

    def __init__(self, folder: Path, name: str, *, cpu: bool, options: tuple[str, ...] = ()) -> None:
        comfyui = find_comfyui()
        if comfyui is None:
            raise ServerRefused("there is no ComfyUI on this machine; set COMFYUI_PATH to its folder")
        self.name = name
        self._output = folder / "output"
        shared = [f"--{kind}-directory={folder / kind}" for kind in ("user", "output")]
        for kind in ("user", "output"):
            (folder / kind).mkdir(parents=True, exist_ok=True)
        self._server = ComfyServer(comfyui, folder / name, cpu=cpu, options=[*shared, *options], dies_with_us=True)

    def ensure(self) -> None:
        """Start it where it does not run. Raises ServerFault."""
        process = self._server.process
        if process is None or process.poll() is not None:
            self._server.stop()
            self._server.start()

    def client(self, client_id: str | None = None) -> ComfyClient:
        """A client of it."""
        return ComfyClient(self._server.url, client_id=client_id)

    def saved(self, clip: str, savers: Mapping[str, str]) -> list[dict[str, str]] | None:
        """See Server. Other nodes than the pack's may leave half a file under its name."""
        files = sorted(path for path in (self._output / FOLDER / clip).glob("*") if path.is_file())
        complete = len(files) == len(savers) and set(savers.values()) == {SAVED_WHOLE}
        entries = [{"filename": path.name, "subfolder": f"{FOLDER}/{clip}", "type": "output"} for path in files]
        return entries if complete else None

    def discard(self, clip: str) -> None:
        """See Server."""
        shutil.rmtree(self._output / FOLDER / clip, ignore_errors=True)

    def stop(self) -> None:
        """Stop it."""
        self._server.stop()


@dataclass(frozen=True)
class NamedServer:
    """A ComfyUI that others may use too.

    Args:
        url: its address.
        headers: sent with every request.
    """

    url: str
    headers: tuple[tuple[str, str], ...] = ()

    @property
    def name(self) -> str:
        """Its address."""
        return self.url

    def ensure(self) -> None:
        """Nothing: it is not the worker's."""

    def client(self, client_id: str | None = None) -> ComfyClient:
        """A client of it."""
        return ComfyClient(self.url, dict(self.headers), client_id)

    def saved(self, clip: str, savers: Mapping[str, str]) -> list[dict[str, str]] | None:
        """None: only its history says what it saved."""
        return None

    def discard(self, clip: str) -> None:
        """Nothing: ComfyUI's interface removes no files."""

    def stop(self) -> None:
        """Nothing: others use it."""


def check_server(client: ComfyClient) -> dict[str, Any]:
    """What a server says about its nodes, where it can be used.

    Raises:
        ServerRefused: it does not answer, wants another token, or has not this version of the pack.
    """
    try:
        version = client.get(VERSION_ROUTE)["version"]
        object_info = client.object_info()
    except requests.HTTPError as error:
        status = 0 if error.response is None else error.response.status_code
        if status in (401, 403):
            raise ServerRefused(f"{client.url} refuses the request ({status}); check --header") from error
        if status != 404:
            raise ServerRefused(f"{client.url} responds with status {status}") from error
        raise ServerRefused(
            f"{client.url} has no ComfyUI-AsymTalker {VERSION} (it is missing or older); install it there"
        ) from error
    except (requests.RequestException, ValueError, KeyError, TypeError) as error:
        raise ServerRefused(f"{client.url} does not respond like a ComfyUI server: {type(error).__name__}") from error
    if version != VERSION:
        raise ServerRefused(
            f"{client.url} has ComfyUI-AsymTalker {version}, this is {VERSION}; install the same version"
        )
    return object_info
