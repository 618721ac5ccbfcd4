"""Routes of ComfyUI's server for the table of Kept Jobs: the list, and removal without running the graph."""

from __future__ import annotations

import asyncio

from aiohttp import web

from ..host.server import prompt_server
from ..media import MediaError
from .kept import KeptJobs, kept_jobs

ROUTE = "/asymtalker/kept"


def register() -> None:
    """Add the routes to the server, if one runs."""
    server = prompt_server()
    if server is not None:
        server.routes.get(ROUTE)(list_jobs)
        server.routes.post(ROUTE)(remove_jobs)


async def list_jobs(request: web.Request) -> web.Response:
    """The list of kept jobs."""
    return _answer(await asyncio.to_thread(kept_jobs, ""))


async def remove_jobs(request: web.Request) -> web.Response:
    """Remove the jobs named in {"remove": ...}, like the node's input; 400 with the reason if none was removed."""
    try:
        body = await request.json()
        remove = body["remove"]
        if not isinstance(remove, str):
            raise TypeError("remove")
    except (ValueError, KeyError, TypeError) as error:
        raise web.HTTPBadRequest(text="remove: use ids from the list, `finished` or `all`") from error
    try:
        return _answer(await asyncio.to_thread(kept_jobs, remove))
    except (ValueError, MediaError) as error:
        raise web.HTTPBadRequest(text=str(error)) from error


def _answer(jobs: KeptJobs) -> web.Response:
    return web.json_response(jobs.table(), headers={"Cache-Control": "no-store"})
