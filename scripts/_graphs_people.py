"""Graphs with people in pictures and videos of their own: a conversation of two, and dubbing."""

from __future__ import annotations

from typing import Any

from ._graph import GraphBuilder, Link, Node
from ._graph_parts import (
    BLUE,
    FACE_TALL,
    GOLD,
    GREEN,
    LOADER_TALL,
    MUX_TALL,
    OTHER_MODELS,
    PASTE_TALL,
    PICTURE_TALL,
    PURPLE,
    SAMPLER_TALL,
    SIDES,
    SOUND_TALL,
    SPEECH,
    TEAL,
    WIDE,
    conditions,
    rows,
)

TWO_PEOPLE, CONVERSATION, CLIP = "asymtalker_two_people.jpg", "asymtalker_conversation.flac", "asymtalker_clip.mp4"


def _quiet_conditions(graph: GraphBuilder, loader: Node, image: Link, audio: Link) -> dict[str, Any]:
    """Like ``conditions``, with the mouth closed in pauses."""
    # The crop is used whole, because Face Paste puts it back in the same place.
    given = conditions(graph, loader, image, audio, framing="centre")
    graph.nodes_of("AsymTalkerAudioFeatures")[-1].values["quiet_in_silence"] = True
    return given


def two_people(graph: GraphBuilder) -> None:
    """Two faces in one picture, each with its own voice."""
    graph.column("1. Picture and conversation", BLUE)
    picture = graph.add("LoadImage", PICTURE_TALL, image=TWO_PEOPLE)
    audio = graph.add("LoadAudio", SOUND_TALL, audio=CONVERSATION)
    graph.below("2. Model", BLUE)
    loader = graph.add("AsymTalkerLoader", LOADER_TALL, model="nano")
    graph.column("3. Who speaks when", TEAL)
    voices = graph.add("AsymTalkerConversation", 310, audio=audio.out("AUDIO"))
    crops = []
    for side in rows(graph, "4. Face", TEAL, WIDE):
        inputs = {"image": picture.out("IMAGE"), "face_index": SIDES.index(side), "margin": 0.3}
        crops.append(graph.add("AsymTalkerFaceCrop", FACE_TALL, title=f"Face {side}", **inputs))
    given = [
        _quiet_conditions(graph, loader, crop.out("image"), voices.out(f"voice_{side.lower()}"))
        for crop, side in zip(crops, rows(graph, "5. Conditions", GREEN, WIDE), strict=True)
    ]
    samplers = [
        graph.add("AsymTalkerSampler", SAMPLER_TALL, title=f"Sampler {side}", seed=7, **inputs)
        for inputs, side in zip(given, rows(graph, "6. Generate", PURPLE), strict=True)
    ]
    image = picture.out("IMAGE")
    for sampler, crop, side in zip(samplers, crops, SIDES, strict=True):
        graph.column(f"7. Put {side} into the picture", TEAL)
        inputs = {"video": sampler.out("video"), "image": image, "crop": crop.out("crop")}
        image = graph.add("AsymTalkerFacePaste", PASTE_TALL, title=f"Paste {side}", **inputs).out("video")
    graph.column("8. Save", GOLD, 480)
    saved = {"video": image, "audio": voices.out("both"), "filename_prefix": "video/AsymTalker_two_people"}
    graph.add("AsymTalkerMux", MUX_TALL, **saved)
    graph.note(
        "# Two people talk\n\n1. Press **Run**: two people in one picture take turns: one speaks, the other listens.\n"
        "2. Choose your own **picture** with two faces and your own **conversation** in group 1.\n"
        "3. Press **Run** again. Conversation shows who speaks when.\n\n"
        "One recording: the speaker changes at every long pause, or at the times that you enter in `turns`. Two "
        "recordings: connect the second one to `second`. Stereo with one person on each side: set `split` to `left and "
        "right`.\n\nFace 0 is the larger one; swap the two `face_index` values if the wrong person speaks. More "
        "people: add another chain, with its Face Paste after the last one." + OTHER_MODELS,
        430,
    )


def dubbing(graph: GraphBuilder) -> None:
    """A video in which a face speaks another recording."""
    graph.column("1. Video and speech", BLUE)
    clip = graph.add("LoadVideo", PICTURE_TALL, file=CLIP)
    audio = graph.add("LoadAudio", SOUND_TALL, audio=SPEECH)
    graph.below("2. Model", BLUE)
    loader = graph.add("AsymTalkerLoader", LOADER_TALL, model="nano")
    graph.column("3. Follow the face", TEAL)
    tracked = graph.add("AsymTalkerFaceTrack", FACE_TALL, video=clip.out("VIDEO"), margin=0.3)
    graph.column("4. Conditions", GREEN)
    given = _quiet_conditions(graph, loader, tracked.out("image"), audio.out("AUDIO"))
    graph.column("5. Generate", PURPLE, WIDE)
    sampler = graph.add("AsymTalkerSampler", SAMPLER_TALL, seed=7, **given)
    graph.column("6. Put it back", TEAL)
    inputs = {"video": sampler.out("video"), "image": clip.out("VIDEO"), "crop": tracked.out("crop"), "feather": 0.15}
    paste = graph.add("AsymTalkerFacePaste", PASTE_TALL, **inputs)
    graph.column("7. Save", GOLD, 480)
    saved = {"video": paste.out("video"), "audio": audio.out("AUDIO"), "filename_prefix": "video/AsymTalker_dubbed"}
    graph.add("AsymTalkerMux", MUX_TALL, **saved)
    graph.note(
        "# Dubbing\n\n1. Press **Run**: the person in the example clip speaks the example speech.\n"
        "2. Choose your own **video** and **speech** in group 1.\n"
        "3. Press **Run** again. Your video keeps its size, its frame rate and everything except the face.\n\n"
        "**Works:** a steady camera, one face that looks towards it, even light. **Does not work:** profiles, hands or "
        "microphones in front of the mouth, fast turns of the head. The new face keeps the pose of its portrait, which "
        "is one frame, and follows only the position and size of the original face.\n\n"
        "Cuts: one `shot` is dubbed at a time. For the next one, put a second chain after this one: Face Track with "
        "the next `shot` on the same video, and Face Paste with this Face Paste's video as `image`.\n\n"
        "The mouth hangs open? Choose a frame with a closed mouth in `portrait_at`. A seam? Raise `feather`. "
        "Frames without a face are not changed." + OTHER_MODELS,
        560,
    )
