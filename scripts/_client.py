"""ComfyUI's HTTP and WebSocket interface, as far as the commands and the tests use it."""

from __future__ import annotations

import asyncio
import json
import struct
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aiohttp
import requests

TIMEOUT_S = 60
# Type of the binary messages with a node's status text: u32 type, u32 length of the node id, node id, text.
TEXT_MESSAGE = 3
VIDEO_SUFFIXES = (".mp4", ".mov", ".mkv", ".webm")

Graph = dict[str, dict[str, Any]]
"""A workflow in API form: {node id: {"class_type": ..., "inputs": {...}}}."""

OnEvent = Callable[[str, dict[str, Any]], None]


class PromptRefused(RuntimeError):
    """The server did not accept the workflow; the message has one line per fault."""


class PromptFailed(RuntimeError):
    """A node raised an error; the message names the node."""


class PromptInterrupted(RuntimeError):
    """The run was cancelled."""


class ConnectionLost(RuntimeError):
    """The server closed the WebSocket before the run was over."""


class ComfyClient:
    """Client of one server.

    Args:
        url: for example "http://127.0.0.1:8188".
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self.client_id = uuid.uuid4().hex

    def get(self, path: str, **parameters: str) -> Any:
        """Return the JSON answer to a GET request."""
        response = requests.get(self.url + path, params=parameters, timeout=TIMEOUT_S)
        response.raise_for_status()
        return response.json()

    def post(self, path: str, body: dict[str, Any]) -> requests.Response:
        """Return the answer to a POST request with a JSON body."""
        return requests.post(self.url + path, json=body, timeout=TIMEOUT_S)

    def object_info(self) -> dict[str, Any]:
        """Return the server's description of every node."""
        return self.get("/object_info")

    def upload(self, path: Path, name: str | None = None) -> str:
        """Put a file into the server's input folder (overwriting one of the same name) and return its name there."""
        with path.open("rb") as stream:
            files = {"image": (name or path.name, stream)}
            answer = requests.post(
                self.url + "/upload/image", files=files, data={"overwrite": "true"}, timeout=10 * TIMEOUT_S
            )
        answer.raise_for_status()
        return answer.json()["name"]

    def interrupt(self) -> None:
        """Cancel the run in progress."""
        self.post("/interrupt", {}).raise_for_status()

    def free(self) -> None:
        """Make the server forget cached results and unload models before its next run."""
        self.post("/free", {"unload_models": True, "free_memory": True}).raise_for_status()

    def queue(self, graph: Graph, workflow: dict[str, Any] | None = None) -> str:
        """Queue a workflow and return its prompt id.

        Args:
            graph: the workflow in API form.
            workflow: its UI form, which nodes embed into what they save.

        Raises:
            PromptRefused: the server's checks found faults.
        """
        body: dict[str, Any] = {"prompt": graph, "client_id": self.client_id}
        if workflow is not None:
            body["extra_data"] = {"extra_pnginfo": {"workflow": workflow}}
        response = self.post("/prompt", body)
        answer = response.json()
        if not response.ok or answer.get("node_errors"):
            raise PromptRefused(describe_refusal(answer))
        return answer["prompt_id"]

    def run(self, graph: Graph, on_event: OnEvent | None = None, workflow: dict[str, Any] | None = None) -> Any:
        """Queue a workflow, wait until it is over and return its history entry.

        Args:
            graph: the workflow in API form.
            on_event: called with the type and data of every message about this run; binary ones as in `pass_on_binary`.
            workflow: see `queue`.

        Raises:
            PromptRefused, PromptFailed, PromptInterrupted: it did not run to its end.
            ConnectionLost: the server went away.
        """
        prompt_id = asyncio.run(self.follow(graph, on_event or (lambda kind, data: None), workflow))
        return self.get(f"/history/{prompt_id}")[prompt_id]

    async def follow(self, graph: Graph, on_event: OnEvent, workflow: dict[str, Any] | None) -> str:
        """Queue a workflow, pass on its messages until the server is done with it, and return its prompt id."""
        address = f"{self.url.replace('http', 'ws', 1)}/ws?clientId={self.client_id}"
        failure: Exception | None = None
        async with aiohttp.ClientSession() as session, session.ws_connect(address, max_msg_size=0) as socket:
            prompt_id = await asyncio.to_thread(self.queue, graph, workflow)
            async for message in socket:
                if message.type == aiohttp.WSMsgType.BINARY:
                    pass_on_binary(message.data, on_event)
                    continue
                event = json.loads(message.data)
                kind, data = event["type"], event.get("data") or {}
                if data.get("prompt_id") != prompt_id:
                    continue
                on_event(kind, data)
                if kind == "execution_error":
                    failure = PromptFailed(f"{data['node_type']}: {data['exception_message'].strip()}")
                elif kind == "execution_interrupted":
                    failure = PromptInterrupted(f"cancelled in {data.get('node_type')}")
                elif kind == "executing" and data.get("node") is None:
                    # The last message of a run: its history entry is there.
                    if failure is not None:
                        raise failure
                    return prompt_id
        raise ConnectionLost("the server closed the connection")

    def download(self, file: dict[str, str], target: Path) -> Path:
        """Fetch a result, {filename, subfolder, type}, into `target` and return it."""
        with requests.get(self.url + "/view", params=file, stream=True, timeout=TIMEOUT_S) as response:
            response.raise_for_status()
            with target.open("wb") as out:
                for block in response.iter_content(1 << 20):
                    out.write(block)
        return target


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
