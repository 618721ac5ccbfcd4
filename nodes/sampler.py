"""Sampler."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

from comfy_api.latest import io
from typing_extensions import override

from ..jobs.inputs import SAMPLER_CHOICES, Settings
from ..jobs.sampling import generate
from ..live.origin import Origin
from ..models.audio import RecordingFeatures
from ..models.choices import Keep
from ..models.chunks import ContinuityOptions
from ..models.config import MAX_BLINKS
from ..models.rates import FPS
from ..models.reference import Reference
from ..video.savers import check_savers
from ..video.spooled import losses_of_this_node
from ..video.writing import Look
from .inputs import checked
from .sockets import CATEGORY, AudioSocket, ContinuitySocket, ReferenceSocket, search_words, with_experts


class AsymTalkerSampler(io.ComfyNode):
    """Generates the video chunk by chunk, onto the disk."""

    @classmethod
    @override
    def define_schema(cls) -> io.Schema:
        schema = io.Schema(
            node_id="AsymTalkerSampler",
            display_name="AsymTalker Sampler",
            category=CATEGORY,
            **search_words("talking head", "lip sync", "avatar", "portrait", "speech to video", "audio to video"),
            description="Generates the talking head chunk by chunk, straight to disk, so that memory use does not "
            "grow with length. An interrupted job resumes after its last complete chunk when the same graph is queued "
            "again. Connect the video to AsymTalker Mux & Save, Save Video or Get Video Components.",
            inputs=[*_sockets(), *_sampling_widgets(), *_storage_widgets(), *_picture_widgets()],
            outputs=[
                io.Video.Output(
                    display_name="video", tooltip="The video at 25 frames per second with the speech, stored on disk."
                ),
                io.String.Output(
                    display_name="report", tooltip="JSON: settings, timings and statistics of each chunk."
                ),
            ],
            hidden=[io.Hidden.unique_id, io.Hidden.extra_pnginfo, io.Hidden.prompt],
        )
        return with_experts(schema, "steps", "sampler", "shift", "audio_guidance", "keep", "detail", "blinks")

    @classmethod
    @override
    def fingerprint_inputs(cls, **inputs: Any) -> int:
        return losses_of_this_node()

    @classmethod
    @override
    @checked
    def execute(
        cls,
        model: Any,
        vae: Any,
        reference: Reference,
        audio_features: RecordingFeatures,
        seed: int,
        steps: int,
        sampler: str,
        shift: float,
        audio_guidance: float,
        continuity: ContinuityOptions | None = None,
        keep: str = Keep.UNTIL_SAVED,
        detail: float = -1.0,
        blinks: float = -1.0,
    ) -> io.NodeOutput:
        check_savers(cls.hidden.prompt, cls.hidden.unique_id, Look(*reference.size, Fraction(FPS)))
        continuity = continuity or ContinuityOptions()
        kept = Keep.parse(keep, "keep")
        settings = Settings(seed, steps, sampler, shift, audio_guidance, continuity, kept, detail, blinks)
        origin = Origin.of_this_run(cls.hidden)
        return io.NodeOutput(*generate(model, vae, reference, audio_features, settings, origin))


def _sockets() -> list[io.Input]:
    return [
        io.Model.Input("model", tooltip="MODEL of Load AsymTalker, optionally through LoRA or compile nodes."),
        io.Vae.Input("vae", tooltip="VAE of Load AsymTalker."),
        ReferenceSocket.Input("reference", tooltip="Who speaks: from AsymTalker Temporal Reference Encode."),
        AudioSocket.Input("audio_features", tooltip="What is said: from AsymTalker Audio Features."),
        ContinuitySocket.Input(
            "continuity",
            optional=True,
            tooltip="How chunks are joined: from AsymTalker Continuity. If it is not connected, that node's "
            "defaults are used.",
        ),
    ]


def _sampling_widgets() -> list[io.Input]:
    return [
        io.Int.Input(
            "seed",
            default=0,
            min=0,
            max=0xFFFFFFFFFFFFFFFF,
            control_after_generate=True,
            tooltip="The same seed and settings give the same frames.",
        ),
        io.Int.Input(
            "steps",
            display_name="steps (0 = auto)",
            default=0,
            min=0,
            max=50,
            tooltip="Denoising steps per chunk, 1 to 50; 0 uses the checkpoint's own value (2 for nano, 1 for "
            "LeapTalk, 4 for other distilled checkpoints, 20 for undistilled ones).",
        ),
        io.Combo.Input(
            "sampler",
            options=list(SAMPLER_CHOICES),
            default="auto",
            tooltip="`auto` uses the checkpoint's own sampler: `few_step` for distilled checkpoints, `euler` "
            "for undistilled ones, `bridge` for LeapTalk.",
        ),
        io.Float.Input(
            "shift",
            display_name="shift (0 = auto)",
            default=0.0,
            min=0.0,
            max=20.0,
            step=0.1,
            tooltip="Higher values spend more steps at high noise (motion and pose), lower values on detail; "
            "0 uses the checkpoint's own value (5 for the published ones).",
        ),
        io.Float.Input(
            "audio_guidance",
            display_name="audio_guidance (0 = auto, 1 = off)",
            default=0.0,
            min=0.0,
            max=10.0,
            step=0.1,
            tooltip="How strongly the mouth follows the audio. 1 is off; values above 1 take more time. 0 uses the "
            "checkpoint's own value (1 for distilled checkpoints, 3 for undistilled ones). For nano, Temporal "
            "Reference Encode chooses it for the portrait (1 to 2).",
        ),
    ]


def _storage_widgets() -> list[io.Input]:
    return [
        io.Combo.Input(
            "keep",
            options=Keep.texts(),
            default=Keep.UNTIL_SAVED.value,
            optional=True,
            tooltip="How long frames stay on disk: `until saved` keeps them until the finished video is "
            "saved, so that a stopped job can resume; `for extending` keeps them longer, so that the video "
            "can be continued with more audio; with `never`, jobs do not resume and leave no frames.",
        ),
    ]


def _picture_widgets() -> list[io.Input]:
    return [
        io.Float.Input(
            "detail",
            display_name="detail (-1 = auto)",
            default=-1.0,
            min=-1.0,
            max=1.0,
            step=0.05,
            optional=True,
            tooltip="How much fine detail of the portrait (eyes, skin, hair) is added to the frames where the VAE "
            "has blurred it: 0 adds none, 1 adds all of it. -1 uses the checkpoint's own value (1 for nano, 0 for "
            "others).",
        ),
        io.Float.Input(
            "blinks",
            display_name="blinks (-1 = auto)",
            default=-1.0,
            min=-1.0,
            max=MAX_BLINKS,
            step=1.0,
            optional=True,
            tooltip="Blinks per minute, drawn over the eyes of the portrait: 0 draws none; people blink 15 to 30 "
            "times a minute when talking. -1 uses the checkpoint's own value (20 for nano, 0 for others, "
            "which generate blinks themselves).",
        ),
    ]
