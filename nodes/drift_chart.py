"""Drift Chart."""

from __future__ import annotations

from comfy_api.latest import io
from typing_extensions import override

from ..jobs.chart import Theme, drift_chart
from .inputs import checked
from .sockets import CATEGORY, search_words


class AsymTalkerDriftChart(io.ComfyNode):
    """A Sampler's report as a picture."""

    @classmethod
    @override
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AsymTalkerDriftChart",
            display_name="AsymTalker Drift Chart",
            category=CATEGORY,
            **search_words("drift", "identity", "sharpness", "statistics", "report"),
            description="Plots how far each chunk of a video is from the portrait: identity, sharpness and colour, "
            "the same curves that the Sampler shows live below its player.",
            inputs=[
                io.String.Input("report", force_input=True, tooltip="From AsymTalker Sampler."),
                io.Combo.Input(
                    "theme", options=Theme.texts(), default=Theme.DARK.value, tooltip="`dark` or `light` background."
                ),
            ],
            outputs=[io.Image.Output(display_name="image", tooltip="The chart, 960 pixels wide.")],
        )

    @classmethod
    @override
    @checked
    def execute(cls, report: str, theme: str) -> io.NodeOutput:
        return io.NodeOutput(drift_chart(report, Theme.parse(theme, "theme")))
