"""Face Track."""

from __future__ import annotations

from comfy_api.latest import Input, io, ui
from typing_extensions import override

from ..faces.face_track import track_face
from ..faces.tracking import TrackOptions
from .inputs import checked
from .sockets import CATEGORY, CropSocket, face_index_input, margin_input, search_words


class AsymTalkerFaceTrack(io.ComfyNode):
    """The face of a video, followed from frame to frame."""

    @classmethod
    @override
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AsymTalkerFaceTrack",
            display_name="AsymTalker Face Track",
            category=CATEGORY,
            **search_words("dubbing", "dub", "lip sync video", "face tracking", "video to video"),
            description="Finds a face in a video and follows it, for dubbing: the face becomes the portrait, and "
            "AsymTalker Face Paste puts the talking face back into every frame. Made for steady shots of a face that "
            "looks towards the camera. Memory use does not grow with length.",
            inputs=[
                io.Video.Input("video", tooltip="The video to dub. Connect it to AsymTalker Face Paste too."),
                margin_input(
                    "Space added on each side of the face, as a fraction of its longer side: 0.5 shows head and neck. "
                    "nano works best with 0.3."
                ),
                face_index_input(
                    "Which face to follow if there are several: 0 is the largest in the first frame of the "
                    "shot, 1 the next."
                ),
                io.Int.Input(
                    "shot",
                    default=0,
                    min=0,
                    max=9999,
                    tooltip="Which shot to dub if the video has cuts: 0 is the first one with a face. The other shots "
                    "are not changed.",
                ),
                io.Float.Input(
                    "smoothing",
                    default=0.1,
                    min=0.0,
                    max=2.0,
                    step=0.05,
                    tooltip="How steadily the square follows the face, in seconds: higher values for a still head, "
                    "lower values for a moving one.",
                ),
                io.Float.Input(
                    "portrait_at",
                    default=-1.0,
                    min=-1.0,
                    max=86400.0,
                    step=0.04,
                    tooltip="Time of the frame that becomes the portrait, in seconds of the video. Choose one with a "
                    "closed mouth. -1 takes the frame in which the face is most frontal with its mouth closed.",
                ),
            ],
            outputs=[
                io.Image.Output(display_name="image", tooltip="The face, for AsymTalker Temporal Reference Encode."),
                CropSocket.Output(
                    display_name="crop", tooltip="Position of the face in every frame, for AsymTalker Face Paste."
                ),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    @override
    @checked
    def execute(
        cls, video: Input.Video, margin: float, face_index: int, shot: int, smoothing: float, portrait_at: float
    ) -> io.NodeOutput:
        options = TrackOptions(margin, face_index, shot, smoothing, portrait_at)
        face, track = track_face(video, options, cls.hidden.unique_id)
        return io.NodeOutput(face, track, ui=ui.PreviewImage(face, cls=cls))
