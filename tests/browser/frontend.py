"""ComfyUI's front end in a real Chromium: open it, load a graph, queue, read what the console says."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import ConsoleMessage, Error, Page

from asymtalker.scripts._client import ComfyClient, PromptFailed, videos

CHROMIUM_FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
# What a first visit would lay over the graph.
SETTINGS = {
    "Comfy.TutorialCompleted": True,
    "Comfy.VueNodes.AutoScaleLayout": False,
    "Comfy.Minimap.Visible": False,
    "Comfy.Graph.CanvasInfo": False,
}
READY = "() => window.app?.graph && window.app.canvas && window.app.extensionManager"
TWO_FRAMES = "() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))"
NODES_2 = "Comfy.VueNodes.Enabled"
REGISTRY = "https://api.comfy.org/nodes"


class FrontEnd:
    """One tab with ComfyUI's front end.

    Args:
        page: the tab.
        client: of the server that the tab shows.
        pack_name: under which the pack's files are served.
    """

    def __init__(self, page: Page, client: ComfyClient, pack_name: str) -> None:
        self.page = page
        self.client = client
        self.pack_name = pack_name
        self.messages: list[str] = []
        page.set_default_timeout(90_000)
        page.on("console", self._on_console)
        page.on("pageerror", self._on_page_error)

    def _on_console(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.messages.append(f"{message.type}: {message.text} ({message.location.get('url', '')})")

    def _on_page_error(self, error: Error) -> None:
        self.messages.append(f"uncaught: {error.message} ({error.stack})")

    def own_messages(self) -> list[str]:
        """Errors and warnings of the console that name the pack, its files or its routes.

        The front end has some of its own at every start (user.css is not found, an `id` of undefined); it also looks
        all installed packs up in the Comfy Registry, which the server's content policy forbids here. A stream breaks
        off if its frames are deleted while it is sent, as those of a saved video are.
        """
        ignored = (REGISTRY, "net::ERR_INCOMPLETE_CHUNKED_ENCODING")
        own = [text for text in self.messages if "asymtalker" in text.lower()]
        return [text for text in own if not any(part in text for part in ignored)]

    def open(self, **settings: Any) -> None:
        """Open (or reload) the front end and wait until it can be used; `settings` are ComfyUI's own, by id."""
        self.client.post("/settings", {**SETTINGS, **settings}).raise_for_status()
        self.page.goto(self.client.url)
        self.page.wait_for_function(READY)
        self.page.wait_for_function("() => !document.querySelector('#comfy-splash, .p-progressspinner')")

    def load(self, workflow: dict[str, Any]) -> None:
        """Show a workflow in UI form, as dropping its file on the canvas does."""
        self.page.evaluate("workflow => window.app.loadGraphData(workflow)", workflow)
        self.page.wait_for_function("count => window.app.graph.nodes.length >= count", arg=len(workflow["nodes"]))
        self.page.evaluate(TWO_FRAMES)

    def use_nodes_2(self, is_on: bool) -> None:
        """Draw nodes as Nodes 2.0 does, or on the canvas."""
        self.page.evaluate("([id, value]) => window.app.extensionManager.setting.set(id, value)", [NODES_2, is_on])

    def look_at(self, *types: str) -> None:
        """Bring the top left corner of the first node of these types into view, at a scale that shows all details."""
        self.page.evaluate(
            """types => { const { canvas, graph } = window.app;
                const nodes = (canvas.graph ?? graph).nodes;
                const node = nodes.find((one) => types.includes(one.subgraph ? 'subgraph' : one.type));
                canvas.ds.scale = 1;
                canvas.ds.offset = [300 - node.pos[0], 100 - node.pos[1]];
                canvas.setDirty(true, true); }""",
            list(types),
        )

    def queue(self) -> str:
        """Queue the graph that is shown, as the Run button does, and return its prompt id.

        Raises:
            AssertionError: the server refused it.
        """
        before = set(self._prompts())
        self.page.evaluate("() => window.app.queuePrompt(0, 1)")
        deadline = time.monotonic() + 20
        while not (new := set(self._prompts()) - before):
            assert time.monotonic() < deadline, f"nothing was queued: {self.messages[-3:]}"
            time.sleep(0.05)
        (prompt_id,) = new
        return prompt_id

    def _prompts(self) -> list[str]:
        """Ids of all prompts that the server knows."""
        queue = self.client.get("/queue")
        waiting = [entry[1] for entry in queue["queue_running"] + queue["queue_pending"]]
        return waiting + list(self.client.get("/history"))

    def finish(self, prompt_id: str, timeout_s: float = 300) -> dict[str, Any]:
        """Wait until a prompt is over and return its history entry. Raises PromptFailed."""
        deadline = time.monotonic() + timeout_s
        while prompt_id not in (history := self.client.get(f"/history/{prompt_id}")):
            assert time.monotonic() < deadline, f"prompt {prompt_id} is not over after {timeout_s} s"
            self.page.wait_for_timeout(200)
        entry = history[prompt_id]
        if entry["status"]["status_str"] != "success":
            raise PromptFailed(json.dumps(entry["status"]["messages"]))
        return entry

    def run(self, timeout_s: float = 300) -> list[dict[str, str]]:
        """Queue the graph, wait, and return the videos it saved, each {filename, subfolder, type}."""
        return videos(self.finish(self.queue(), timeout_s))

    def wait_until(self, condition: Callable[[], bool], what: str, timeout_s: float = 60) -> None:
        """Wait for a condition while the tab goes on. Raises AssertionError that names `what` did not happen."""
        deadline = time.monotonic() + timeout_s
        while not condition():
            assert time.monotonic() < deadline, f"not within {timeout_s} s: {what}"
            self.page.wait_for_timeout(50)

    def wait(self, condition: str, argument: Any = None) -> None:
        """Wait until a function of JavaScript in the tab answers true."""
        self.page.wait_for_function(condition, arg=argument)

    def frame_graph(self) -> None:
        """Bring the whole graph into view."""
        self.page.evaluate(
            """() => { const { canvas, graph } = window.app;
                canvas.animateToBounds(bounds(graph.nodes), { duration: 1 });
                function bounds(nodes) {
                    const boxes = nodes.map((node) => node.getBounding());
                    const [left, top] = [0, 1].map((i) => Math.min(...boxes.map((box) => box[i])));
                    const [right, bottom] = [0, 1].map((i) => Math.max(...boxes.map((box) => box[i] + box[i + 2])));
                    return [left, top, right - left, bottom - top];
                } }"""
        )
        self.page.evaluate(TWO_FRAMES)

    def screenshot(self, path: Path) -> Path:
        """Save what the tab shows as a PNG (or JPEG, by the name) and return the path."""
        self.page.screenshot(path=path)
        return path


def chromium_or_skip(found: str | None) -> str:
    """The browser's program; skips the test where there is none."""
    if found is None:
        pytest.skip("no Chromium: install Debian's package chromium (scripts/test.py does it where it may)")
    return found
