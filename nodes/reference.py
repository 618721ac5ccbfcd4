"""Temporal Reference Encode."""

from __future__ import annotations

import functools
from typing import Any

from comfy_api.latest import io, ui
from torch import Tensor
from typing_extensions import override

from ..faces.framing import Framing, framed
from ..faces.portrait_face import with_face
from ..host.portrait import MODES, encode_reference, preview
from ..jobs.places import PLACES, best_place
from .inputs import checked
from .sockets import CATEGORY, ReferenceSocket, search_words, with_experts


class AsymTalkerReference(io.ComfyNode):
    """Portrait to reference latents."""

    @classmethod
    @override
    def define_schema(cls) -> io.Schema:
        schema = io.Schema(
            node_id="AsymTalkerReference",
            display_name="AsymTalker Temporal Reference Encode",
            category=CATEGORY,
            **search_words("portrait", "face framing", "identity", "avatar", "TRE", "image to video"),
            description="Encodes a portrait as the reference that preserves the person's identity: the picture is "
            "repeated to form a clip and encoded as a video, so that it lies in the same latent space as the moving "
            "frames. The node shows the portrait as the model sees it.",
            inputs=[
                io.Model.Input(
                    "model", tooltip="MODEL of Load AsymTalker; it determines the clip's length and the size steps."
                ),
                io.Vae.Input("vae", tooltip="VAE of Load AsymTalker."),
                io.Image.Input(
                    "image",
                    tooltip="One portrait with the face towards the camera. It is scaled to cover the video; `framing` "
                    "chooses the part that is shown. Load Image outputs transparency separately: connect its MASK "
                    "output to `mask`.",
                ),
                *(
                    io.Int.Input(
                        name,
                        display_name=f"{name} (0 = auto)",
                        default=0,
                        min=0,
                        max=2048,
                        step=8,
                        tooltip=f"{name.capitalize()} of the video in pixels. 0 uses the size that the model was "
                        "trained for: 256 for nano, 512 for FlashHead. Rounded to a size that the model supports.",
                    )
                    for name in ("width", "height")
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
                io.Combo.Input(
                    "framing",
                    options=Framing.texts(),
                    default="centre",
                    optional=True,
                    tooltip="`face` finds the face and shows head and neck, whatever the picture's shape; without a "
                    "face it uses the middle. `centre` always uses the middle of the picture.",
                ),
                io.Int.Input(
                    "tries",
                    display_name="tries (-1 = auto)",
                    default=-1,
                    min=-1,
                    max=len(PLACES),
                    optional=True,
                    tooltip="For nano: how many positions of the face, a few pixels apart, are tested with one "
                    "second of speech. The position where the mouth opens furthest is used, and audio guidance is set "
                    "to match. The face does not move in the video. 1 turns this off. -1 uses the model's own number "
                    "(9 for nano, 1 for others).",
                ),
            ],
            outputs=[ReferenceSocket.Output(display_name="reference", tooltip="For AsymTalker Sampler.")],
            hidden=[io.Hidden.unique_id],
        )
        return with_experts(schema, "mode", "tries")

    @classmethod
    @override
    @checked
    def execute(
        cls,
        model: Any,
        vae: Any,
        image: Tensor,
        width: int,
        height: int,
        mode: str,
        mask: Tensor | None = None,
        framing: str = Framing.CENTRE,
        tries: int = -1,
    ) -> io.NodeOutput:
        frame = functools.partial(framed, framing=Framing.parse(framing, "framing"))
        encoded = encode_reference(model, vae, image, width, height, mode, cls.hidden.unique_id, mask, frame)
        reference = with_face(encoded)
        # The static baseline is left unmoved, so that comparisons stay valid.
        reference = reference if mode == "static" else best_place(model, vae, reference, tries)
        return io.NodeOutput(reference, ui=ui.PreviewImage(preview(reference), cls=cls))
