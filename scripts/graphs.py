"""`python -m asymtalker.scripts.graphs` writes the graphs of workflows/ in both forms, and the blueprint.

They are made from a real server's node infos. To be run after a node's inputs have changed. With --check nothing is
written: the exit status shows whether they differ.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from ._client import ComfyClient
from ._environment import ROOT, find_comfyui
from ._graph import COLUMN_WIDTH, GraphBuilder
from ._graph_parts import (
    BLUE,
    FACE_TALL,
    GOLD,
    GREEN,
    HEAD_TALL,
    LOADER_TALL,
    MUX_TALL,
    OTHER_MODELS,
    OWN_FILES,
    PAINTING,
    PASTE_TALL,
    PICTURE_TALL,
    PORTRAIT,
    PURPLE,
    SAMPLER_TALL,
    SECOND_PORTRAIT,
    SIDES,
    SOUND_TALL,
    SPEECH,
    TEAL,
    WIDE,
    Define,
    Template,
    conditions,
    picture_and_speech,
    rows,
    talking_head,
)
from ._graphs_people import dubbing, two_people
from ._server import ComfyServer
from ._subgraph import Subgraph

WORKFLOWS, BLUEPRINTS = ROOT / "workflows", ROOT / "subgraphs"
FLASHHEAD = "asymtalker/SoulX-FlashHead-1_3B"

BLUEPRINT = "Talking head - portrait and speech to video, lip sync"
"""What is searched: ComfyUI has no other words for a blueprint of a node pack."""


def talking_head_part(object_info: dict[str, Any]) -> Subgraph:
    """The blueprint: portrait and speech in, a video out."""
    part = Subgraph(
        object_info,
        "Talking head",
        "Turns a portrait and speech into a talking-head video with sound. The face is framed automatically. nano "
        "needs no download and runs on a CPU; for sharper photographs choose a FlashHead model.",
        ["talking head", "lip sync", "avatar", "portrait", "speech to video", "audio to video", "AsymTalker"],
    )
    image, audio = part.input("image", "IMAGE"), part.input("audio", "AUDIO")
    mask = part.input("mask", "MASK", optional=True)
    part.column("Model", BLUE)
    loader = part.add("AsymTalkerLoader", LOADER_TALL, model="nano")
    part.column("Portrait and speech", GREEN)
    given = conditions(part, loader, image, audio, mask=mask)
    reference = part.nodes_of("AsymTalkerReference")[0]
    part.column("Generate", PURPLE, WIDE)
    sampler = part.add("AsymTalkerSampler", SAMPLER_TALL, seed=7, **given)
    part.output("video", sampler.out("video"))
    part.promote(loader, "model")
    part.promote(reference, "framing")
    part.promote(sampler, "seed")
    return part


def quick_start(graph: GraphBuilder) -> None:
    """The fewest nodes, and an app."""
    image, audio = picture_and_speech(graph)
    graph.column("2. Talking head", PURPLE, WIDE)
    part = talking_head_part(graph.object_info)
    head = graph.add(part, HEAD_TALL, image=image.out("IMAGE"), audio=audio.out("AUDIO"), mask=image.out("MASK"))
    graph.column("3. Save", GOLD, WIDE)
    saved = graph.add("AsymTalkerMux", MUX_TALL, video=head.out("video"), filename_prefix="video/AsymTalker")
    graph.app([(image, "image"), (audio, "audio"), (head, "seed")], [saved])
    graph.note(
        "# Quick start\n\n1. Press **Run**: the example portrait speaks the example speech, in a few seconds.\n"
        f"2. {OWN_FILES} in group 1.\n"
        "3. Press **Run** again. The mp4 is in the output folder, `video/AsymTalker...`.\n\n"
        "The face is detected and framed automatically in a picture of any shape. Set `framing` to `centre` to use the "
        "middle of the picture instead.\n\n"
        "The model is nano: it comes with the pack, generates 256x256 and runs on a CPU. It was trained on drawn "
        "faces and rendered people; for sharper photographs choose FlashHead as `model`, or open the FlashHead "
        "templates.\n\n"
        "*Talking head* is a subgraph: open it to see its parts. Newer ComfyUI versions also show this graph as an "
        "app (*Enter app mode* in the workflow's menu).",
        HEAD_TALL,
    )


def long_speech(graph: GraphBuilder) -> None:
    """A speech of any length, with the report."""
    talking_head(graph, "nano", "video/AsymTalker_long", is_long=True)
    (sampler,) = graph.nodes_of("AsymTalkerSampler")
    graph.column("6. Drift", TEAL, 480)
    chart = graph.add("AsymTalkerDriftChart", 80, report=sampler.out("report"))
    graph.column("7. Chart and report", TEAL, 480)
    graph.add("PreviewImage", 420, images=chart.out("image"))
    graph.add("PreviewAny", 340, source=sampler.out("report"))
    graph.note(
        "# Long speech\n\n1. Choose your speech in group 1: minutes or hours. Memory use does not grow with length.\n"
        "2. Press **Run**. Cancel or shut down at any time: finished chunks are on disk.\n"
        "3. Press **Run** again with the same graph: it resumes after the last finished chunk.\n\n"
        "The report lists for each chunk how far the face is from the portrait (`reference_distance`), its sharpness "
        "and motion. AsymTalker Continuity changes how chunks are joined." + OTHER_MODELS,
        460,
    )


def flashhead(part: str, size: str, files: str, more: str) -> Define:
    """Pro or Lite."""

    def define(graph: GraphBuilder) -> None:
        talking_head(graph, f"{FLASHHEAD}/Model_{part}", f"video/AsymTalker_{part}")
        graph.note(
            f"# FlashHead {part}\n\n1. Put the files below into ComfyUI's `models` folder and press `R`.\n"
            f"2. {OWN_FILES} in group 1.\n3. Press **Run**.\n\n"
            f"512x512, for photographs; needs a GPU. Download {size} from Hugging Face: "
            "[SoulX-FlashHead-1_3B](https://huggingface.co/Soul-AILab/SoulX-FlashHead-1_3B) and "
            "[wav2vec2-base-960h](https://huggingface.co/facebook/wav2vec2-base-960h).\n\n```\n"
            f"asymtalker/SoulX-FlashHead-1_3B/\n  Model_{part}/config.json\n"
            f"  Model_{part}/diffusion_pytorch_model.safetensors\n{files}"
            "  wav2vec2-base-960h/model.safetensors\n```\n\n"
            f"Files that you already have are found too: {more}",
            680,
        )

    return define


def leaptalk(graph: GraphBuilder) -> None:
    """FlashHead Pro in one step."""
    talking_head(graph, "asymtalker/leaptalk", "video/AsymTalker_LeapTalk")
    graph.note(
        "# LeapTalk\n\n1. Put the files below into ComfyUI's `models` folder and press `R`.\n"
        f"2. {OWN_FILES} in group 1.\n3. Press **Run**.\n\n"
        "FlashHead Pro with one denoising step per chunk instead of four. 512x512, for photographs; needs a GPU. The "
        "first files are those of [z-rx/leaptalk](https://huggingface.co/z-rx/leaptalk), the others those of "
        "[SoulX-FlashHead-1_3B](https://huggingface.co/Soul-AILab/SoulX-FlashHead-1_3B) and "
        "[wav2vec2-base-960h](https://huggingface.co/facebook/wav2vec2-base-960h):\n\n```\n"
        "asymtalker/leaptalk/\n  lora/adapter_config.json\n  lora/adapter_model.safetensors\n"
        "  audio_proj_step_10400.pt\n  taew2_1.pth\n"
        "asymtalker/SoulX-FlashHead-1_3B/\n  Model_Pro/config.json\n"
        "  Model_Pro/diffusion_pytorch_model.safetensors\n  wav2vec2-base-960h/model.safetensors\n```\n\n"
        "`taew2_1` decodes fast. The Wan 2.1 VAE, chosen as `vae`, is sharper and slower. `steps` = 2 or 4 on the "
        "Sampler trades speed for quality.",
        680,
    )


def comparison(graph: GraphBuilder) -> None:
    """Two ways to join chunks, the same seed, side by side."""
    image, audio = picture_and_speech(graph)
    graph.below("2. Model", BLUE)
    loader = graph.add("AsymTalkerLoader", LOADER_TALL, model="nano")
    graph.column("3. Conditions", GREEN)
    given = conditions(graph, loader, image.out("IMAGE"), audio.out("AUDIO"), mask=image.out("MASK"))
    carries = dict(zip(SIDES, ("pixels", "latents"), strict=True))
    joined = [
        graph.add("AsymTalkerContinuity", 140, title=f"Continuity {side}", carry=carries[side])
        for side in rows(graph, "4. Continuity", PURPLE)
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
        for node, side in zip(joined, rows(graph, "5. Generate", PURPLE), strict=True)
    ]
    for node, side in zip(samplers, rows(graph, "6. Save", GOLD), strict=True):
        prefix = f"video/AsymTalker_{side}_{carries[side]}"
        graph.add("AsymTalkerMux", MUX_TALL, title=f"Save {side}", video=node.out("video"), filename_prefix=prefix)
    charts = [
        graph.add("AsymTalkerDriftChart", 80, title=f"Drift {side}", report=node.out("report"))
        for node, side in zip(samplers, rows(graph, "7. Drift", TEAL), strict=True)
    ]
    for node, side in zip(charts, rows(graph, "8. Chart", TEAL), strict=True):
        graph.add("PreviewImage", 420, title=f"Chart {side}", images=node.out("image"))
    graph.note(
        "# Continuity comparison\n\n1. Press **Run**: the same portrait, speech and seed twice.\n"
        "2. Compare the two videos and charts. A carries the last frames over as corrected pixels, B as latents.\n"
        "3. Change anything on one side (strength, number of latents, steps) and press **Run**: only that side is "
        "generated again.\n\nDifferences appear in long speech: colours and sharpness after a minute or more."
        + OTHER_MODELS,
        420,
    )


def batch(graph: GraphBuilder) -> None:
    """Several portraits, one speech, a video each."""
    graph.column("1. Speech", BLUE)
    audio = graph.add("LoadAudio", SOUND_TALL, audio=SPEECH)
    graph.below("2. Model", BLUE)
    loader = graph.add("AsymTalkerLoader", LOADER_TALL, model="nano")
    pictures = dict(zip(SIDES, (PORTRAIT, SECOND_PORTRAIT), strict=True))
    images = [
        graph.add("LoadImage", PICTURE_TALL, title=f"Portrait {side}", image=pictures[side])
        for side in rows(graph, "3. Portrait", BLUE, COLUMN_WIDTH)
    ]
    given = [
        conditions(graph, loader, node.out("IMAGE"), audio.out("AUDIO"), mask=node.out("MASK"))
        for node, _ in zip(images, rows(graph, "4. Conditions", GREEN, COLUMN_WIDTH), strict=True)
    ]
    samplers = [
        graph.add("AsymTalkerSampler", SAMPLER_TALL, title=f"Sampler {side}", seed=7, **inputs)
        for inputs, side in zip(given, rows(graph, "5. Generate", PURPLE), strict=True)
    ]
    for node, side in zip(samplers, rows(graph, "6. Save", GOLD), strict=True):
        prefix = f"video/AsymTalker_portrait_{side}"
        graph.add("AsymTalkerMux", MUX_TALL, title=f"Save {side}", video=node.out("video"), filename_prefix=prefix)
    graph.note(
        "# Many portraits, one speech\n\n1. Choose the **speech** in group 1 and the **portraits** in group 3.\n"
        "2. Press **Run**: one mp4 per portrait, `video/AsymTalker_portrait_A...` and so on.\n"
        "3. More people: copy a row (groups 3 to 6) with Ctrl+C and paste it with Ctrl+Shift+V, which keeps the "
        "links.\n\nEach portrait is framed around its face, so pictures of any shape work." + OTHER_MODELS,
        380,
    )


def painting(graph: GraphBuilder) -> None:
    """A face inside a larger picture."""
    picture, audio = picture_and_speech(graph, PAINTING, "1. Picture and speech")
    graph.below("2. Model", BLUE)
    loader = graph.add("AsymTalkerLoader", LOADER_TALL, model="nano")
    graph.column("3. Crop the face", TEAL)
    crop = graph.add("AsymTalkerFaceCrop", FACE_TALL, image=picture.out("IMAGE"), margin=0.3, mask=picture.out("MASK"))
    graph.column("4. Conditions", GREEN)
    # The crop is the frame: it goes back to its place as it is.
    given = conditions(graph, loader, crop.out("image"), audio.out("AUDIO"), framing="centre")
    graph.column("5. Generate", PURPLE, WIDE)
    sampler = graph.add("AsymTalkerSampler", SAMPLER_TALL, seed=7, **given)
    graph.column("6. Paste it back", TEAL)
    paste = graph.add(
        "AsymTalkerFacePaste",
        PASTE_TALL,
        video=sampler.out("video"),
        image=picture.out("IMAGE"),
        crop=crop.out("crop"),
        mask=picture.out("MASK"),
    )
    graph.column("7. Save", GOLD, 480)
    graph.add("AsymTalkerMux", 520, video=paste.out("video"), filename_prefix="video/AsymTalker_picture")
    graph.note(
        "# Talking head in a larger picture\n\n1. Choose the **picture** and the **speech** in group 1.\n"
        "2. Press **Run**: the face is found, cropped, animated and pasted back with a soft edge.\n"
        "3. A seam? Raise `feather` or `margin`. Another person? Raise `face_index`. No face found, as in some "
        "drawings? Enter its box by hand.\n\nThe mp4 has the picture's own size; everything but the square around the "
        "face stays unchanged." + OTHER_MODELS,
        400,
    )


TEMPLATES = (
    Template("asymtalker_nano", "Quick start - talking head, lip sync, avatar from portrait and speech", quick_start),
    Template("asymtalker_long_speech", "Long speech - talking head of any length", long_speech),
    Template("asymtalker_larger_picture", "In a larger picture - talking portrait, painting or photo", painting),
    Template("asymtalker_two_people", "Two people talk - conversation, dialogue, podcast", two_people),
    Template("asymtalker_dubbing", "Dubbing - new speech for a video, lip sync", dubbing),
    Template("asymtalker_portrait_batch", "Many portraits, one speech - avatars, lip sync", batch),
    Template(
        "asymtalker_flashhead_pro",
        "FlashHead Pro - photo to talking head, lip sync",
        flashhead(
            "Pro",
            "6.9 GB",
            "  VAE_Wan/Wan2.1_VAE.pth\n",
            "the VAE as `vae/wan_2.1_vae.safetensors`, the audio encoder as "
            "`audio_encoders/wav2vec2-base-960h.safetensors`. A single network file may be in `diffusion_models`: "
            "choose it as `model`.\n\n`taew2_1.safetensors` in `vae_approx`, chosen as `vae`, decodes several times "
            "faster and a little softer.",
        ),
    ),
    Template(
        "asymtalker_flashhead_lite",
        "FlashHead Lite - photo to talking head, lip sync",
        flashhead(
            "Lite",
            "8.2 GB",
            "  VAE_LTX/config.json\n  VAE_LTX/diffusion_pytorch_model.safetensors\n",
            "the LTX-Video VAE in `vae` under a name with `ltx` and `vae`, the audio encoder as "
            "`audio_encoders/wav2vec2-base-960h.safetensors`. A single network file may be in `diffusion_models`: "
            "choose it as `model`.",
        ),
    ),
    Template("asymtalker_leaptalk", "LeapTalk - photo to talking head in one step, lip sync", leaptalk),
    Template("asymtalker_continuity_comparison", "Continuity comparison - long talking head", comparison),
)
"""In the order of the template browser, as far as it keeps one."""


def ui_stem(name: str) -> str:
    """The name, without its suffix, of a template's file in workflows/."""
    (index,) = [index for index, template in enumerate(TEMPLATES, 1) if template.name == name]
    return f"{index:02} {TEMPLATES[index - 1].title}"


def built(object_info: dict[str, Any]) -> dict[Path, str]:
    """Every file of workflows/, workflows/api/ and subgraphs/ with its text, by its path from the root."""
    part = talking_head_part(object_info)
    forms = {BLUEPRINTS / f"{BLUEPRINT}.json": part.blueprint()}
    for template in TEMPLATES:
        graph = GraphBuilder(object_info, template.name)
        template.define(graph)
        forms[WORKFLOWS / f"{ui_stem(template.name)}.json"] = graph.ui_form()
        forms[WORKFLOWS / "api" / f"{template.name}.json"] = graph.api_form()
    return {
        path.relative_to(ROOT): json.dumps(form, indent=2, ensure_ascii=False) + "\n" for path, form in forms.items()
    }


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
        if not (ROOT / path).is_file() or (ROOT / path).read_text(encoding="utf-8") != text
    ]
    for path in differing:
        print(path)
        if not check:
            (ROOT / path).parent.mkdir(exist_ok=True)
            (ROOT / path).write_text(texts[path], encoding="utf-8")
    return int(check and bool(differing))


if __name__ == "__main__":
    sys.exit(main())
