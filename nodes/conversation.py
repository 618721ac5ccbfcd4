"""Conversation."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io
from typing_extensions import override

from ..host.conversation import Split, split_conversation
from .inputs import checked
from .sockets import CATEGORY, search_words


class AsymTalkerConversation(io.ComfyNode):
    """A conversation as one voice for each person."""

    @classmethod
    @override
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AsymTalkerConversation",
            display_name="AsymTalker Conversation",
            category=CATEGORY,
            **search_words("two people", "dialogue", "multi person", "podcast", "interview"),
            description="Splits a conversation into the voices of two people, each silent while the other one speaks, "
            "so that one talks and the other listens. Give two tracks, or one track and the times at which the "
            "speaker changes.",
            inputs=[
                io.Audio.Input("audio", tooltip="The conversation, or the first person's own track."),
                io.Combo.Input(
                    "split",
                    options=Split.texts(),
                    default=Split.TURNS.value,
                    tooltip="How one track is divided. `turns`: the speaker changes at the times below, or at pauses. "
                    "`left and right`: one person on each channel. Not used if `second` is connected.",
                ),
                io.String.Input(
                    "turns",
                    default="",
                    multiline=True,
                    tooltip="Times at which the other person begins to speak, such as `3.2, 7.5, 1:04`. A speaks "
                    "first; to start with B, put 0 first. If empty, the speaker changes at every long pause, and the "
                    "node shows the times.",
                ),
                io.Float.Input(
                    "pause",
                    default=0.6,
                    min=0.1,
                    max=10.0,
                    step=0.05,
                    tooltip="How long a pause must be for the speaker to change, in seconds. Used if `turns` is empty.",
                ),
                io.Audio.Input(
                    "second",
                    optional=True,
                    tooltip="The second person's own track, recorded at the same time. `audio` is then the first "
                    "person's track.",
                ),
            ],
            outputs=[
                io.Audio.Output(display_name="voice_a", tooltip="The first person, for AsymTalker Audio Features."),
                io.Audio.Output(display_name="voice_b", tooltip="The second person, for AsymTalker Audio Features."),
                io.Audio.Output(
                    display_name="both",
                    tooltip="The whole conversation, for AsymTalker Mux & Save. A single track is passed through "
                    "unchanged; two tracks are mixed.",
                ),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    @override
    @checked
    def execute(
        cls, audio: dict[str, Any], split: str, turns: str, pause: float, second: dict[str, Any] | None = None
    ) -> io.NodeOutput:
        return io.NodeOutput(*split_conversation(audio, second, split, turns, pause, cls.hidden.unique_id))
