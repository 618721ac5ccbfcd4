"""A generation that a test makes chunk by chunk, and the player's routes in a real aiohttp server."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from aiohttp import web

from asymtalker.tests.helpers import ROOT, Import, moving_frames

RATE = 16_000
FPS = 25
STRICT_POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; font-src 'self'; connect-src 'self'; frame-src 'self'; object-src 'self';"
)
"""Of ComfyUI with --disable-api-nodes."""


class MadeJob:
    """A running generation of which the test decides what is there. Its sound is noise.

    Args:
        pack: imports the pack's modules.
        folder: where its frames lie.
        num_chunks, chunk_frames: of the whole video.
    """

    def __init__(self, pack: Import, folder: Path, num_chunks: int, chunk_frames: int) -> None:
        self.live, media = pack("live.jobs"), pack("media")
        self._chunk, self._record = pack("models.rollout").Chunk, pack("models.record").ChunkRecord
        header = media.SpoolHeader("job", 64, 48, metadata={})
        self.chunk_frames, num_frames = chunk_frames, num_chunks * chunk_frames
        noise = np.random.default_rng(0).normal(0, 0.1, (1, num_frames * RATE // FPS)).astype(np.float32)
        sound = pack("media.audio_track").AudioTrack(noise, RATE)
        self.job = self.live.LiveJob(pack("live.origin").Origin("1"), header, num_chunks, num_frames, sound)
        self.spool = media.SpoolWriter(folder, header)

    def add(self, count: int = 1, *, speed: float = 2.0) -> None:
        """The next chunks, generated at ``speed`` times real time."""
        for index in range(self.job.num_done, self.job.num_done + count):
            frames = moving_frames(self.chunk_frames, seed=index)
            self.spool.append(frames)
            left = (self.job.num_chunks - index - 1) * self.chunk_frames / FPS / speed
            first_frame = index * self.chunk_frames
            record = self._record(index=index, first_frame=first_frame, frames=self.chunk_frames, stats={})
            self.job.add(self._chunk(record, torch.from_numpy(frames)), FPS * speed, left)


@contextmanager
def made_job(pack: Import, folder: Path, num_chunks: int, chunk_frames: int) -> Iterator[MadeJob]:
    """A job that has begun; the routes serve it, and no other."""
    made = MadeJob(pack, folder, num_chunks, chunk_frames)
    jobs, before = made.live.JOBS, made.live.JOBS._jobs
    jobs._jobs = {made.job.id: made.job}
    try:
        with made.spool:
            made.job.begin(made.spool)
            yield made
    finally:
        jobs._jobs = before


@dataclass
class Routes:
    """``running``: how many requests are being answered. ``asked``: the paths of all that came."""

    port: int
    running: int
    asked: list[str]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


@contextmanager
def live_routes(pack: Import) -> Iterator[Routes]:
    """The routes in a server, beside the pack's ``web`` and empty pages: /, and /strict with a content policy."""
    state, table = Routes(0, 0, []), web.RouteTableDef()
    pack("live.routes").add_routes(table)
    loop, ready, stop = asyncio.new_event_loop(), threading.Event(), asyncio.Event()

    @web.middleware
    async def counted(request: web.Request, handler: Any) -> Any:
        state.running += 1
        state.asked.append(f"{request.method} {request.path}")
        try:
            return await handler(request)
        finally:
            state.running -= 1

    async def empty_page(request: web.Request) -> web.Response:
        headers = {"Content-Security-Policy": STRICT_POLICY} if request.path == "/strict" else {}
        # With an icon: the browser would ask for one at any time.
        text = "<!doctype html><title>page</title><link rel='icon' href='data:,'>"
        return web.Response(text=text, content_type="text/html", headers=headers)

    async def serve() -> None:
        app = web.Application(middlewares=[counted])
        app.add_routes(table)
        app.router.add_get("/", empty_page)
        app.router.add_get("/strict", empty_page)
        app.router.add_static("/web", ROOT / "web")
        runner = web.AppRunner(app, shutdown_timeout=1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        state.port = runner.addresses[0][1]
        ready.set()
        await stop.wait()
        await runner.cleanup()

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
    thread.start()
    assert ready.wait(30)
    try:
        yield state
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(30)
        loop.close()
