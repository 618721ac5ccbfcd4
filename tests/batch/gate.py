"""A proxy before a ComfyUI that wants a token."""

from __future__ import annotations

import asyncio
import threading

import aiohttp
from aiohttp import web

from asymtalker.scripts._server import free_port

TOKEN = "Bearer secret"


class Gate:
    """Passes everything on that has the token; a context manager.

    ``queued`` has an entry for each prompt: how many runs the server had in its queue before.
    """

    def __init__(self, target: str) -> None:
        self.target, self.url = target, f"http://127.0.0.1:{free_port()}"
        self.refused, self.queued = 0, list[int]()
        self._ready, self._over = threading.Event(), asyncio.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()))

    def __enter__(self) -> Gate:
        self._thread.start()
        self._ready.wait()
        return self

    def __exit__(self, *error: object) -> None:
        self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join()

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        app = web.Application(client_max_size=1 << 30)
        app.router.add_route("*", "/{path:.*}", self.answer)
        runner = web.AppRunner(app)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", int(self.url.rpartition(":")[2])).start()
        self._ready.set()
        await self._over.wait()
        await runner.cleanup()

    async def answer(self, request: web.Request) -> web.StreamResponse:
        if request.headers.get("Authorization") != TOKEN:
            self.refused += 1
            return web.Response(status=401)
        async with aiohttp.ClientSession(self.target) as session:
            if request.path == "/ws":
                return await self._pass_on_messages(request, session)
            if request.path == "/prompt":
                queue = await (await session.get("/queue")).json()
                self.queued.append(len(queue["queue_running"]) + len(queue["queue_pending"]))
            headers = {"Content-Type": request.headers["Content-Type"]} if "Content-Type" in request.headers else {}
            body = await request.read()
            async with session.request(request.method, request.rel_url, data=body, headers=headers) as answer:
                kept = {name: answer.headers[name] for name in ("Content-Type",) if name in answer.headers}
                if request.method == "HEAD":
                    kept["Content-Length"] = answer.headers.get("Content-Length", "0")
                return web.Response(status=answer.status, body=await answer.read() or None, headers=kept)

    async def _pass_on_messages(self, request: web.Request, session: aiohttp.ClientSession) -> web.WebSocketResponse:
        near = web.WebSocketResponse()
        await near.prepare(request)
        async with session.ws_connect(request.rel_url) as far:

            async def until_closed() -> None:
                async for _ in near:
                    pass
                await far.close()

            closing = asyncio.create_task(until_closed())
            async for message in far:
                is_text = message.type == aiohttp.WSMsgType.TEXT
                await (near.send_str(message.data) if is_text else near.send_bytes(message.data))
            closing.cancel()
        return near


class OldServer(Gate):
    """A server with another version of the pack."""

    async def answer(self, request: web.Request) -> web.StreamResponse:
        return web.json_response({"version": "0.0.9"})
