"""Load AsymTalker."""

from __future__ import annotations

from comfy_api.latest import io
from typing_extensions import override

from ..host.checkpoints import folders
from ..host.checkpoints.companions import missing_model
from ..host.checkpoints.downloads import missing_files
from ..host.checkpoints.loading import load_all
from ..host.model import WEIGHT_DTYPES
from .inputs import checked
from .sockets import CATEGORY, search_words, with_experts


class AsymTalkerLoader(io.ComfyNode):
    """Checkpoint, VAE and audio encoder in one node."""

    @classmethod
    @override
    def define_schema(cls) -> io.Schema:
        states = folders.model_states()
        model = io.Combo.Input(
            "model",
            options=list(states),
            default=folders.NANO,
            tooltip="The bundled nano (256x256, runs on a CPU), a published folder in models/asymtalker, or a "
            "checkpoint in models/diffusion_models.",
        )
        # For web/loader_labels.js and web/missing_models.js; the constructor's argument for it is newer than the lowest
        # supported ComfyUI.
        model.extra_dict = {
            **model.extra_dict,
            "asymtalker_states": states,
            "asymtalker_titles": folders.titles(),
            "asymtalker_single_files": folders.SINGLE_FILES,
            "asymtalker_missing": missing_files(),
        }
        schema = io.Schema(
            node_id="AsymTalkerLoader",
            display_name="Load AsymTalker",
            category=CATEGORY,
            **search_words("talking head", "lip sync", "avatar", "checkpoint", "FlashHead", "SoulX", "nano"),
            description="Loads a talking-head network with the VAE and the audio encoder that belong to it. "
            "`nano` comes with the pack and needs no download.",
            inputs=[
                model,
                io.Combo.Input(
                    "weight_dtype",
                    options=list(WEIGHT_DTYPES),
                    default="default",
                    tooltip="Data type of the weights in memory. `default` lets ComfyUI choose for your device; fp8 "
                    "uses half the memory of bf16 with a small loss of quality.",
                ),
                io.Combo.Input(
                    "vae",
                    options=folders.vae_choices(),
                    default=folders.DEFAULT,
                    tooltip="`default` finds the VAE that belongs to the checkpoint. Choose a file of models/vae or "
                    "models/vae_approx to use another, such as the fast taew2_1.",
                ),
                io.Combo.Input(
                    "audio_encoder",
                    options=folders.audio_encoder_choices(),
                    default=folders.DEFAULT,
                    tooltip="`default` finds the audio encoder that belongs to the checkpoint (nano has its own; the "
                    "others use wav2vec2-base-960h from models/audio_encoders).",
                ),
            ],
            outputs=[
                io.Model.Output(
                    display_name="model", tooltip="The network. LoRA and compile nodes can be applied to it."
                ),
                io.Vae.Output(display_name="vae", tooltip="The VAE of the network's latents."),
                io.AudioEncoder.Output(display_name="audio_encoder", tooltip="For AsymTalker Audio Features."),
            ],
            hidden=[io.Hidden.unique_id],
        )
        return with_experts(schema, "weight_dtype", "vae", "audio_encoder")

    @classmethod
    @override
    def validate_inputs(cls, model: object = None) -> bool | str:
        """Name missing files before anything runs, instead of core's "value not in list".

        If a prompt has no ``model``, core reports it. The other inputs are not parameters here, because core would
        repeat one message for each parameter.
        """
        return missing_model(model) or True

    @classmethod
    @override
    @checked
    def execute(cls, model: str, weight_dtype: str, vae: str, audio_encoder: str) -> io.NodeOutput:
        return io.NodeOutput(*load_all(model, weight_dtype, vae, audio_encoder, cls.hidden.unique_id))
