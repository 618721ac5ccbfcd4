"""ComfyUI's HTTP and WebSocket interface, as far as the commands and the tests use it."""

from __future__ import annotations

import asyncio
import json
import struct
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import aiohttp
import requests

from ._workflow import Graph

TIMEOUT_S = 60
# How long to wait for a message before asking whether the run is over: messages can be lost.
SILENCE_S = 5.0
HEARTBEAT_S = 30.0
# Type of the binary messages with a node's status text: u32 type, u32 length of the node id, node id, text.
TEXT_MESSAGE = 3
VIDEO_SUFFIXES = (".mp4", ".mov", ".mkv", ".webm")

OnEvent = Callable[[str, dict[str, Any]], None]


class PromptRefused(RuntimeError):
    """The server did not accept the workflow; the message has one line per fault."""


class PromptFailed(RuntimeError):
    """A node raised an error; the message names its type, `error_type` the class of the error, `node` the node's id."""

    def __init__(self, message: str, error_type: str = "", node: str = "") -> None:
        super().__init__(message)
        self.error_type = error_type
        self.node = node


class PromptInterrupted(RuntimeError):
    """The run was cancelled."""


class ConnectionLost(RuntimeError):
    """The server closed the WebSocket before the run was over."""


class ComfyClient:
    """Client of one server.

    Args:
        url: for example "http://127.0.0.1:8188".
        headers: sent with every request, for servers behind a proxy that requires a token.
        client_id: the server sends a run's messages to the client that queued it; a random one by default.
    """

    def __init__(self, url: str, headers: Mapping[str, str] | None = None, client_id: str | None = None) -> None:
        self.url = url.rstrip("/")
        self.headers = dict(headers or {})
        self.client_id = client_id or uuid.uuid4().hex

    def get(self, path: str, **parameters: str) -> Any:
        """Return the JSON answer to a GET request."""
        response = requests.get(self.url + path, params=parameters, headers=self.headers, timeout=TIMEOUT_S)
        response.raise_for_status()
        return response.json()

    def post(self, path: str, body: dict[str, Any]) -> requests.Response:
        """Return the answer to a POST request with a JSON body."""
        return requests.post(self.url + path, json=body, headers=self.headers, timeout=TIMEOUT_S)

    def object_info(self) -> dict[str, Any]:
        """Return the server's description of every node."""
        return self.get("/object_info")

    def upload(self, path: Path, name: str | None = None, subfolder: str = "") -> str:
        """Put a file into the server's input folder (overwriting one of the same name) and return its name there."""
        with path.open("rb") as stream:
            answer = requests.post(
                self.url + "/upload/image",
                files={"image": (name or path.name, stream)},
                data={"overwrite": "true", "subfolder": subfolder},
                headers=self.headers,
                timeout=10 * TIMEOUT_S,
            )
        answer.raise_for_status()
        stored = answer.json()
        return f"{stored['subfolder']}/{stored['name']}" if stored.get("subfolder") else stored["name"]

    def interrupt(self) -> None:
        """Cancel the run in progress."""
        self.post("/interrupt", {}).raise_for_status()

    def free(self) -> None:
        """Make the server forget cached results and unload models before its next run."""
        self.post("/free", {"unload_models": True, "free_memory": True}).raise_for_status()

    def history(self, prompt_id: str) -> dict[str, Any] | None:
        """Return the history entry of a run that is over, else None."""
        return self.get(f"/history/{prompt_id}").get(prompt_id)

    def queue(self, graph: Graph, workflow: dict[str, Any] | None = None, prompt_id: str | None = None) -> str:
        """Queue a workflow and return its prompt id.

        Args:
            graph: the workflow in API form.
            workflow: its UI form, which nodes embed into what they save.
            prompt_id: a UUID for the run; by default the server chooses one.

        Raises:
            PromptRefused: the server's checks found faults.
        """
        body: dict[str, Any] = {"prompt": graph, "client_id": self.client_id}
        if workflow is not None:
            body["extra_data"] = {"extra_pnginfo": {"workflow": workflow}}
        if prompt_id is not None:
            body["prompt_id"] = prompt_id
        response = self.post("/prompt", body)
        answer = response.json()
        if not response.ok or answer.get("node_errors"):
            raise PromptRefused(describe_refusal(answer))
        return answer["prompt_id"]

    def run(self, graph: Graph, on_event: OnEvent | None = None, workflow: dict[str, Any] | None = None) -> Any:
        """Queue a workflow, wait until it is over and return its history entry.

        Args:
            graph: the workflow in API form.
            on_event: see `follow`.
            workflow: see `queue`.

        Raises:
            PromptRefused, PromptFailed, PromptInterrupted: it did not run to its end.
            ConnectionLost: the server went away.
        """
        return asyncio.run(self.follow(lambda: self.queue(graph, workflow), on_event or (lambda kind, data: None)))

    async def follow(self, begin: Callable[[], str], on_event: OnEvent) -> dict[str, Any]:
        """Pass on the messages of one run until it is over, and return its history entry.

        Args:
            begin: called once the server's messages can arrive; queues the run, or finds it, and returns its id.
            on_event: called with the type and data of every message about this run; binary ones as in `pass_on_binary`,
                and "silence" with {} where no message has come for SILENCE_S.

        Raises: as `run`.
        """
        address = f"{self.url.replace('http', 'ws', 1)}/ws?clientId={self.client_id}"
        async with (
            aiohttp.ClientSession(headers=self.headers) as session,
            session.ws_connect(address, max_msg_size=0, heartbeat=HEARTBEAT_S) as socket,
        ):
            prompt_id = await asyncio.to_thread(begin)
            while True:
                if not await self._next_message(socket.receive, prompt_id, on_event):
                    continue
                entry = await asyncio.to_thread(self.history, prompt_id)
                if entry is not None:
                    raise_failure(entry)
                    return entry
                if not await asyncio.to_thread(self.is_queued, prompt_id):
                    raise ConnectionLost("the server no longer has this run")

    @staticmethod
    async def _next_message(receive: Callable[..., Any], prompt_id: str, on_event: OnEvent) -> bool:
        """Pass on one message; return whether the run may be over."""
        try:
            message = await receive(timeout=SILENCE_S)
        except asyncio.TimeoutError:
            on_event("silence", {})
            return True
        if message.type == aiohttp.WSMsgType.BINARY:
            pass_on_binary(message.data, on_event)
            return False
        if message.type != aiohttp.WSMsgType.TEXT:
            raise ConnectionLost("the server closed the connection")
        event = json.loads(message.data)
        kind, data = event["type"], event.get("data") or {}
        if data.get("prompt_id") != prompt_id:
            return False
        on_event(kind, data)
        # The last message of a run: its history entry is there.
        return kind == "executing" and data.get("node") is None

    def is_queued(self, prompt_id: str) -> bool:
        """Whether a run waits, is in progress, or has ended meanwhile."""
        queue = self.get("/queue")
        items = [*queue["queue_running"], *queue["queue_pending"]]
        return any(item[1] == prompt_id for item in items) or self.history(prompt_id) is not None

    def download(self, file: dict[str, str], target: Path) -> Path:
        """Fetch a result, {filename, subfolder, type}, into `target` and return it."""
        with requests.get(
            self.url + "/view", params=file, headers=self.headers, stream=True, timeout=TIMEOUT_S
        ) as response:
            response.raise_for_status()
            with target.open("wb") as out:
                for block in response.iter_content(1 << 20):
                    out.write(block)
        return target


def raise_failure(entry: dict[str, Any]) -> None:
    """Raise PromptFailed or PromptInterrupted where a history entry is of a run that did not reach its end."""
    for kind, data in (entry.get("status") or {}).get("messages", []):
        if kind == "execution_error":
            message = f"{data['node_type']}: {data['exception_message'].strip()}"
            raise PromptFailed(message, data.get("exception_type", ""), data.get("node_id", ""))
        if kind == "execution_interrupted":
            raise PromptInterrupted(f"cancelled in {data.get('node_type')}")


def pass_on_binary(message: bytes, on_event: OnEvent) -> None:
    """Call `on_event` for a binary message: "progress_text" with {node, text}, or "preview" with {bytes}."""
    (kind,) = struct.unpack_from(">I", message)
    if kind != TEXT_MESSAGE:
        on_event("preview", {"bytes": len(message)})
        return
    (length,) = struct.unpack_from(">I", message, 4)
    on_event("progress_text", {"node": message[8 : 8 + length].decode(), "text": message[8 + length :].decode()})


def describe_refusal(answer: dict[str, Any]) -> str:
    """Return one line per fault of an answer to POST /prompt."""
    lines = [
        f"{node['class_type']} (node {node_id}): {describe_fault(error)}"
        for node_id, node in (answer.get("node_errors") or {}).items()
        for error in node["errors"]
    ]
    # A node's own check is reported once for each of its inputs.
    return "\n".join(dict.fromkeys(lines)) or describe_fault(answer.get("error") or {"message": str(answer)})


def describe_fault(error: dict[str, Any]) -> str:
    """Return one fault of an answer to POST /prompt as text."""
    details = error.get("details") or ""
    if error.get("type") == "custom_validation_failed":
        return details.removeprefix(f"{error.get('extra_info', {}).get('input_name')} - ")
    return f"{error['message']}: {details}" if details else error["message"]


def videos(history: dict[str, Any]) -> list[dict[str, str]]:
    """Return the video files that a history entry lists, each {filename, subfolder, type}."""
    entries = [entry for output in history["outputs"].values() for files in output.values() for entry in files]
    found = [entry for entry in entries if isinstance(entry, dict) and "filename" in entry]
    return [
        {key: entry[key] for key in ("filename", "subfolder", "type")}
        for entry in found
        if entry["filename"].lower().endswith(VIDEO_SUFFIXES)
    ]
