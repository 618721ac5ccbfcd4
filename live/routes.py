"""Routes of ComfyUI's server for the live player in the browser. Only generations of this process are served, by id."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
from collections.abc import AsyncGenerator
from typing import Any

from aiohttp import web

from ..host.server import prompt_server
from ..media import MediaError
from .fragments import Fragment
from .jobs import JOBS, JobState, LiveJob

ROOT = "/asymtalker/live"
STREAM_POLL_S = 0.1


def register() -> None:
    """Add the routes to the server, where one runs."""
    server = prompt_server()
    if server is not None:
        add_routes(server.routes)


def add_routes(routes: web.RouteTableDef) -> None:
    """Add the routes to a server's; each answers HEAD too."""
    routes.get(ROOT)(list_jobs)
    routes.get(ROOT + "/{job}")(show_job)
    routes.post(ROOT + "/{job}/watch")(note_viewer)
    routes.get(ROOT + "/{job}/init")(send_init)
    routes.get(ROOT + "/{job}/stream")(send_stream)
    routes.get(ROOT + "/{job}/{chunk:[0-9]{1,7}}")(send_chunk)


async def list_jobs(request: web.Request) -> web.Response:
    """Every generation that can be watched, oldest first, without its chunks."""
    return web.json_response([job.summary() for job in JOBS.all()])


async def show_job(request: web.Request) -> web.Response:
    """One generation with all of its chunks."""
    job = _job(request)
    return web.json_response({"job": job.summary(), "chunks": job.chunk_list()})


async def note_viewer(request: web.Request) -> web.Response:
    """A visible player shows the job: ComfyUI sends no previews of it for a few seconds."""
    _job(request).watch()
    return web.Response(status=204)


async def send_init(request: web.Request) -> web.StreamResponse:
    """The initialisation segment, its codecs in Content-Type."""
    job = _job(request)
    if request.method == "HEAD":
        return await _headers_only(request)
    fragment = await _fragment(job, 0)
    return _stream(fragment.init, fragment.mime_type)


async def send_chunk(request: web.Request) -> web.StreamResponse:
    """The media segment of a finished chunk."""
    job, index = _job(request), int(request.match_info["chunk"])
    if request.method == "HEAD" and index < job.num_done:
        return await _headers_only(request)
    fragment = await _fragment(job, index)
    return _stream(fragment.media, "video/mp4")


async def send_stream(request: web.Request) -> web.StreamResponse:
    """The video from chunk ``first`` on as one file that ends when the generation does.

    For browsers that may not use a MediaSource. A viewer that reads no more data causes no more work.
    """
    job = _job(request)
    index = _first(request, job)
    if request.method == "HEAD":
        return await _headers_only(request)
    response = web.StreamResponse(headers={"Content-Type": "video/mp4", "Cache-Control": "no-store"})
    await response.prepare(request)
    # A disconnected viewer ends it here, during a write or while waiting for the next chunk.
    with contextlib.suppress(ConnectionError):
        async with contextlib.aclosing(_parts(request, job, index)) as parts:
            async for part in parts:
                await response.write(part)
        await response.write_eof()
    return response


async def _parts(request: web.Request, job: LiveJob, index: int) -> AsyncGenerator[bytes, None]:
    """The parts of the stream, as they are encoded."""
    is_first = True
    while (is_there := index < job.num_done) or job.state is JobState.RUNNING:
        if request.transport is None or request.transport.is_closing():
            raise ConnectionResetError
        if not is_there:
            await asyncio.sleep(STREAM_POLL_S)
            continue
        try:
            fragment = await asyncio.to_thread(job.fragment, index)
        except MediaError as error:
            # Sent data cannot be withdrawn; only a broken connection shows that the file is incomplete.
            logging.info("AsymTalker: a live stream ends early: %s", error)
            request.transport.abort()
            raise ConnectionAbortedError from error
        yield fragment.init + fragment.media if is_first else fragment.media
        is_first, index = False, index + 1


def _first(request: web.Request, job: LiveJob) -> int:
    text = request.query.get("first", "0")
    if not re.fullmatch("[0-9]{1,7}", text):
        raise _refusal(web.HTTPBadRequest, "first: give the number of a chunk")
    if int(text) >= job.num_chunks:
        raise _refusal(web.HTTPNotFound, f"first: the video has {job.num_chunks} chunks, from 0 on")
    return int(text)


async def _headers_only(request: web.Request) -> web.StreamResponse:
    """The response to HEAD: nothing is encoded, and the job does not count as watched."""
    response = web.StreamResponse(headers={"Content-Type": "video/mp4", "Cache-Control": "no-store"})
    await response.prepare(request)
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
    # A chunk never changes, so a second player, or one that is scrubbed back, can use the browser's cache.
    headers: dict[str, Any] = {"Content-Type": content_type, "Cache-Control": "private, max-age=3600, immutable"}
    return web.Response(body=data, headers=headers)
