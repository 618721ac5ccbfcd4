"""`python _guard.py PIDFILE COMMAND...` runs a command and kills it when the parent process ends.

That process holds the other end of stdin and never writes to it: the end of the stream is its end, however it came.
On Linux the command also ends with this process, as Ray kills the children of its workers, but not theirs. Standard
library only.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

PR_SET_PDEATHSIG = 1


def main() -> int:
    """Run the command, its process id in a file, and return its exit status."""
    pid_file, *command = sys.argv[1:]
    on_linux = sys.platform == "linux"
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL, preexec_fn=end_with_parent if on_linux else None)
    Path(pid_file).write_text(str(child.pid), encoding="utf-8")
    threading.Thread(target=kill_at_end_of_input, args=(child,), daemon=True).start()
    return child.wait()


def end_with_parent() -> None:
    """Have the kernel kill this process when its parent ends."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def kill_at_end_of_input(child: subprocess.Popen[bytes]) -> None:
    """Wait for the end of stdin, then kill the command, and what it started where process groups exist."""
    # Not through sys.stdin, whose lock this thread would hold when the interpreter ends.
    while os.read(0, 1):
        pass
    child.kill()
    if sys.platform != "win32":
        # This process is the group's leader (see ComfyServer.start).
        os.killpg(os.getpgrp(), signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(main())
