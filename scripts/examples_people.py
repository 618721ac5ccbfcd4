"""`python -m asymtalker.scripts.examples_people` makes the examples with people in workflows/assets.

A picture of a call between two people, what they say, a clip of a person who speaks, and, with --assets, a portrait
that looks like a photograph. The people are those of the corpora, the voices are eSpeak NG's: no real ones. Needs
training/requirements.txt.
"""

from __future__ import annotations

import argparse
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import skia
from PIL import Image

from ..models.rates import FPS
from ..training.corpus.clip import identity_of, make_poses, make_speech, portrait_pose
from ..training.corpus.motion import Pose
from ..training.corpus.render import render
from ..training.corpus.speech import SAMPLE_RATE, Espeak, Voice
from ..training.people.assets import WHERE
from ..training.people.clip import Sources, studio_of, to_bytes
from .examples import ASSETS

FIRST_PERSON, SECOND_PERSON = (5, 8), (5, 22)
CALL_SIZE, TILE, ROUND = (1280, 720), 580, 28

PAUSE_S = 0.8
LEVEL = 0.09
VOICES = (
    Voice(language="en-us", variant="m3", rate=160, pitch=35, pitch_range=55),
    Voice(language="en-us", variant="f2", rate=165, pitch=60, pitch_range=60),
)
SAID = (
    "Have you seen the new painting in the hall?",
    "Yes, I have. It moves its lips, you know.",
    "Really? And what did it say to you?",
    "It asked me who was listening.",
)

RENDERED_PERSON, RENDERED_SIZE = (777, 20), 512

CLIP_PERSON, CLIP_S = (5, 11), 6.6
CLIP_SIZE, CLIP_CRF = (640, 360), 26


def main() -> int:
    """Make the files."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=ASSETS, help="folder (default: %(default)s)")
    parser.add_argument("--assets", type=Path, help=f"folder of {WHERE}; with it, the portrait is made too")
    args = parser.parse_args()
    folder: Path = args.out
    folder.mkdir(parents=True, exist_ok=True)
    _call().save(str(folder / "asymtalker_two_people.jpg"), skia.kJPEG, 92)
    _write_flac(_conversation(), folder / "asymtalker_conversation.flac")
    _write_clip(folder / "asymtalker_clip.mp4")
    if args.assets is not None:
        Image.fromarray(_rendered(args.assets)).save(folder / "asymtalker_person.png", optimize=True)
    return 0


def _rendered(assets: Path) -> np.ndarray:
    """A portrait of one of the rendered people: uint8 [S, S, 3]."""
    studio = studio_of(Sources.read(assets), *RENDERED_PERSON, RENDERED_SIZE)
    return to_bytes(studio.frame(portrait_pose(*RENDERED_PERSON)).colour)


def _call() -> skia.Image:
    """Two tiles side by side, as in a video call."""
    width, height = CALL_SIZE
    surface = skia.Surface(width, height)
    canvas = surface.getCanvas()
    canvas.clear(0xFF20262E)
    gap = (width - 2 * TILE) / 3
    for place, person in enumerate((FIRST_PERSON, SECOND_PERSON)):
        drawn = render(identity_of(*person), portrait_pose(*person), TILE)
        rgba = np.ascontiguousarray(np.dstack((drawn, np.full(drawn.shape[:2], 255, np.uint8))))
        tile = skia.Rect.MakeXYWH(gap + place * (TILE + gap), (height - TILE) / 2, TILE, TILE)
        canvas.save()
        canvas.clipRRect(skia.RRect.MakeRectXY(tile, ROUND, ROUND), doAntiAlias=True)
        canvas.drawImage(skia.Image.fromarray(rgba, colorType=skia.kRGBA_8888_ColorType), tile.left(), tile.top())
        canvas.restore()
    return surface.makeImageSnapshot()


def _conversation() -> np.ndarray:
    """What they say in turn, float32 [N] at 16 kHz."""
    pause = np.zeros(round(PAUSE_S * SAMPLE_RATE), np.float32)
    parts = [pause[: len(pause) // 2]]
    with Espeak() as engine:
        for number, sentence in enumerate(SAID):
            spoken = engine.speak(sentence, VOICES[number % 2]).audio
            loud = np.flatnonzero(np.abs(spoken) > 0.02 * np.abs(spoken).max())
            spoken = spoken[loud[0] : loud[-1] + SAMPLE_RATE // 20]
            parts += [spoken * (LEVEL / np.sqrt(np.mean(spoken**2))), pause]
    return np.clip(np.concatenate(parts), -1, 1)


def _write_flac(samples: np.ndarray, path: Path) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("flac", rate=SAMPLE_RATE, layout="mono")
        whole = av.AudioFrame.from_ndarray((samples * 32767).round().astype(np.int16)[None], "s16", "mono")
        whole.sample_rate = SAMPLE_RATE
        container.mux(stream.encode(whole))
        container.mux(stream.encode())


def _write_clip(path: Path) -> None:
    """A person who speaks, in the middle of a wide picture."""
    width, height = CLIP_SIZE
    num_frames = round(CLIP_S * FPS)
    identity, speech = identity_of(*CLIP_PERSON), make_speech(*CLIP_PERSON, CLIP_S)
    rows = make_poses(*CLIP_PERSON, speech, num_frames)
    with av.open(str(path), "w", options={"movflags": "+faststart"}) as container:
        stream = container.add_stream("libx264", rate=Fraction(FPS), options={"crf": str(CLIP_CRF), "preset": "slow"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for row in rows:
            frame = av.VideoFrame.from_ndarray(_wide(render(identity, Pose.from_row(row), height), width), "rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def _wide(square: np.ndarray, width: int) -> np.ndarray:
    """A drawn square in a wider picture: its outermost columns go on, darker towards the edges."""
    side = (width - square.shape[1]) // 2
    wide = np.pad(square, ((0, 0), (side, side), (0, 0)), mode="edge").astype(np.float32)
    shade = np.ones(width, np.float32)
    shade[:side] = np.linspace(0.55, 1, side)
    shade[-side:] = shade[:side][::-1]
    return (wide * shade[None, :, None]).round().astype(np.uint8)


if __name__ == "__main__":
    raise SystemExit(main())
