"""The one error type of this package."""

from __future__ import annotations


class MediaError(RuntimeError):
    """Frames or audio could not be stored, read or encoded; the message names the input and the remedy."""
