"""The ComfyUI that a worker uses: one that it started, or one named in --servers."""

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
from ..scripts._server import ComfyServer, ServerFault
from .graph import FOLDER

SAVED_WHOLE = "AsymTalkerMux"
"""The node whose files appear under their names only when they are complete."""


class ServerRefused(RuntimeError):
    """A server cannot be used for this batch at all; the message names it and the remedy."""


class Server(Protocol):
    """A ComfyUI."""

    @property
    def name(self) -> str:
        """For messages."""
        ...

    def ensure(self) -> None:
        """Start it if it is the worker's own and not running. Raises ServerFault."""
        ...

    def client(self, client_id: str | None = None) -> ComfyClient:
        """A client of it."""
        ...

    def saved(self, clip: str, savers: Mapping[str, str]) -> list[dict[str, str]] | None:
        """The files saved by a run that ended without the worker; None if some are missing."""
        ...

    def discard(self, clip: str) -> None:
        """Remove a clip's files from the server after they were transferred."""
        ...

    def stop(self) -> None:
        """Stop it if it is the worker's own."""
        ...


class OwnServer:
    """A ComfyUI that the worker started; it is killed with the worker.

    All of them on a machine share `folder`/user, where the frames of unfinished clips are, and `folder`/output.

    Args:
        folder: for all files that the servers of this machine write.
        name: this server's name.
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
        """Start it if it is not running; wait for one that is still starting. Raises ServerFault."""
        process = self._server.process
        if process is None or process.poll() is not None:
            self._server.stop()
            self._server.start()
            return
        try:
            self._server.wait()
        except ServerFault:
            self._server.stop()
            raise

    def client(self, client_id: str | None = None) -> ComfyClient:
        """A client of it."""
        return ComfyClient(self._server.url, client_id=client_id)

    def saved(self, clip: str, savers: Mapping[str, str]) -> list[dict[str, str]] | None:
        """See Server. Nodes of other packs may leave incomplete files."""
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
        """Does nothing: the server is not the worker's own."""

    def client(self, client_id: str | None = None) -> ComfyClient:
        """A client of it."""
        return ComfyClient(self.url, dict(self.headers), client_id)

    def saved(self, clip: str, savers: Mapping[str, str]) -> list[dict[str, str]] | None:
        """None: only its history lists what it saved."""
        return None

    def discard(self, clip: str) -> None:
        """Does nothing: ComfyUI's API cannot delete files."""

    def stop(self) -> None:
        """Does nothing: others use the server."""


def check_server(client: ComfyClient) -> dict[str, Any]:
    """The node infos of a server that can be used.

    Raises:
        ServerRefused: it does not respond, needs another token, or does not have this version of the pack.
    """
    try:
        version = client.get(VERSION_ROUTE)["version"]
        object_info = client.object_info()
    except requests.HTTPError as error:
        status = 0 if error.response is None else error.response.status_code
        if status in (401, 403):
            raise ServerRefused(f"{client.url} refuses the request ({status}); check --header") from error
        if status != 404:
            raise ServerRefused(f"{client.url} responds with status {status}; see its log") from error
        raise ServerRefused(
            f"{client.url} has no ComfyUI-AsymTalker {VERSION} (it is missing or older); install it there"
        ) from error
    except (requests.ConnectionError, requests.Timeout) as error:
        raise ServerRefused(f"nothing answers at {client.url}; start the server, or correct the address") from error
    except (requests.RequestException, ValueError, KeyError, TypeError) as error:
        raise ServerRefused(f"what answers at {client.url} is not a ComfyUI; correct the address") from error
    if version != VERSION:
        raise ServerRefused(
            f"{client.url} has ComfyUI-AsymTalker {version}, this is {VERSION}; install the same version"
        )
    return object_info
