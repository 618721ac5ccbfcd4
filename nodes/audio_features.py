"""Audio Features."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io
from typing_extensions import override

from .host.audio import audio_features
from .sockets import CATEGORY, AudioSocket


class AsymTalkerAudioFeatures(io.ComfyNode):
    """Speech to features, 25 a second."""

    @classmethod
    @override
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AsymTalkerAudioFeatures",
            display_name="AsymTalker Audio Features",
            category=CATEGORY,
            description="Listens to the speech and gives the network what it hears, once for each of the 25 video "
            "frames a second. The length of the audio is the length of the video.",
            inputs=[
                io.AudioEncoder.Input(
                    "audio_encoder",
                    tooltip="AUDIO_ENCODER of Load AsymTalker (a wav2vec2-base-960h from Audio Encoder Loader works "
                    "for the FlashHead models too).",
                ),
                io.Audio.Input(
                    "audio",
                    tooltip="The speech, 8 to 192 kHz, 1 to 6 channels. It is mixed to mono for listening only: the "
                    "saved video keeps your audio as it is.",
                ),
            ],
            outputs=[AudioSocket.Output(display_name="audio_features", tooltip="For AsymTalker Sampler.")],
        )

    @classmethod
    @override
    def execute(cls, audio_encoder: Any, audio: dict[str, Any]) -> io.NodeOutput:
        return io.NodeOutput(audio_features(audio_encoder, audio))
