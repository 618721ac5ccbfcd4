"""Face Crop."""

from __future__ import annotations

from comfy_api.latest import io, ui
from torch import Tensor
from typing_extensions import override

from ..faces.crop_and_paste import CropOptions, OnMissing, crop_face
from .inputs import checked
from .sockets import CATEGORY, CropSocket, face_index_input, margin_input, search_words, with_experts


class AsymTalkerFaceCrop(io.ComfyNode):
    """The square around a face."""

    @classmethod
    @override
    def define_schema(cls) -> io.Schema:
        schema = io.Schema(
            node_id="AsymTalkerFaceCrop",
            display_name="AsymTalker Face Crop",
            category=CATEGORY,
            **search_words("face detection", "find face", "head", "portrait", "square"),
            description="Finds the face in a picture of any size and crops a square around it, the framing that the "
            "models expect. AsymTalker Face Paste puts the finished video back in that place.",
            inputs=[
                io.Image.Input("image", tooltip="One picture with at least one face in it."),
                margin_input(
                    "Space added on each side of the face, as a fraction of its longer side: 0.5 shows head "
                    "and neck, 1 also the shoulders. The square stays inside the picture. nano works best with 0.3."
                ),
                face_index_input("Which face to use if there are several: 0 is the largest, 1 the next."),
                io.Combo.Input(
                    "on_missing",
                    options=OnMissing.texts(),
                    default="error",
                    tooltip="What to do if no face is found: `error` stops with a message, `centre` takes the largest "
                    "square in the middle.",
                ),
                *(
                    io.Int.Input(name, display_name=label, default=0, min=0, max=16384, tooltip=tooltip)
                    for name, label, tooltip in (
                        ("box_x", "box_x", "Left edge of a manual box, in pixels of the picture."),
                        ("box_y", "box_y", "Top edge of a manual box, in pixels of the picture."),
                        (
                            "box_width",
                            "box_width (0 = detect)",
                            "Width of a manual box around the face, for drawn faces that are not detected; 0 detects "
                            "the face. The margin is added to the box.",
                        ),
                        (
                            "box_height",
                            "box_height (0 = detect)",
                            "Height of a manual box around the face; 0 detects the face.",
                        ),
                    )
                ),
                io.Mask.Input(
                    "mask",
                    optional=True,
                    tooltip="For a picture with transparency: the MASK output of the same Load Image. Masked areas "
                    "become white.",
                ),
            ],
            outputs=[
                io.Image.Output(display_name="image", tooltip="The square, for AsymTalker Temporal Reference Encode."),
                CropSocket.Output(display_name="crop", tooltip="Position of the square, for AsymTalker Face Paste."),
            ],
            hidden=[io.Hidden.unique_id],
        )
        return with_experts(schema, "box_x", "box_y", "box_width", "box_height")

    @classmethod
    @override
    @checked
    def execute(
        cls,
        image: Tensor,
        margin: float,
        face_index: int,
        on_missing: str,
        box_x: int,
        box_y: int,
        box_width: int,
        box_height: int,
        mask: Tensor | None = None,
    ) -> io.NodeOutput:
        options = CropOptions(
            margin, face_index, OnMissing.parse(on_missing, "on_missing"), (box_x, box_y, box_width, box_height)
        )
        face, crop = crop_face(image, options, cls.hidden.unique_id, mask)
        return io.NodeOutput(face, crop, ui=ui.PreviewImage(face, cls=cls))
