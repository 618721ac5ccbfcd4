"""`python _guard.py PIDFILE COMMAND...` runs a command and kills it when the process that started this one is gone.

That process holds the other end of stdin and never writes to it: the end of the stream is its end, however it came.
Standard library only.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path


def main() -> int:
    """Run the command, its process id in a file, and return its exit status."""
    pid_file, *command = sys.argv[1:]
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL)
    Path(pid_file).write_text(str(child.pid), encoding="utf-8")
    threading.Thread(target=kill_at_end_of_input, args=(child,), daemon=True).start()
    return child.wait()


def kill_at_end_of_input(child: subprocess.Popen[bytes]) -> None:
    """Wait for the end of stdin, then kill the command, and what it started where process groups exist."""
    sys.stdin.buffer.read()
    child.kill()
    if sys.platform != "win32":
        # This process is the group's leader (see ComfyServer.start).
        os.killpg(os.getpgrp(), signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(main())
