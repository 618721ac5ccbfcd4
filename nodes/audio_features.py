"""Audio Features."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io
from typing_extensions import override

from ..host.audio import audio_features
from ..models.streaming import MAX_STRENGTH, AudioContext, MouthOptions, SpeechFeatures
from .inputs import checked
from .sockets import CATEGORY, AudioSocket, search_words, with_experts


class AsymTalkerAudioFeatures(io.ComfyNode):
    """Speech to features, 25 a second."""

    @classmethod
    @override
    def define_schema(cls) -> io.Schema:
        schema = io.Schema(
            node_id="AsymTalkerAudioFeatures",
            display_name="AsymTalker Audio Features",
            category=CATEGORY,
            **search_words("speech", "voice", "talking head", "lip sync", "wav2vec2"),
            description="Extracts speech features for the network, one set for each of the 25 video frames per "
            "second. The video is as long as the audio.",
            inputs=[
                io.AudioEncoder.Input(
                    "audio_encoder",
                    tooltip="AUDIO_ENCODER of Load AsymTalker (a wav2vec2-base-960h from Audio Encoder Loader works "
                    "for the FlashHead models too).",
                ),
                io.Audio.Input(
                    "audio",
                    tooltip="The speech, 8 to 192 kHz, 1 to 8 channels. Features are computed from the mono mix, the "
                    "centre channel of 5.1 and 7.1, or the only channel with sound. The saved video keeps your audio "
                    "unchanged.",
                ),
                io.Combo.Input(
                    "listening",
                    options=AudioContext.texts(),
                    default=AudioContext.WHOLE.value,
                    optional=True,
                    tooltip="`whole`: features are computed over the whole recording (wav2vec2: in windows of 60 s) "
                    "with one loudness normalisation. `rolling`: the features of each chunk are computed from the 8 s "
                    "up to its end, as the published models do live; a recording that is extended later then starts "
                    "with the same frames.",
                ),
                AudioSocket.Input(
                    "continues",
                    optional=True,
                    tooltip="Features of an earlier recording that this audio continues. The video covers both; "
                    "frames of the earlier recording are reused while they are kept on disk.",
                ),
                io.Float.Input(
                    "audio_strength",
                    default=1.0,
                    min=0.0,
                    max=MAX_STRENGTH,
                    step=0.05,
                    optional=True,
                    tooltip="How far the mouth moves: 1 is as trained, below 1 it opens less, 0 keeps it closed. "
                    "Values above 1 exaggerate.",
                ),
                io.Boolean.Input(
                    "quiet_in_silence",
                    default=False,
                    optional=True,
                    tooltip="Keeps the mouth closed in pauses: noise, breaths and distant voices between utterances "
                    "are not treated as speech. Music is, so separate the voice from it first. The saved audio is "
                    "unchanged.",
                ),
            ],
            outputs=[AudioSocket.Output(display_name="audio_features", tooltip="For AsymTalker Sampler.")],
            hidden=[io.Hidden.unique_id],
        )
        return with_experts(schema, "listening")

    @classmethod
    @override
    @checked
    def execute(
        cls,
        audio_encoder: Any,
        audio: dict[str, Any],
        listening: str = AudioContext.WHOLE,
        continues: SpeechFeatures | None = None,
        audio_strength: float = 1.0,
        quiet_in_silence: bool = False,
    ) -> io.NodeOutput:
        mouth = MouthOptions(audio_strength, quiet_in_silence)
        return io.NodeOutput(audio_features(audio_encoder, audio, listening, continues, cls.hidden.unique_id, mouth))
