"""`python -m asymtalker.scripts.pictures` makes every picture of the pack again with the bundled weights.

A real ComfyUI runs the graphs of workflows/api; their videos become the thumbnails of the template browser, the moving
picture of the README, the pictures of the help pages (but that of Kept Jobs, a screenshot), the icon and the banner. To
be run after nano's weights or the example files have changed. Needs matplotlib and Pillow (training/requirements.txt)
and takes some minutes on a CPU.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np
import torch
from PIL import Image

from ..faces.crop import square_around
from ..faces.detector import find_faces
from ..models.audio import MEL_BANDS, log_mel_features, num_video_frames, to_mono_16k
from . import _drawing as drawing
from ._client import ComfyClient, videos
from ._environment import ROOT, find_comfyui
from ._server import ComfyServer
from ._workflow import read_graph
from .graphs import ui_stem

WORKFLOWS, DOCS, HELP = ROOT / "workflows", ROOT / "docs", ROOT / "web" / "docs" / "images"
ASSETS = WORKFLOWS / "assets"
SPEECH = ASSETS / "asymtalker_speech.wav"
PORTRAIT, SECOND, PAINTING = (ASSETS / f"asymtalker_{name}.png" for name in ("person", "portrait_2", "painting"))
TWO_PEOPLE = ASSETS / "asymtalker_two_people.jpg"

SQUARE, WIDE = (256, 256), (456, 256)
HELP_HEIGHT = 180
MOVING_FPS = 25
MOVING_LIMIT_BYTES = 3_000_000
BLUE, PURPLE, ORANGE, TEAL, GREEN = (74, 144, 217), (150, 96, 220), (224, 140, 62), (52, 160, 160), (96, 168, 96)


class Card(NamedTuple):
    """What a thumbnail says; `size` is that of the frames, None for graphs whose weights are not in the pack."""

    title: str
    subtitle: str
    accent: drawing.Color
    picture: Path
    size: drawing.Size | None


CARDS = {
    "asymtalker_nano": Card("Quick start", "nano · 256 × 256 · nothing to download", BLUE, PORTRAIT, SQUARE),
    "asymtalker_long_speech": Card("Long speech", "any length · resumes after a crash", GREEN, PORTRAIT, SQUARE),
    "asymtalker_continuity_comparison": Card(
        "Continuity comparison", "two samplers side by side", TEAL, PORTRAIT, SQUARE
    ),
    "asymtalker_portrait_batch": Card("Many portraits", "one speech, a video each", ORANGE, SECOND, SQUARE),
    "asymtalker_larger_picture": Card("In a larger picture", "crop, speak, paste back", TEAL, PAINTING, WIDE),
    "asymtalker_two_people": Card("Two people talk", "one speaks, the other listens", ORANGE, TWO_PEOPLE, WIDE),
    "asymtalker_dubbing": Card("Dubbing", "new speech for a face in your video", GREEN, PAINTING, WIDE),
    "asymtalker_flashhead_pro": Card("FlashHead Pro", "512 × 512 · Wan 2.1 VAE · GPU", PURPLE, PORTRAIT, None),
    "asymtalker_flashhead_lite": Card("FlashHead Lite", "512 × 512 · LTX-Video VAE · GPU", ORANGE, PORTRAIT, None),
    "asymtalker_leaptalk": Card("LeapTalk", "512 × 512 · one step · GPU", GREEN, PORTRAIT, None),
}
ACCENT = BLUE


def kept_videos(folder: Path) -> dict[str, list[Path]]:
    """{graph: its mp4s} of a folder that has those of every graph, else nothing."""
    found = {name: sorted(folder.glob(f"{name}_?.mp4")) for name, card in CARDS.items() if card.size is not None}
    return found if all(found.values()) else {}


def make_videos(comfyui: Path, folder: Path, temporary: Path) -> dict[str, list[Path]]:
    """{graph: the mp4s that it saved}, of the graphs whose weights come with the pack."""
    made: dict[str, list[Path]] = {}
    with ComfyServer(comfyui, temporary / "comfyui", cpu=True) as server:
        client = ComfyClient(server.url)
        for asset in sorted(ASSETS.iterdir()):
            client.upload(asset)
        for name, card in CARDS.items():
            if card.size is None:
                continue
            print(f"{name} ...", file=sys.stderr, flush=True)
            graph = read_graph(WORKFLOWS / "api" / f"{name}.json", needed=())
            saved = videos(client.run(graph))
            made[name] = [client.download(file, folder / f"{name}_{i}.mp4") for i, file in enumerate(saved)]
        write_chart_picture(client)
    return made


def write_chart_picture(client: ComfyClient) -> None:
    """web/docs/images/drift_chart.png: the long speech graph's chart, which is in the server's temporary folder."""
    graph = read_graph(WORKFLOWS / "api" / "asymtalker_long_speech.json", needed=())
    (shown,) = [key for key, node in graph.items() if node["class_type"] == "PreviewImage"]
    (picture,) = client.run(graph)["outputs"][shown]["images"]
    HELP.mkdir(parents=True, exist_ok=True)
    path = client.download(picture, HELP / "drift_chart.png")
    chart = Image.open(path).convert("RGB")
    chart.resize((720, round(chart.height * 720 / chart.width)), Image.Resampling.LANCZOS).save(path, optimize=True)


def write_thumbnails(frames: dict[str, list[list[Image.Image]]], levels: drawing.Levels) -> None:
    """workflows/<title>.jpg: frames of each video at loud moments."""
    for name, card in CARDS.items():
        films = frames.get(name, [])
        moments = drawing.loud_moments(levels, 3 if card.size == SQUARE else 1)
        if len(films) == 1:
            shown = [films[0][moment] for moment in moments]
        else:
            shown = [film[moment] for film, moment in zip(films, moments, strict=False)]
        picture = _square(Image.open(card.picture).convert("RGB"))
        drawn = drawing.thumbnail(card.title, card.subtitle, card.accent, picture, shown, levels)
        drawn.save(WORKFLOWS / f"{ui_stem(name)}.jpg", quality=88)


def write_moving_picture(frames: dict[str, list[list[Image.Image]]]) -> None:
    """docs/talking.webp: the quick start's video beside the painting's."""
    pairs = zip(frames["asymtalker_nano"][0], frames["asymtalker_larger_picture"][0], strict=True)
    shown = [drawing.strip(pair, WIDE[1]) for pair in list(pairs)[:: round(drawing.FPS / MOVING_FPS)]]
    path = DOCS / "talking.webp"
    for quality in (80, 65, 50):
        drawing.write_moving_picture(path, shown, MOVING_FPS, quality)
        if path.stat().st_size <= MOVING_LIMIT_BYTES:
            return
    raise SystemExit(f"{path} has {path.stat().st_size} bytes; {MOVING_LIMIT_BYTES} are allowed")


def write_model_card_picture(frames: dict[str, list[list[Image.Image]]]) -> None:
    """docs/nano.jpg: two people who say the same, a quarter of a second from frame to frame."""
    rows = [drawing.strip(film[20:62:6], 192) for film in frames["asymtalker_portrait_batch"][:2]]
    sheet = Image.new("RGB", (rows[0].width, 2 * rows[0].height))
    for number, row in enumerate(rows):
        sheet.paste(row, (0, number * row.height))
    sheet.save(DOCS / "nano.jpg", quality=85)


def write_help_pictures(frames: dict[str, list[list[Image.Image]]], levels: drawing.Levels) -> None:
    """web/docs/images: small pictures of what each node gives."""
    HELP.mkdir(parents=True, exist_ok=True)
    film, pasted = frames["asymtalker_nano"][0], frames["asymtalker_larger_picture"][0]
    loud = drawing.loud_moments(levels, 5)
    portrait, painting = (Image.open(path).convert("RGB") for path in (PORTRAIT, PAINTING))
    pictures = {
        "loader": [portrait, *(film[moment] for moment in loud[:3])],
        "reference": [portrait, film[0], film[len(film) // 2], film[-1]],
        "audio_features": [drawing.features_picture(_log_mel(), (4 * HELP_HEIGHT, HELP_HEIGHT))],
        # Either side of the first seam: chunk 0 has 33 frames.
        "continuity": [film[number] for number in (31, 32, 33, 34)],
        "sampler": [film[moment] for moment in loud],
        "mux": [film[loud[1]], drawing.speech_card((3 * HELP_HEIGHT, HELP_HEIGHT), ACCENT, levels)],
        "face_crop": _crop_pictures(painting),
        "face_paste": [painting.resize(WIDE), pasted[loud[2]]],
        "conversation": drawing.spread(frames["asymtalker_two_people"][0], 2),
        "face_track": drawing.spread(frames["asymtalker_dubbing"][0], 2),
    }
    for name, shown in pictures.items():
        drawing.strip(shown, HELP_HEIGHT).save(HELP / f"{name}.jpg", quality=82)


def write_icon_and_banner(levels: drawing.Levels) -> None:
    """docs/icon.png and docs/banner.png, for the registry."""
    portrait = Image.open(PORTRAIT).convert("RGB")
    drawing.icon(portrait, ACCENT).save(DOCS / "icon.png")
    words = "A portrait and speech in,", "a talking head of any length out"
    drawing.banner("AsymTalker", words, ACCENT, portrait, levels).save(DOCS / "banner.png")


def _square(picture: Image.Image) -> Image.Image:
    """The middle of a picture."""
    side = min(picture.size)
    left, top = (picture.width - side) // 2, (picture.height - side) // 2
    return picture.crop((left, top, left + side, top + side))


def _crop_pictures(painting: Image.Image) -> list[Image.Image]:
    """The picture with the square that Face Crop cuts with the graph's margin, and what it cuts."""
    face = find_faces(np.asarray(painting))[0]
    crop = square_around((face.x, face.y, face.width, face.height), *painting.size, 0.3)
    box = crop.x, crop.y, crop.x + crop.side, crop.y + crop.side
    return [drawing.with_square(painting, box), painting.crop(box)]


def _log_mel() -> np.ndarray:
    """nano's features of the example speech: log-mel energies [hops, bands]."""
    with av.open(str(SPEECH)) as container:
        stream = container.streams.audio[0]
        parts = [frame.to_ndarray() for frame in container.decode(stream)]
        rate = stream.rate
    waveform = torch.from_numpy(np.concatenate(parts, axis=1).astype(np.float32) / 32768)
    frames = num_video_frames(waveform.shape[-1], rate)
    return log_mel_features(to_mono_16k(waveform, rate), frames).reshape(-1, MEL_BANDS).numpy()


def main() -> int:
    """Run the graphs and write every picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--videos", type=Path, help="folder that keeps the mp4s; those that it has are not made again")
    options = parser.parse_args()
    comfyui = find_comfyui()
    if comfyui is None:
        raise SystemExit("no ComfyUI: scripts/test.py gets one, COMFYUI_PATH names one")
    with tempfile.TemporaryDirectory(prefix="asymtalker-") as temporary:
        folder: Path = options.videos or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        made = kept_videos(folder) or make_videos(comfyui, folder, Path(temporary))
        frames = {
            name: [drawing.read_video(path, CARDS[name].size or SQUARE) for path in paths]
            for name, paths in made.items()
        }
    levels = drawing.loudness(SPEECH)
    write_thumbnails(frames, levels)
    write_moving_picture(frames)
    write_model_card_picture(frames)
    write_help_pictures(frames, levels)
    write_icon_and_banner(levels)
    return 0


if __name__ == "__main__":
    sys.exit(main())
