"""Temporal Reference Encode."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io
from torch import Tensor
from typing_extensions import override

from .host.portrait import MODES, encode_reference
from .inputs import checked
from .sockets import CATEGORY, ReferenceSocket, search_words


class AsymTalkerReference(io.ComfyNode):
    """Portrait to reference latents."""

    @classmethod
    @override
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AsymTalkerReference",
            display_name="AsymTalker Temporal Reference Encode",
            category=CATEGORY,
            **search_words("portrait", "identity", "TRE", "image to video"),
            description="Encodes a portrait as the reference that preserves the person's identity: the picture is "
            "repeated to form a clip and encoded as a video, so that it lies in the same latent space as the moving "
            "frames.",
            inputs=[
                io.Model.Input(
                    "model", tooltip="MODEL of Load AsymTalker; it determines the clip's length and the size steps."
                ),
                io.Vae.Input("vae", tooltip="VAE of Load AsymTalker."),
                io.Image.Input(
                    "image",
                    tooltip="One portrait with the face centred and facing the camera. It is scaled to cover the "
                    "video and cropped at the centre. Load Image outputs transparency separately: connect its MASK "
                    "output to `mask`.",
                ),
                io.Int.Input(
                    "width",
                    default=256,
                    min=32,
                    max=2048,
                    step=8,
                    tooltip="Width of the video in pixels: 256 for nano, 512 for FlashHead. Rounded to a size that "
                    "the model supports.",
                ),
                io.Int.Input(
                    "height",
                    default=256,
                    min=32,
                    max=2048,
                    step=8,
                    tooltip="Height of the video in pixels: 256 for nano, 512 for FlashHead. Rounded to a size that "
                    "the model supports.",
                ),
                io.Combo.Input(
                    "mode",
                    options=list(MODES),
                    default="temporal",
                    tooltip="`temporal`: the portrait encoded as a video (the method). `static`: one encoded frame "
                    "repeated, the baseline for comparison.",
                ),
                io.Mask.Input(
                    "mask",
                    optional=True,
                    tooltip="For a portrait with transparency: the MASK output of the same Load Image. Masked areas "
                    "become white; without a mask, transparent areas keep the colour stored in the file, often black.",
                ),
            ],
            outputs=[ReferenceSocket.Output(display_name="reference", tooltip="For AsymTalker Sampler.")],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    @override
    @checked
    def execute(
        cls, model: Any, vae: Any, image: Tensor, width: int, height: int, mode: str, mask: Tensor | None = None
    ) -> io.NodeOutput:
        return io.NodeOutput(encode_reference(model, vae, image, width, height, mode, cls.hidden.unique_id, mask))
