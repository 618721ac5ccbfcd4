"""Continuity."""

from __future__ import annotations

from comfy_api.latest import io
from typing_extensions import override

from ..models.chunks import MAX_CONTINUITY_LATENTS, Carry, ContinuityOptions
from .inputs import checked
from .sockets import CATEGORY, ContinuitySocket, search_words


class AsymTalkerContinuity(io.ComfyNode):
    """How one chunk hands over to the next."""

    @classmethod
    @override
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AsymTalkerContinuity",
            display_name="AsymTalker Continuity",
            category=CATEGORY,
            **search_words("long video", "drift", "chunks", "colour"),
            description="Long videos are made in chunks. This node sets how each chunk continues the previous "
            "one. Without it, the Sampler uses these defaults.",
            inputs=[
                io.Combo.Input(
                    "carry",
                    options=Carry.texts(),
                    default=Carry.PIXELS.value,
                    tooltip="`pixels`: the last frames are colour-corrected and encoded again, which keeps colours "
                    "stable over long videos. `latents`: the last latents are used as they are, which saves the "
                    "encoding.",
                ),
                io.Float.Input(
                    "color_strength",
                    default=1.0,
                    min=0.0,
                    max=1.0,
                    step=0.05,
                    tooltip="How far the colours of each frame are moved towards the portrait's: 0 leaves them, 1 "
                    "matches them.",
                ),
                io.Int.Input(
                    "latents",
                    default=2,
                    min=1,
                    max=MAX_CONTINUITY_LATENTS,
                    tooltip="Latent frames taken from the previous chunk. The published models were trained with "
                    "2; more give smoother joins and fewer new frames per chunk.",
                ),
            ],
            outputs=[ContinuitySocket.Output(display_name="continuity", tooltip="For AsymTalker Sampler.")],
        )

    @classmethod
    @override
    @checked
    def execute(cls, carry: str, color_strength: float, latents: int) -> io.NodeOutput:
        return io.NodeOutput(ContinuityOptions(Carry.parse(carry, "carry"), color_strength, latents))
