"""ComfyUI's server, where one runs in this process."""

from __future__ import annotations

import sys
from typing import Any

from aiohttp import web

VERSION = "0.1.0"
"""The pack's version, as in pyproject.toml."""

VERSION_ROUTE = "/asymtalker/version"


def prompt_server() -> Any | None:
    """The running ``PromptServer``; None outside the server, where its module is heavy to import and not needed."""
    module = sys.modules.get("server")
    return getattr(getattr(module, "PromptServer", None), "instance", None)


def add_version_route() -> None:
    """Add a route that returns the pack's version, if a server runs."""
    server = prompt_server()
    if server is not None:
        server.routes.get(VERSION_ROUTE)(send_version)


async def send_version(request: web.Request) -> web.Response:
    """``{"version": ...}``."""
    return web.json_response({"version": VERSION})
