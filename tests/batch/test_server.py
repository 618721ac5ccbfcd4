"""Servers that start slowly, and addresses with no server behind them."""

from __future__ import annotations

import socket
import sys
import threading
from pathlib import Path

import pytest

from asymtalker.batch.cluster import Cluster, NoRay
from asymtalker.batch.server import OwnServer, ServerRefused, check_server
from asymtalker.scripts import _server
from asymtalker.scripts._client import ComfyClient
from asymtalker.scripts._server import ComfyServer, ServerFault

SLOW = """
import http.server, os, sys, time
while not os.path.exists(sys.argv[1]):
    time.sleep(0.05)
http.server.HTTPServer(("127.0.0.1", int(sys.argv[2])), type("", (http.server.BaseHTTPRequestHandler,), {
    "do_GET": lambda self: (self.send_response(200), self.end_headers())})).serve_forever()
"""


@pytest.fixture
def port() -> int:
    """A port on which nothing listens."""
    return _server.free_port()


def test_a_server_that_starts_slowly_is_waited_for_again(
    comfyui: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert comfyui
    mark = tmp_path / "may answer"
    monkeypatch.setattr(ComfyServer, "command", lambda self: [sys.executable, "-c", SLOW, str(mark), str(self.port)])
    server = OwnServer(tmp_path, "worker_1", cpu=True)
    try:
        monkeypatch.setattr(_server, "START_TIMEOUT_S", 0)
        with pytest.raises(ServerFault, match="did not answer within 0 s"):
            server.ensure()
        first = server._server.process
        mark.touch()
        monkeypatch.setattr(_server, "START_TIMEOUT_S", 300)
        server.ensure()
        assert first is not None and server._server.process is first and first.poll() is None
        mark.unlink()
    finally:
        server.stop()


def test_an_address_with_nothing_behind_it(port: int) -> None:
    with pytest.raises(ServerRefused, match=rf"nothing answers at http://127\.0\.0\.1:{port}; start the server"):
        check_server(ComfyClient(f"http://127.0.0.1:{port}"))
    with pytest.raises(NoRay, match=rf"--address 127\.0\.0\.1:{port}: nothing answers there"):
        Cluster(f"127.0.0.1:{port}", dashboard=False, say=print)


def test_what_answers_is_not_a_comfyui() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]

        def answer() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(10_000)
                connection.sendall(b"HTTP/1.0 200 OK\r\n\r\nhello")

        thread = threading.Thread(target=answer)
        thread.start()
        with pytest.raises(ServerRefused, match="is not a ComfyUI; correct the address"):
            check_server(ComfyClient(f"http://127.0.0.1:{port}"))
        thread.join()
