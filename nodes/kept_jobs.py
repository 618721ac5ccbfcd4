"""Kept Jobs."""

from __future__ import annotations

import time

from comfy_api.latest import io
from typing_extensions import override

from ..jobs.kept import kept_jobs
from .inputs import checked
from .sockets import CATEGORY, search_words


class AsymTalkerKeptJobs(io.ComfyNode):
    """What jobs have left on disk."""

    @classmethod
    @override
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AsymTalkerKeptJobs",
            display_name="AsymTalker Kept Jobs",
            category=CATEGORY,
            **search_words("resume", "disk", "spool", "clean up"),
            description="Lists the frames that the Sampler keeps on disk: unfinished jobs, which resume when their "
            "graph is queued again, and finished ones that have not been saved or are kept for extending. The buttons "
            "remove them immediately; the input removes them when the graph runs.",
            inputs=[
                io.String.Input(
                    "remove",
                    default="",
                    tooltip="Ids from the list, separated by commas; `finished` or `all` for all that are not in use. "
                    "Leave it empty to remove nothing.",
                ),
            ],
            outputs=[
                io.String.Output(
                    display_name="jobs", tooltip="The list: id, state, description, progress, size on disk and age."
                )
            ],
            is_output_node=True,
        )

    @classmethod
    @override
    def fingerprint_inputs(cls, remove: str) -> float:
        # What is on disk changes without any input changing: run every time.
        return time.time()

    @classmethod
    @override
    @checked
    def execute(cls, remove: str) -> io.NodeOutput:
        jobs = kept_jobs(remove)
        # web/kept_jobs.js shows the table; the text is for clients that read results over HTTP.
        return io.NodeOutput(jobs.text, ui={"text": (jobs.text,), "asymtalker_kept": (jobs.table(),)})
