"""Mux & Save."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import Input, io, ui
from typing_extensions import override

from ..video.destination import saving_problem
from ..video.saving import save_with_audio
from .inputs import checked
from .sockets import CATEGORY, search_words, with_experts


class AsymTalkerMux(io.ComfyNode):
    """Video and the user's own audio to an mp4."""

    @classmethod
    @override
    def define_schema(cls) -> io.Schema:
        schema = io.Schema(
            node_id="AsymTalkerMux",
            display_name="AsymTalker Mux & Save",
            category=CATEGORY,
            **search_words("save video", "talking head", "lip sync", "mp4", "combine audio", "join"),
            description="Joins the video with your audio and saves an mp4 (H.264 and AAC) in ComfyUI's output folder. "
            "The workflow is embedded, as with Save Video.",
            inputs=[
                io.Video.Input("video", tooltip="The Sampler's video (any other VIDEO works too)."),
                io.Audio.Input(
                    "audio",
                    optional=True,
                    tooltip="Another soundtrack, such as the full mix with music. Its sample rate and channels are "
                    "kept. Without it, the video keeps its own sound: the speech, if it comes from the Sampler.",
                ),
                io.String.Input(
                    "filename_prefix",
                    default="video/AsymTalker",
                    tooltip="File name, with subfolders of ComfyUI's output folder. It may contain %date:yyyy-MM-dd%, "
                    "%width%, %height% and values of nodes.",
                ),
                io.Int.Input(
                    "crf",
                    default=18,
                    min=0,
                    max=51,
                    tooltip="Quality of the H.264 video: 0 is lossless, 18 looks lossless, 23 is smaller, 51 is worst.",
                ),
                io.Boolean.Input(
                    "mark_generated",
                    default=True,
                    optional=True,
                    tooltip="Marks the video as AI-generated in the file's metadata. Turn it off only if the video is "
                    "labelled in another way.",
                ),
            ],
            outputs=[io.Video.Output(display_name="video", tooltip="The saved file.")],
            hidden=[io.Hidden.prompt, io.Hidden.extra_pnginfo, io.Hidden.unique_id],
            is_output_node=True,
        )
        return with_experts(schema, "crf", "mark_generated")

    @classmethod
    @override
    def validate_inputs(cls, filename_prefix: str | None = None) -> bool | str:
        return saving_problem(filename_prefix) or True

    @classmethod
    @override
    @checked
    def execute(
        cls,
        video: Input.Video,
        filename_prefix: str,
        crf: int,
        audio: dict[str, Any] | None = None,
        mark_generated: bool = True,
    ) -> io.NodeOutput:
        hidden = cls.hidden
        workflow = hidden.prompt, hidden.extra_pnginfo
        saved, result = save_with_audio(video, audio, filename_prefix, crf, mark_generated, *workflow, hidden.unique_id)
        return io.NodeOutput(saved, ui=ui.PreviewVideo([result]))
