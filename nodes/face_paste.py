"""Face Paste."""

from __future__ import annotations

from comfy_api.latest import Input, io
from torch import Tensor
from typing_extensions import override

from ..faces.crop import Crop
from ..faces.crop_and_paste import paste_face
from ..faces.track import FaceTrack
from .inputs import checked
from .sockets import CATEGORY, CropSocket, search_words


class AsymTalkerFacePaste(io.ComfyNode):
    """A face's video back into the picture it was cropped from."""

    @classmethod
    @override
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AsymTalkerFacePaste",
            display_name="AsymTalker Face Paste",
            category=CATEGORY,
            **search_words("composite", "paste back", "uncrop", "stitch", "head"),
            description="Puts the video of a cropped face back into the picture, at the picture's own size and with a "
            "soft edge. The picture may be a video: the input of AsymTalker Face Track, or the output of another Face "
            "Paste. Frames are composed while the file is written, so memory use does not grow with length.",
            inputs=[
                io.Video.Input(
                    "video", tooltip="The Sampler's video of the cropped face. Width and height must be equal."
                ),
                io.MultiType.Input(
                    "image",
                    types=[io.Image, io.Video],
                    tooltip="The whole picture, the same one as for AsymTalker Face Crop, or a VIDEO of the same size: "
                    "the input of AsymTalker Face Track, or the output of another Face Paste.",
                ),
                CropSocket.Input(
                    "crop", tooltip="Position of the face: from AsymTalker Face Crop or AsymTalker Face Track."
                ),
                io.Float.Input(
                    "feather",
                    default=0.1,
                    min=0.0,
                    max=0.5,
                    step=0.01,
                    tooltip="Width of the soft edge as a fraction of the square's side. 0.1 hides most seams, 0 gives "
                    "a hard edge.",
                ),
                io.Mask.Input(
                    "mask",
                    optional=True,
                    tooltip="The mask connected to AsymTalker Face Crop, if any. Masked areas are white in the video "
                    "too.",
                ),
                io.Float.Input(
                    "color_match",
                    default=1.0,
                    min=0.0,
                    max=1.0,
                    step=0.05,
                    optional=True,
                    tooltip="With AsymTalker Face Track: how closely the colour of the generated face follows the "
                    "original face when the light changes. 0 turns it off.",
                ),
            ],
            outputs=[
                io.Video.Output(
                    display_name="video",
                    tooltip="The picture with the talking face and the sound of `video`: for AsymTalker Mux & Save "
                    "or Save Video.",
                )
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    @override
    @checked
    def execute(
        cls,
        video: Input.Video,
        image: Tensor | Input.Video,
        crop: Crop | FaceTrack,
        feather: float,
        mask: Tensor | None = None,
        color_match: float = 1.0,
    ) -> io.NodeOutput:
        return io.NodeOutput(paste_face(video, image, crop, feather, cls.hidden.unique_id, mask, color_match))
