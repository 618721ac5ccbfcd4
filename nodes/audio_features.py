"""Audio Features."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io
from typing_extensions import override

from ..host.audio import audio_features
from ..models.listening import LISTENING, SpeechFeatures
from .inputs import checked
from .sockets import CATEGORY, AudioSocket, search_words


class AsymTalkerAudioFeatures(io.ComfyNode):
    """Speech to features, 25 a second."""

    @classmethod
    @override
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AsymTalkerAudioFeatures",
            display_name="AsymTalker Audio Features",
            category=CATEGORY,
            **search_words("speech", "voice", "wav2vec2", "lip sync"),
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
                    tooltip="The speech, 8 to 192 kHz, 1 to 8 channels. Features are made of the mix, of the centre of "
                    "5.1 and 7.1, or of the only channel with sound. The saved video keeps your audio as it is.",
                ),
                io.Combo.Input(
                    "listening",
                    options=list(LISTENING),
                    default="whole",
                    optional=True,
                    tooltip="`whole`: the recording is heard as a whole (wav2vec2: in windows of 60 s) at one "
                    "loudness. `rolling`: each chunk hears the 8 s up to its own end and nothing later, as the "
                    "published models do live; a recording that was lengthened then shares its video's beginning.",
                ),
                AudioSocket.Input(
                    "continues",
                    optional=True,
                    tooltip="Features of the recording that this audio goes on from: the video is of both, and what "
                    "was made of the earlier one is taken over where its frames are still kept.",
                ),
            ],
            outputs=[AudioSocket.Output(display_name="audio_features", tooltip="For AsymTalker Sampler.")],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    @override
    @checked
    def execute(
        cls,
        audio_encoder: Any,
        audio: dict[str, Any],
        listening: str = "whole",
        continues: SpeechFeatures | None = None,
    ) -> io.NodeOutput:
        return io.NodeOutput(audio_features(audio_encoder, audio, listening, continues, cls.hidden.unique_id))
