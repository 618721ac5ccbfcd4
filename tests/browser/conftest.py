"""A real Chromium before a real ComfyUI."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from asymtalker.scripts._client import ComfyClient
from asymtalker.scripts._environment import ROOT
from asymtalker.scripts._server import ComfyServer

pytest.importorskip("playwright.sync_api", reason="no playwright: scripts/test.py installs it")

from playwright.sync_api import Browser, BrowserContext, sync_playwright

from asymtalker.tests.browser.frontend import CHROMIUM_FLAGS, FrontEnd, chromium_or_skip

# The one that ComfyUI requires, and the newest that the pack was tried with.
FRONT_ENDS = (None, "comfyui-frontend-package==1.58.1")
OpenFrontEnd = Callable[[], FrontEnd]


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


@pytest.fixture(scope="session", params=FRONT_ENDS, ids=lambda package: (package or "required").split("==")[-1])
def server(
    request: pytest.FixtureRequest, comfyui: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ComfyServer]:
    """A running ComfyUI as in the other tests, with one front end after the other."""
    static = None if request.param is None else fetch_front_end(request.param, tmp_path_factory.mktemp("front_end"))
    workdir = tmp_path_factory.mktemp("comfyui")
    cpu = not torch.cuda.is_available()
    with ComfyServer(comfyui, workdir, cpu=cpu, api_nodes=True, front_end=static) as running:
        yield running


def fetch_front_end(package: str, folder: Path) -> Path:
    """Install a front end's package into a folder of its own; where its files are."""
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet", "--no-deps"]
    subprocess.run([*pip, "--target", str(folder), package], check=True)
    return folder / "comfyui_frontend_package" / "static"


@pytest.fixture(scope="session")
def client(server: ComfyServer) -> ComfyClient:
    """A client of the server."""
    return ComfyClient(server.url)


@pytest.fixture(scope="session")
def examples(client: ComfyClient) -> None:
    """The example pictures and speech in the server's input folder, under the names that the graphs have."""
    for asset in sorted((ROOT / "workflows" / "assets").iterdir()):
        client.upload(asset)


def stop_all(client: ComfyClient) -> None:
    """End what a test left running: the next one's page would show it."""
    client.post("/queue", {"clear": True}).raise_for_status()
    client.interrupt()
    deadline = time.monotonic() + 120
    while client.get("/prompt")["exec_info"]["queue_remaining"]:
        assert time.monotonic() < deadline, "the server does not stop what it runs"
        time.sleep(0.1)


@pytest.fixture
def open_front_end(browser: Browser, server: ComfyServer, client: ComfyClient) -> Iterator[OpenFrontEnd]:
    """Return a function that opens one more browser of its own (no cookies, no storage of another) on the server."""
    contexts: list[BrowserContext] = []

    def open_one() -> FrontEnd:
        contexts.append(browser.new_context(viewport={"width": 1600, "height": 900}))
        front_end = FrontEnd(contexts[-1].new_page(), client, server.pack_name)
        front_end.open()
        return front_end

    yield open_one
    for context in contexts:
        context.close()
    stop_all(client)


@pytest.fixture
def front_end(open_front_end: OpenFrontEnd, examples: None) -> FrontEnd:
    """The front end in a fresh browser, with the example files in place."""
    return open_front_end()
