"""What the live player in the browser asks ComfyUI's server for. Only generations of this process are served, by id."""

from __future__ import annotations

import asyncio
from typing import Any

from aiohttp import web

from ...media import Fragment, MediaError
from .live import JOBS, RUNNING, LiveJob
from .server import prompt_server

ROOT = "/asymtalker/live"
STREAM_POLL_S = 0.1


def register() -> None:
    """Add the routes to the server, where one runs."""
    server = prompt_server()
    if server is not None:
        server.routes.get(ROOT)(list_jobs)
        server.routes.get(ROOT + "/{job}")(show_job)
        server.routes.get(ROOT + "/{job}/init")(send_init)
        server.routes.get(ROOT + "/{job}/stream")(send_stream)
        server.routes.get(ROOT + "/{job}/{chunk:[0-9]{1,7}}")(send_chunk)


async def list_jobs(request: web.Request) -> web.Response:
    """Every generation that can be watched, oldest first, without its chunks."""
    return web.json_response([job.summary() for job in JOBS.all()])


async def show_job(request: web.Request) -> web.Response:
    """One generation with all of its chunks."""
    job = _job(request)
    return web.json_response({"job": job.summary(), "chunks": job.chunk_list()})


async def send_init(request: web.Request) -> web.Response:
    """The initialisation segment, its codecs in Content-Type."""
    fragment = await _fragment(_job(request), 0)
    return _stream(fragment.init, fragment.mime_type)


async def send_chunk(request: web.Request) -> web.Response:
    """The media segment of a finished chunk."""
    fragment = await _fragment(_job(request), int(request.match_info["chunk"]))
    return _stream(fragment.media, "video/mp4")


async def send_stream(request: web.Request) -> web.StreamResponse:
    """The video from chunk ``first`` on as one file that ends when the generation does.

    For browsers that may not use a MediaSource. A viewer who takes nothing more costs nothing more.
    """
    job = _job(request)
    index = int(request.query.get("first", "0")) if request.query.get("first", "0").isdecimal() else 0
    response = web.StreamResponse(headers={"Content-Type": "video/mp4", "Cache-Control": "no-store"})
    await response.prepare(request)
    is_first = True
    while (is_there := index < job.num_done) or job.state == RUNNING:
        if not is_there:
            await asyncio.sleep(STREAM_POLL_S)
            continue
        fragment = await _fragment(job, index)
        await response.write(fragment.init + fragment.media if is_first else fragment.media)
        is_first, index = False, index + 1
    await response.write_eof()
    return response


def _job(request: web.Request) -> LiveJob:
    job = JOBS.get(request.match_info["job"])
    if job is None:
        raise _refusal(web.HTTPNotFound, "no such generation; it is over, or the server was restarted")
    return job


async def _fragment(job: LiveJob, index: int) -> Fragment:
    try:
        return await asyncio.to_thread(job.fragment, index)
    except IndexError:
        raise _refusal(web.HTTPNotFound, f"chunk {index} is not finished") from None
    except MediaError as error:
        raise _refusal(web.HTTPGone, str(error)) from error


def _refusal(kind: type[web.HTTPError], message: str) -> web.HTTPError:
    return kind(text=message, headers={"Cache-Control": "no-store"})


def _stream(data: bytes, content_type: str) -> web.Response:
    # A chunk never changes: a second player, or one that is scrubbed back, takes it from the browser's cache.
    headers: dict[str, Any] = {"Content-Type": content_type, "Cache-Control": "private, max-age=3600, immutable"}
    return web.Response(body=data, headers=headers)
