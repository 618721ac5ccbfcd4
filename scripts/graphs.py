"""`python -m asymtalker.scripts.graphs` writes the graphs of workflows/ in both forms, from a real server's node infos.

To be run after a node's inputs have changed. With --check nothing is written: the exit status says whether they differ.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from ._client import ComfyClient
from ._environment import ROOT, find_comfyui
from ._graph import GraphBuilder, Link, Node
from ._server import ComfyServer

WORKFLOWS = ROOT / "workflows"
BLUE, GREEN, PURPLE, GOLD, TEAL = "#3f789e", "#8A8", "#a1309b", "#b58b2a", "#3e8a8a"

PORTRAIT, SECOND_PORTRAIT, PAINTING = "asymtalker_portrait.png", "asymtalker_portrait_2.png", "asymtalker_painting.png"
SPEECH = "asymtalker_speech.wav"
FLASHHEAD = "asymtalker/SoulX-FlashHead-1_3B"

FILES = (
    "\n\nThe example files lie in the pack's folder `workflows/assets`: copy them into ComfyUI's `input` "
    "folder if the "
    "loading nodes show them as missing."
)
OTHER_MODELS = (
    "\n\nOther models: choose them on Load AsymTalker and set width and height of Temporal Reference Encode to 512."
)

SIDES = (("A", "pixels", PURPLE), ("B", "latents", TEAL))
SECOND_ROW = 1120
# With the player and the preview that appear on it.
SAMPLER_TALL = 900
# The saved video stands below the inputs, as wide as the node.
MUX_TALL = 560

Define = Callable[[GraphBuilder], None]


def model_column(graph: GraphBuilder, model: str) -> Node:
    """Load AsymTalker in the first column."""
    graph.column("1. Model", BLUE)
    return graph.add("AsymTalkerLoader", 190, model=model)


def inputs_below(graph: GraphBuilder, image: str = PORTRAIT) -> tuple[Node, Node]:
    """Picture and speech in a group below the model."""
    graph.below("2. Portrait and speech", BLUE)
    return graph.add("LoadImage", 340, image=image), graph.add("LoadAudio", 140, audio=SPEECH)


def conditions(
    graph: GraphBuilder, loader: Node, image: Link, audio: Link, size: int, mask: Link | None = None
) -> dict[str, Any]:
    """Reference and audio features in the group that was begun last."""
    model, vae = loader.out("model"), loader.out("vae")
    given: dict[str, Any] = {"model": model, "vae": vae, "image": image, "width": size, "height": size}
    if mask is not None:
        given["mask"] = mask
    reference = graph.add("AsymTalkerReference", 210, **given)
    features = graph.add("AsymTalkerAudioFeatures", 130, audio_encoder=loader.out("audio_encoder"), audio=audio)
    return {
        "model": model,
        "vae": vae,
        "reference": reference.out("reference"),
        "audio_features": features.out("audio_features"),
    }


def talking_head(graph: GraphBuilder, model: str, size: int, prefix: str) -> None:
    """The plain graph: portrait and speech to an mp4."""
    loader = model_column(graph, model)
    image, audio = inputs_below(graph)
    graph.column("3. Conditions", GREEN)
    given = conditions(graph, loader, image.out("IMAGE"), audio.out("AUDIO"), size, image.out("MASK"))
    given["continuity"] = graph.add("AsymTalkerContinuity", 140).out("continuity")
    graph.column("4. Generate", PURPLE)
    sampler = graph.add("AsymTalkerSampler", SAMPLER_TALL, seed=7, **given)
    graph.column("5. Save", GOLD, 400)
    graph.add("AsymTalkerMux", MUX_TALL, video=sampler.out("video"), audio=audio.out("AUDIO"), filename_prefix=prefix)


def nano(graph: GraphBuilder) -> None:
    """Quick start."""
    talking_head(graph, "nano", 256, "video/AsymTalker")
    graph.note(
        "# Quick start\n\n1. Press **Run**: the example portrait speaks the example speech, in a few seconds.\n"
        "2. Choose or drop your own **portrait** and **speech** in group 2.\n"
        "3. Press **Run** again. The mp4 is in the output folder, `video/AsymTalker...`.\n\n"
        "nano's weights come with the pack: nothing to download, and a CPU is enough. It makes 256x256 and "
        "has learnt drawn "
        "faces: it animates pictures in the style of the example best. For photographs use the FlashHead graphs."
        + FILES,
        330,
    )


def long_speech(graph: GraphBuilder) -> None:
    """A speech of any length, with the report."""
    talking_head(graph, "nano", 256, "video/AsymTalker_long")
    (sampler,) = graph.nodes_of("AsymTalkerSampler")
    graph.column("6. Report", TEAL)
    graph.add("PreviewAny", 340, source=sampler.out("report"))
    chart = graph.add("AsymTalkerDriftChart", 80, report=sampler.out("report"))
    graph.column("7. Drift", TEAL, 480)
    graph.add("PreviewImage", 420, images=chart.out("image"))
    graph.note(
        "# Long speech\n\n1. Choose your speech in group 2: minutes or hours, the memory needed stays the same.\n"
        "2. Press **Run**. Cancel, crash or shut down when you like: finished chunks are on disk.\n"
        "3. Press **Run** again with the same graph: it goes on after the last finished chunk.\n\n"
        "The report shows chunk by chunk how far the face has moved from the portrait "
        "(`reference_distance`), its sharpness "
        "and motion. `carry` = `pixels` and `color_strength` = 1 hold the colours over long videos."
        + OTHER_MODELS
        + FILES,
        420,
    )


def flashhead(part: str, files: str, more: str) -> Define:
    """Pro or Lite."""

    def define(graph: GraphBuilder) -> None:
        talking_head(graph, f"{FLASHHEAD}/Model_{part}", 512, f"video/AsymTalker_{part}")
        graph.note(
            f"# FlashHead {part}\n\n1. Put the files below into ComfyUI's `models` folder and press `R`.\n"
            "2. Choose or drop your **portrait** and **speech** in group 2.\n3. Press **Run**.\n\n"
            "512x512, for photographs; needs a GPU. The files are those of `Soul-AILab/SoulX-FlashHead-1_3B` and "
            "`facebook/wav2vec2-base-960h` (Hugging Face):\n\n```\n"
            f"asymtalker/SoulX-FlashHead-1_3B/\n  Model_{part}/config.json\n"
            f"  Model_{part}/diffusion_pytorch_model.safetensors\n{files}"
            "  wav2vec2-base-960h/model.safetensors\n```\n\n"
            f"Files that you have already are found too: {more}" + FILES,
            640,
        )

    return define


def leaptalk(graph: GraphBuilder) -> None:
    """FlashHead Pro in one step."""
    talking_head(graph, "asymtalker/leaptalk", 512, "video/AsymTalker_LeapTalk")
    graph.note(
        "# LeapTalk\n\n1. Put the files below into ComfyUI's `models` folder and press `R`.\n"
        "2. Choose or drop your **portrait** and **speech** in group 2.\n3. Press **Run**.\n\n"
        "FlashHead Pro with one denoising step per chunk instead of four. 512x512, for photographs; needs a GPU. The "
        "first files are those of `z-rx/leaptalk`, the others those of `Soul-AILab/SoulX-FlashHead-1_3B` and "
        "`facebook/wav2vec2-base-960h` (Hugging Face):\n\n```\n"
        "asymtalker/leaptalk/\n  lora/adapter_config.json\n  lora/adapter_model.safetensors\n"
        "  audio_proj_step_10400.pt\n  taew2_1.pth\n"
        "asymtalker/SoulX-FlashHead-1_3B/\n  Model_Pro/config.json\n"
        "  Model_Pro/diffusion_pytorch_model.safetensors\n  wav2vec2-base-960h/model.safetensors\n```\n\n"
        "`taew2_1` decodes fast. The Wan 2.1 VAE, chosen as `vae`, is sharper and slower. `steps` = 2 or 4 on the "
        "Sampler trades speed for quality." + FILES,
        640,
    )


def two_rows(graph: GraphBuilder, title: str) -> Iterator[tuple[str, str]]:
    """A column with a group for side A and one for side B below it: (side, carry) while each is the last."""
    for (side, carry, color), top in zip(SIDES, (None, SECOND_ROW), strict=True):
        name = f"{title} {side}: {carry}"
        graph.column(name, color) if top is None else graph.below(name, color, top)
        yield side, carry


def comparison(graph: GraphBuilder) -> None:
    """Two ways to join chunks, the same seed, side by side."""
    loader = model_column(graph, "nano")
    image, audio = inputs_below(graph)
    graph.column("3. Conditions", GREEN)
    given = conditions(graph, loader, image.out("IMAGE"), audio.out("AUDIO"), 256, image.out("MASK"))
    joined = [
        graph.add("AsymTalkerContinuity", 140, title=f"Continuity {side}", carry=carry)
        for side, carry in two_rows(graph, "4. Continuity")
    ]
    samplers = [
        graph.add(
            "AsymTalkerSampler",
            SAMPLER_TALL,
            title=f"Sampler {side}",
            seed=7,
            **given,
            continuity=node.out("continuity"),
        )
        for node, (side, _) in zip(joined, two_rows(graph, "5. Generate"), strict=True)
    ]
    for node, (side, carry) in zip(samplers, two_rows(graph, "6. Save"), strict=True):
        graph.add(
            "AsymTalkerMux",
            MUX_TALL,
            title=f"Save {side}",
            video=node.out("video"),
            audio=audio.out("AUDIO"),
            filename_prefix=f"video/AsymTalker_{side}_{carry}",
        )
    charts = [
        graph.add("AsymTalkerDriftChart", 80, title=f"Drift {side}", report=node.out("report"))
        for node, (side, _) in zip(samplers, two_rows(graph, "7. Drift"), strict=True)
    ]
    for node, (side, _) in zip(charts, two_rows(graph, "8. Chart"), strict=True):
        graph.add("PreviewImage", 300, title=f"Chart {side}", images=node.out("image"))
    graph.note(
        "# Continuity comparison\n\n1. Press **Run**: the same portrait, speech and seed twice.\n"
        "2. Compare the two players and charts: A hands the last frames on as corrected pixels, B as latents.\n"
        "3. Change anything on one side (strength, number of latents, steps) and press **Run**: only that "
        "side is made "
        "anew.\n\nDifferences show in long speech: colours and sharpness after a minute or more."
        + OTHER_MODELS
        + FILES,
        380,
    )


def batch(graph: GraphBuilder) -> None:
    """Several portraits, one speech, one video each."""
    loader = model_column(graph, "nano")
    graph.below("2. Portraits", BLUE)
    first = graph.add("LoadImage", 340, image=PORTRAIT)
    second = graph.add("LoadImage", 340, image=SECOND_PORTRAIT)
    graph.column("3. Faces", TEAL)
    faces = [
        graph.add("AsymTalkerFaceCrop", 540, image=node.out("IMAGE"), mask=node.out("MASK")).out("image")
        for node in (first, second)
    ]
    graph.column("4. Join", GREEN)
    pair = graph.add("ImageBatch", 60, image1=faces[0], image2=faces[1])
    graph.below("5. Speech", BLUE)
    audio = graph.add("LoadAudio", 140, audio=SPEECH)
    graph.column("6. One by one", GREEN)
    one_each = graph.add("RebatchImages", 80, images=pair.out("IMAGE"), batch_size=1)
    graph.column("7. Conditions, once per portrait", GREEN)
    given = conditions(graph, loader, one_each.out("IMAGE"), audio.out("AUDIO"), 256)
    graph.column("8. Generate", PURPLE)
    sampler = graph.add("AsymTalkerSampler", SAMPLER_TALL, seed=7, **given)
    graph.column("9. Save", GOLD, 400)
    graph.add(
        "AsymTalkerMux",
        MUX_TALL,
        video=sampler.out("video"),
        audio=audio.out("AUDIO"),
        filename_prefix="video/AsymTalker_batch",
    )
    graph.note(
        "# Portrait batch\n\n1. Choose the **portraits** in group 2 and the **speech** in group 5.\n"
        "2. More people: add Load Image and Face Crop, and join them with Batch Images.\n"
        "3. Press **Run**: one mp4 per portrait, `video/AsymTalker_batch_00001_` and so on.\n\n"
        "Rebatch Images with `batch_size` 1 turns the pictures into a list, and everything after it runs "
        "once per picture. "
        "Face Crop makes squares of them, so that pictures of any size fit together." + OTHER_MODELS + FILES,
        400,
    )


def painting(graph: GraphBuilder) -> None:
    """A face inside a larger picture."""
    loader = model_column(graph, "nano")
    picture, audio = inputs_below(graph, PAINTING)
    graph.column("3. Cut the face out", TEAL)
    crop = graph.add("AsymTalkerFaceCrop", 580, image=picture.out("IMAGE"), margin=0.3, mask=picture.out("MASK"))
    graph.column("4. Conditions", GREEN)
    given = conditions(graph, loader, crop.out("image"), audio.out("AUDIO"), 256)
    graph.column("5. Generate", PURPLE)
    sampler = graph.add("AsymTalkerSampler", SAMPLER_TALL, seed=7, **given)
    graph.column("6. Put it back", TEAL)
    paste = graph.add(
        "AsymTalkerFacePaste",
        150,
        video=sampler.out("video"),
        image=picture.out("IMAGE"),
        crop=crop.out("crop"),
        mask=picture.out("MASK"),
    )
    graph.column("7. Save", GOLD, 480)
    graph.add(
        "AsymTalkerMux",
        420,
        video=paste.out("video"),
        audio=audio.out("AUDIO"),
        filename_prefix="video/AsymTalker_picture",
    )
    graph.note(
        "# Talking head in a larger picture\n\n1. Choose the **picture** and the **speech** in group 2.\n"
        "2. Press **Run**: the face is found, cut out, made to speak and put back with a soft edge.\n"
        "3. A seam? Raise `feather` or `margin`. Another person? Raise `face_index`. No face found, as in "
        "some drawings? Give "
        "its box by hand.\n\nThe mp4 has the picture's own size; all but the square around the face stands still."
        + OTHER_MODELS
        + FILES,
        380,
    )


GRAPHS: dict[str, Define] = {
    "asymtalker_nano": nano,
    "asymtalker_long_speech": long_speech,
    "asymtalker_flashhead_pro": flashhead(
        "Pro",
        "  VAE_Wan/Wan2.1_VAE.pth\n",
        "the VAE as `vae/wan_2.1_vae.safetensors`, the audio encoder as "
        "`audio_encoders/wav2vec2-base-960h.safetensors`. A "
        "single network file may lie in `diffusion_models`: choose it as `model`.\n\n`taew2_1.safetensors` "
        "in `vae_approx`, "
        "chosen as `vae`, decodes several times faster and a little softer.",
    ),
    "asymtalker_flashhead_lite": flashhead(
        "Lite",
        "  VAE_LTX/config.json\n  VAE_LTX/diffusion_pytorch_model.safetensors\n",
        "the LTX-Video VAE in `vae` under a name with `ltx` and `vae`, the audio encoder as "
        "`audio_encoders/wav2vec2-base-960h.safetensors`. A single network file may lie in "
        "`diffusion_models`: choose it as "
        "`model`.",
    ),
    "asymtalker_leaptalk": leaptalk,
    "asymtalker_continuity_comparison": comparison,
    "asymtalker_portrait_batch": batch,
    "asymtalker_larger_picture": painting,
}


def built(object_info: dict[str, Any]) -> dict[Path, str]:
    """Every file of workflows/ and workflows/api/ with its text."""
    texts: dict[Path, str] = {}
    # The graphs there are built of the parts here.
    from .graphs_people import GRAPHS as PEOPLE

    for name, define in (GRAPHS | PEOPLE).items():
        graph = GraphBuilder(object_info, name)
        define(graph)
        for path, form in ((Path(f"{name}.json"), graph.ui_form()), (Path("api", f"{name}.json"), graph.api_form())):
            texts[path] = json.dumps(form, indent=2, ensure_ascii=False) + "\n"
    return texts


def main() -> int:
    """Write the files, or with --check compare them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="only say which files differ")
    check: bool = parser.parse_args().check
    comfyui = find_comfyui()
    if comfyui is None:
        raise SystemExit("no ComfyUI: scripts/test.py gets one, COMFYUI_PATH names one")
    with (
        tempfile.TemporaryDirectory(prefix="asymtalker-") as folder,
        ComfyServer(comfyui, Path(folder), cpu=True) as server,
    ):
        texts = built(ComfyClient(server.url).object_info())
    differing = [
        path
        for path, text in texts.items()
        if not (WORKFLOWS / path).is_file() or (WORKFLOWS / path).read_text(encoding="utf-8") != text
    ]
    for path in differing:
        print(path)
        if not check:
            (WORKFLOWS / path).write_text(texts[path], encoding="utf-8")
    return int(check and bool(differing))


if __name__ == "__main__":
    sys.exit(main())
