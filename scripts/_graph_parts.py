"""Parts that the shipped graphs share: the example files, sizes, colours, and groups of nodes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from ._graph import GraphBuilder, Link, Node

BLUE, GREEN, PURPLE, GOLD, TEAL = "#3f789e", "#8A8", "#a1309b", "#b58b2a", "#3e8a8a"

PORTRAIT, SECOND_PORTRAIT, PAINTING = "asymtalker_person.png", "asymtalker_portrait_2.png", "asymtalker_painting.png"
SPEECH = "asymtalker_speech.wav"

OWN_FILES = "Choose or drop your own **portrait** and **speech**"
OTHER_MODELS = "\n\nOther models: choose them on Load AsymTalker. The video's size follows the model."

SIDES: tuple[str, ...] = ("A", "B")
SECOND_ROW = 1180
WIDE = 420
# Heights with what is shown below the inputs: a player, a picture, a saved video.
# Nodes 2.0 lets a node that is too small for its picture grow over the one below.
PICTURE_TALL, FACE_TALL, REFERENCE_TALL, FEATURES_TALL, SOUND_TALL = 490, 820, 700, 260, 180
SAMPLER_TALL, HEAD_TALL, MUX_TALL, PASTE_TALL, LOADER_TALL = 800, 620, 680, 200, 240

Define = Callable[[GraphBuilder], None]


@dataclass(frozen=True)
class Template:
    """A graph of the template browser.

    ``name`` is the API form's file; ``title`` is what people see and what is searched, as there is no other text.
    """

    name: str
    title: str
    define: Define


def picture_and_speech(graph: GraphBuilder, image: str = PORTRAIT, title: str = "1. Portrait and speech") -> list[Node]:
    """The user's files in the first column."""
    graph.column(title, BLUE)
    return [graph.add("LoadImage", PICTURE_TALL, image=image), graph.add("LoadAudio", SOUND_TALL, audio=SPEECH)]


def conditions(
    graph: GraphBuilder,
    loader: Node,
    image: Link,
    audio: Link,
    *,
    mask: Link | None = None,
    framing: str = "face",
) -> dict[str, Any]:
    """Reference and audio features in the group that was begun last."""
    model, vae = loader.out("model"), loader.out("vae")
    given: dict[str, Any] = {"model": model, "vae": vae, "image": image, "framing": framing}
    if mask is not None:
        given["mask"] = mask
    reference = graph.add("AsymTalkerReference", REFERENCE_TALL, **given)
    features = graph.add(
        "AsymTalkerAudioFeatures", FEATURES_TALL, audio_encoder=loader.out("audio_encoder"), audio=audio
    )
    return {
        "model": model,
        "vae": vae,
        "reference": reference.out("reference"),
        "audio_features": features.out("audio_features"),
    }


def talking_head(graph: GraphBuilder, model: str, prefix: str, *, is_long: bool = False) -> None:
    """The plain graph in its parts: portrait and speech to an mp4."""
    image, audio = picture_and_speech(graph)
    graph.below("2. Model", BLUE)
    loader = graph.add("AsymTalkerLoader", LOADER_TALL, model=model)
    graph.column("3. Conditions", GREEN)
    given = conditions(graph, loader, image.out("IMAGE"), audio.out("AUDIO"), mask=image.out("MASK"))
    if is_long:
        given["continuity"] = graph.add("AsymTalkerContinuity", 140).out("continuity")
    graph.column("4. Generate", PURPLE, WIDE)
    sampler = graph.add("AsymTalkerSampler", SAMPLER_TALL, seed=7, **given)
    graph.column("5. Save", GOLD, WIDE)
    graph.add("AsymTalkerMux", MUX_TALL, video=sampler.out("video"), filename_prefix=prefix)


def rows(graph: GraphBuilder, title: str, color: str, width: int = WIDE) -> Iterator[str]:
    """A column with a group for side A and one for side B below it; each side while its group is the last."""
    for side, top in zip(SIDES, (None, SECOND_ROW), strict=True):
        name = f"{title} {side}"
        graph.column(name, color, width) if top is None else graph.below(name, color, top)
        yield side
