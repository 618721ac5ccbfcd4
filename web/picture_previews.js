// Face Track takes a video and shows a picture: without this, Nodes 2.0 shows the output of such a node as a video.
import { app } from "../../scripts/app.js";

app.registerExtension({
    name: "AsymTalker.PicturePreviews",
    nodeCreated(node) {
        if (node.comfyClass === "AsymTalkerFaceTrack") node.previewMediaType = "image";
    },
});
