"""ComfyUI nodes, one a file; the work is done in the rooms beside this one (CONTRIBUTING.md has a map)."""

from __future__ import annotations

from comfy_api.latest import ComfyExtension, io
from typing_extensions import override

from ..host import example_files, messages, server
from ..host.checkpoints import folders
from ..jobs import kept_routes
from ..live import routes as live_routes
from .audio_features import AsymTalkerAudioFeatures
from .continuity import AsymTalkerContinuity
from .conversation import AsymTalkerConversation
from .drift_chart import AsymTalkerDriftChart
from .face_crop import AsymTalkerFaceCrop
from .face_paste import AsymTalkerFacePaste
from .face_track import AsymTalkerFaceTrack
from .kept_jobs import AsymTalkerKeptJobs
from .loader import AsymTalkerLoader
from .mux import AsymTalkerMux
from .reference import AsymTalkerReference
from .sampler import AsymTalkerSampler


class AsymTalkerExtension(ComfyExtension):
    """ComfyUI's entry to the pack's nodes."""

    @override
    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        # Here and not in on_load, which older ComfyUI versions never call.
        folders.register()
        live_routes.register()
        server.add_version_route()
        kept_routes.register()
        messages.name_errors_plainly()
        example_files.provide()
        return [
            AsymTalkerLoader,
            AsymTalkerFaceCrop,
            AsymTalkerFaceTrack,
            AsymTalkerConversation,
            AsymTalkerReference,
            AsymTalkerAudioFeatures,
            AsymTalkerContinuity,
            AsymTalkerSampler,
            AsymTalkerFacePaste,
            AsymTalkerDriftChart,
            AsymTalkerMux,
            AsymTalkerKeptJobs,
        ]
