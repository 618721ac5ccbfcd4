"""Graphs with people in pictures and videos of their own: a conversation of two, and dubbing."""

from __future__ import annotations

from typing import Any

from ._graph import GraphBuilder, Link, Node
from .graphs import (
    BLUE,
    FILES,
    GOLD,
    GREEN,
    MUX_TALL,
    PURPLE,
    SAMPLER_TALL,
    SECOND_ROW,
    SPEECH,
    TEAL,
    Define,
    conditions,
    model_column,
)

TWO_PEOPLE, CONVERSATION, CLIP = "asymtalker_two_people.jpg", "asymtalker_conversation.flac", "asymtalker_clip.mp4"
SIDES = (("A", None), ("B", SECOND_ROW))
SIZE = 256


def _column_of(graph: GraphBuilder, title: str, color: str, top: int | None) -> None:
    """A group in a new column, or below the last one if it has a ``top``."""
    if top is None:
        graph.column(title, color)
    else:
        graph.below(title, color, top)


def _quiet_conditions(graph: GraphBuilder, loader: Node, image: Link, audio: Link) -> dict[str, Any]:
    """As ``conditions``, with the mouth closed in pauses."""
    given = conditions(graph, loader, image, audio, SIZE)
    graph.nodes_of("AsymTalkerAudioFeatures")[-1].values["quiet_in_silence"] = True
    return given


def two_people(graph: GraphBuilder) -> None:
    """Two faces of one picture, each with a voice of its own."""
    loader = model_column(graph, "nano")
    graph.below("2. Picture and conversation", BLUE)
    picture = graph.add("LoadImage", 340, image=TWO_PEOPLE)
    audio = graph.add("LoadAudio", 140, audio=CONVERSATION)
    graph.column("3. Who speaks when", TEAL)
    voices = graph.add("AsymTalkerConversation", 260, audio=audio.out("AUDIO"))
    crops = []
    for number, (side, top) in enumerate(SIDES):
        _column_of(graph, f"4. Face {side}", TEAL, top)
        inputs = {"image": picture.out("IMAGE"), "face_index": number, "margin": 0.3}
        crops.append(graph.add("AsymTalkerFaceCrop", 580, title=f"Face {side}", **inputs))
    given = []
    for crop, (side, top) in zip(crops, SIDES, strict=True):
        _column_of(graph, f"5. Conditions {side}", GREEN, top)
        given.append(_quiet_conditions(graph, loader, crop.out("image"), voices.out(f"voice_{side.lower()}")))
    samplers = []
    for inputs, (side, top) in zip(given, SIDES, strict=True):
        _column_of(graph, f"6. Generate {side}", PURPLE, top)
        samplers.append(graph.add("AsymTalkerSampler", SAMPLER_TALL, title=f"Sampler {side}", seed=7, **inputs))
    image = picture.out("IMAGE")
    for sampler, crop, (side, _) in zip(samplers, crops, SIDES, strict=True):
        graph.column(f"7. Put {side} into the picture", TEAL)
        inputs = {"video": sampler.out("video"), "image": image, "crop": crop.out("crop")}
        image = graph.add("AsymTalkerFacePaste", 170, title=f"Paste {side}", **inputs).out("video")
    graph.column("8. Save", GOLD, 480)
    saved = {"video": image, "audio": voices.out("both"), "filename_prefix": "video/AsymTalker_two_people"}
    graph.add("AsymTalkerMux", MUX_TALL, **saved)
    graph.note(
        "# Two people talk\n\n1. Press **Run**: two people in one picture speak in turn, each listens to the other.\n"
        "2. Choose your own **picture** with two faces and your own **conversation** in group 2.\n"
        "3. Press **Run** again. Conversation shows who speaks when.\n\n"
        "One recording: the speaker changes at every long pause, or at the times that you write into `turns`. Two "
        "recordings: connect the second one to `second`. Stereo with a person on each side: `left and right`.\n\n"
        "Face 0 is the larger one; exchange the two `face_index` if the wrong person speaks. More people: another "
        "chain, its Face Paste after the last one." + FILES,
        430,
    )


def dubbing(graph: GraphBuilder) -> None:
    """A video in which a face speaks something else."""
    loader = model_column(graph, "nano")
    graph.below("2. Video and speech", BLUE)
    clip = graph.add("LoadVideo", 340, file=CLIP)
    audio = graph.add("LoadAudio", 140, audio=SPEECH)
    graph.column("3. Follow the face", TEAL)
    tracked = graph.add("AsymTalkerFaceTrack", 540, video=clip.out("VIDEO"))
    graph.column("4. Conditions", GREEN)
    given = _quiet_conditions(graph, loader, tracked.out("image"), audio.out("AUDIO"))
    graph.column("5. Generate", PURPLE)
    sampler = graph.add("AsymTalkerSampler", SAMPLER_TALL, seed=7, **given)
    graph.column("6. Put it back", TEAL)
    inputs = {"video": sampler.out("video"), "image": clip.out("VIDEO"), "crop": tracked.out("crop"), "feather": 0.15}
    paste = graph.add("AsymTalkerFacePaste", 170, **inputs)
    graph.column("7. Save", GOLD, 480)
    saved = {"video": paste.out("video"), "audio": audio.out("AUDIO"), "filename_prefix": "video/AsymTalker_dubbed"}
    graph.add("AsymTalkerMux", MUX_TALL, **saved)
    graph.note(
        "# Dubbing\n\n1. Press **Run**: the person in the example clip speaks the example speech.\n"
        "2. Choose your own **video** and **speech** in group 2.\n"
        "3. Press **Run** again. Size, frame rate and everything but the face stay those of your video.\n\n"
        "**Good:** a steady camera, one face that looks towards it, even light. **Not possible:** profiles, hands or "
        "microphones before the mouth, fast turns of the head: the new face has the pose of one frame, its portrait, "
        "and follows the place and size of the old one only.\n\n"
        "Cuts: one `shot` is dubbed at a time. For the next one, put a second chain after this one: Face Track with "
        "the next `shot` on the same video, and Face Paste with this Face Paste's video as `image`.\n\n"
        "The mouth hangs open? Choose a frame with a closed mouth in `portrait_at`. A seam? Raise `feather`. "
        "No face for a while? The video stays as it is there." + FILES,
        560,
    )


GRAPHS: dict[str, Define] = {"asymtalker_two_people": two_people, "asymtalker_dubbing": dubbing}
