"""A ComfyUI server of our own: started on a free port with folders of its own, stopped with everything it started."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

from ._environment import ROOT, link_folder

PACK_NAME = "ComfyUI-AsymTalker"
GUARD = Path(__file__).with_name("_guard.py")
START_TIMEOUT_S = 300
STOP_TIMEOUT_S = 10
LOG_TAIL_LINES = 30


class ServerFault(RuntimeError):
    """The server does not start or has died; the message ends with the last lines of its log."""


def free_port() -> int:
    """Return a TCP port on 127.0.0.1 that is not in use."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def installed_name(comfyui: Path) -> str | None:
    """Return the name under which this pack lies (or is linked) in ComfyUI's custom_nodes, None where it does not."""
    folder = comfyui / "custom_nodes"
    names = sorted(folder.iterdir()) if folder.is_dir() else []
    return next((entry.name for entry in names if entry.is_dir() and entry.resolve() == ROOT), None)


class ComfyServer:
    """A ComfyUI process; a context manager that stops it.

    Input, output, temporary and user folders, the database and the log lie in `workdir`: nothing is written into the
    ComfyUI. A pack that does not lie in its custom_nodes is shown to it through an extra custom_nodes folder there.

    Args:
        comfyui: ComfyUI's folder.
        workdir: folder for all that the server writes.
        cpu: run on the CPU even where there is a GPU.
        only_this_pack: load no other custom nodes.
        api_nodes: load ComfyUI's API nodes. Without them it starts sooner, and its content policy forbids browsers what
            the live player uses where it may (media from blob: addresses).
        front_end: folder of a front end (`static` of a comfyui-frontend-package) in place of the installed one.
        port: TCP port on 127.0.0.1, None for a free one.
        options: further options of ComfyUI's command line.
        python: its interpreter, None for the running one.
        dies_with_us: kill the server also when this process is killed. `process` is then a guard between the two, and
            the server's process id is in `pid_file`.
    """

    def __init__(
        self,
        comfyui: Path,
        workdir: Path,
        *,
        cpu: bool,
        only_this_pack: bool = True,
        api_nodes: bool = False,
        front_end: Path | None = None,
        port: int | None = None,
        options: Sequence[str] = (),
        python: Path | None = None,
        dies_with_us: bool = False,
    ) -> None:
        self.comfyui = comfyui
        installed = installed_name(comfyui)
        self.is_installed = installed is not None
        self.pack_name = installed or PACK_NAME
        self.workdir = workdir
        self.cpu = cpu
        self.only_this_pack = only_this_pack
        self.api_nodes = api_nodes
        self.front_end = front_end
        self.port = port or free_port()
        self.options = tuple(options)
        self.python = python or Path(sys.executable)
        self.url = f"http://127.0.0.1:{self.port}"
        self.dies_with_us = dies_with_us
        self.log = workdir / "comfyui.log"
        self.pid_file = workdir / "comfyui.pid"
        self.process: subprocess.Popen[bytes] | None = None

    def command(self) -> list[str]:
        """Create the folders and return the command line."""
        for name in ("input", "output", "user"):
            (self.workdir / name).mkdir(parents=True, exist_ok=True)
        command = [sys.executable, str(GUARD), str(self.pid_file)] if self.dies_with_us else []
        command += [str(self.python), str(self.comfyui / "main.py"), "--listen", "127.0.0.1", "--port", str(self.port)]
        command += ["--disable-auto-launch", "--max-upload-size", "10000"]
        command += [] if self.api_nodes else ["--disable-api-nodes"]
        command += ["--front-end-root", str(self.front_end)] if self.front_end else []
        for name in ("input", "output", "user"):
            command += [f"--{name}-directory", str(self.workdir / name)]
        command += ["--temp-directory", str(self.workdir)]
        command += ["--database-url", f"sqlite:///{(self.workdir / 'comfyui.db').as_posix()}"]
        if not self.is_installed:
            shown = self.workdir / "custom_nodes"
            shown.mkdir(exist_ok=True)
            link_folder(shown / self.pack_name, ROOT)
            paths = self.workdir / "extra_model_paths.yaml"
            paths.write_text(f"asymtalker_pack:\n  custom_nodes: {json.dumps(str(shown))}\n", encoding="utf-8")
            command += ["--extra-model-paths-config", str(paths)]
        if self.only_this_pack:
            command += ["--disable-all-custom-nodes", "--whitelist-custom-nodes", self.pack_name]
        return [*command, *(["--cpu"] if self.cpu else []), *self.options]

    def start(self) -> None:
        """Start the process and wait until it answers. Raises ServerFault as `wait` does."""
        self.workdir.mkdir(parents=True, exist_ok=True)
        command = self.command()
        # A group of its own: the terminal's Ctrl-C does not reach it, and stop() reaches its children.
        windows_group = 0x200 if sys.platform == "win32" else 0
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                command,
                cwd=self.workdir,
                stdin=subprocess.PIPE if self.dies_with_us else subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                creationflags=windows_group,
            )
        self.wait()

    def wait(self) -> None:
        """Wait until the started process answers.

        Raises:
            ServerFault: it exits, or does not answer within START_TIMEOUT_S; it may still be starting then.
        """
        deadline = time.monotonic() + START_TIMEOUT_S
        while not self.answers():
            status = None if self.process is None else self.process.poll()
            if status is not None:
                raise self.fault(f"ComfyUI stopped while starting (exit status {status})")
            if time.monotonic() > deadline:
                raise self.fault(f"ComfyUI did not answer within {START_TIMEOUT_S} s")
            time.sleep(0.2)

    def answers(self) -> bool:
        """Whether the server answers HTTP."""
        try:
            with urllib.request.urlopen(f"{self.url}/system_stats", timeout=5) as response:
                return response.status == 200
        except (urllib.error.URLError, OSError):
            return False

    def log_tail(self) -> str:
        """Return the last lines of the server's log."""
        lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines() if self.log.is_file() else []
        return "\n".join(lines[-LOG_TAIL_LINES:])

    def fault(self, message: str) -> ServerFault:
        """Return an error with the end of the log."""
        return ServerFault(f"{message}. The end of its log:\n{self.log_tail()}")

    def stop(self) -> None:
        """Stop the server and what it started; harmless if it is not running."""
        process, self.process = self.process, None
        if process is None:
            return
        if process.poll() is None:
            self.signal_group(process, signal.SIGTERM)
            try:
                process.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                # ComfyUI waits for the step it is computing; what it holds is in `workdir` alone.
                process.kill()
                process.wait()
        if sys.platform != "win32":
            self.signal_group(process, signal.SIGKILL)
        if process.stdin is not None:
            process.stdin.close()

    @staticmethod
    def signal_group(process: subprocess.Popen[bytes], number: int) -> None:
        """Send a signal to the process and its children."""
        if sys.platform == "win32":
            process.terminate()
            return
        try:
            os.killpg(process.pid, number)
        except ProcessLookupError:
            return

    def __enter__(self) -> ComfyServer:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
