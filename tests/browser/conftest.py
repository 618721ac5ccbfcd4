"""A real Chromium before a real ComfyUI."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from asymtalker.scripts._client import ComfyClient
from asymtalker.tests.browser.servers import REQUIRED, Servers

pytest.importorskip("playwright.sync_api", reason="no playwright: scripts/test.py installs it")

from playwright.sync_api import Browser, BrowserContext, sync_playwright

from asymtalker.tests.browser.frontend import CHROMIUM_FLAGS, FrontEnd, chromium_or_skip

Tabs = Callable[[str], FrontEnd]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """All tests of this folder carry the marker."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.browser)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A Chromium without a window.

    Not for the whole session: while Playwright's loop runs in this thread, `asyncio.run` is refused there. For the same
    reason tests of this folder wait with `FrontEnd.finish` instead of `ComfyClient.run`.
    """
    program = chromium_or_skip(shutil.which("chromium") or shutil.which("chromium-browser"))
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=program, headless=True, args=CHROMIUM_FLAGS)
        yield running
        running.close()


@pytest.fixture(scope="session")
def servers(comfyui: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    """ComfyUI with the required and with the newest front end."""
    running = Servers(comfyui, tmp_path_factory)
    yield running
    running.stop()


@pytest.fixture(scope="module")
def open_tab(browser: Browser, servers: Servers) -> Iterator[Tabs]:
    """A function that opens one more browser of its own (no cookies, no storage of another) with a front end."""
    contexts: list[BrowserContext] = []

    def open_one(name: str) -> FrontEnd:
        server = servers.get(name)
        contexts.append(browser.new_context(viewport={"width": 1600, "height": 900}))
        front_end = FrontEnd(contexts[-1].new_page(), ComfyClient(server.url), server.pack_name)
        front_end.open()
        return front_end

    yield open_one
    for context in contexts:
        context.close()


@pytest.fixture(scope="module")
def tabs(open_tab: Tabs) -> Tabs:
    """A function that gives the one tab with a front end: opening it takes longer than most tests."""
    opened: dict[str, FrontEnd] = {}

    def tab(name: str) -> FrontEnd:
        if name not in opened:
            opened[name] = open_tab(name)
        return opened[name]

    return tab


@pytest.fixture
def tab(request: pytest.FixtureRequest, tabs: Tabs) -> Iterator[FrontEnd]:
    """A tab with the required front end, or with the one that a test is parametrized with.

    The pack leaves nothing in its console, and nothing runs on afterwards.
    """
    front_end = tabs(getattr(request, "param", REQUIRED))
    front_end.messages.clear()
    yield front_end
    stop_all(front_end.client)
    assert front_end.own_messages() == []


def stop_all(client: ComfyClient) -> None:
    """End what a test left running: the next one's tab would show it."""
    client.post("/queue", {"clear": True}).raise_for_status()
    client.interrupt()
    deadline = time.monotonic() + 120
    while client.get("/prompt")["exec_info"]["queue_remaining"]:
        assert time.monotonic() < deadline, "the server does not stop what it runs"
        time.sleep(0.05)
