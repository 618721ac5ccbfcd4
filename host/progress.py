"""Text on a node, and the progress bar and cancel button while a file is saved."""

from __future__ import annotations

import logging
import time

from comfy import model_management
from comfy.utils import ProgressBar

from .messages import counted, encodable
from .server import prompt_server

SHORTEST_REPORT_S = 0.2
"""Seconds between two reports: hundreds of frames are encoded per second."""


def notify(node_id: str | None, *texts: str, outside: bool = False) -> None:
    """Log ``texts`` and show them on the node, a line each (where a server with that ability runs).

    What a node has to say goes into one call: the next one replaces what is shown. ``outside``: show it on the nodes
    of the subgraphs around this one too, which are what the user sees.
    """
    if not texts:
        return
    shown = encodable(_as_lines(texts))
    logging.info("AsymTalker: %s", shown)
    show(node_id, shown)
    # The id of a node in a subgraph is the id of the subgraph's node, a colon and its own id.
    while outside and node_id is not None and ":" in node_id:
        node_id = node_id.rpartition(":")[0]
        show(node_id, shown)


def _as_lines(texts: tuple[str, ...]) -> str:
    """The texts with a mark between them: Nodes 2.0 draws the lines as running text."""
    *before, last = texts
    return "\n".join([*(text if text.endswith((".", ";")) else f"{text};" for text in before), last])


def show(node_id: str | None, text: str) -> None:
    """Show ``text`` on the node (where a server with that ability runs) in place of what was there."""
    if node_id is None:
        return
    server = prompt_server()
    if server is not None and hasattr(server, "send_progress_text"):
        server.send_progress_text(text, node_id)


def duration(seconds: float) -> str:
    """Seconds in words: "42 s", "3 min 5 s", "2 h 10 min"."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


class SavingProgress:
    """Reports the frames of a file that is being written; the ``watch`` of ``encode_video``.

    Args:
        num_frames: how many are expected.
        node_id: shows text too; without it, only the bar of the node that runs.
    """

    def __init__(self, num_frames: int, node_id: str | None = None) -> None:
        self._num_frames, self._node_id = max(num_frames, 1), node_id
        self._bar = ProgressBar(self._num_frames, node_id)
        self._started = self._reported = time.monotonic()
        self._written = -1

    def __call__(self, written: int) -> None:
        """After each frame and while ffmpeg works. Raises InterruptProcessingException when the user cancelled."""
        try:
            model_management.throw_exception_if_processing_interrupted()
        except model_management.InterruptProcessingException:
            show(self._node_id, "cancelled, no file is left")
            raise
        now = time.monotonic()
        is_due = self._written < 0 or written == self._num_frames or now - self._reported >= SHORTEST_REPORT_S
        if written == self._written or not is_due:
            return
        self._written, self._reported = written, now
        self._bar.update_absolute(written)
        if written >= self._num_frames:
            show(self._node_id, f"{counted(written, 'frame')} encoded, the file is being completed")
        elif written == 0:
            show(self._node_id, "the sound is being prepared")
        else:
            left = (now - self._started) / written * (self._num_frames - written)
            show(self._node_id, f"saving: {written} of {self._num_frames} frames, {duration(left)} left")
