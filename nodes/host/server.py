"""ComfyUI's server, where one runs in this process."""

from __future__ import annotations

import sys
from typing import Any


def prompt_server() -> Any | None:
    """The running ``PromptServer``; None outside the server, where its module is heavy to import and not needed."""
    module = sys.modules.get("server")
    return getattr(getattr(module, "PromptServer", None), "instance", None)
