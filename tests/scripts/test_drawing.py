"""The pictures that scripts/pictures.py makes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("matplotlib", reason="training/requirements.txt")
pytest.importorskip("PIL.Image")

from PIL import Image

from asymtalker.scripts import _drawing as drawing
from asymtalker.scripts._environment import ROOT

SPEECH = ROOT / "workflows" / "assets" / "asymtalker_speech.wav"


def test_loud_moments_are_the_loudest_of_each_part() -> None:
    levels = np.array([0.1, 0.9, 0.2, 0.3, 0.8, 0.1, 0.0, 0.4, 0.5])
    assert drawing.loud_moments(levels, 3) == [1, 4, 8]


def test_loudness_of_the_example_speech() -> None:
    levels = drawing.loudness(SPEECH)
    assert len(levels) == 164 and levels.max() == 1.0 and levels.min() >= 0.0


def test_strip_keeps_shapes() -> None:
    pictures = [Image.new("RGB", (40, 20)), Image.new("RGB", (20, 20))]
    assert drawing.strip(pictures, 10, gap=2).size == (20 + 2 + 10, 10)


def test_the_moving_picture_has_every_frame(tmp_path: Path) -> None:
    shown = [Image.new("RGB", (32, 16), (8 * number, 0, 0)) for number in range(10)]
    drawing.write_moving_picture(tmp_path / "m.webp", shown, 25, 80)
    with Image.open(tmp_path / "m.webp") as picture:
        assert (picture.n_frames, picture.size) == (10, (32, 16))
        picture.load()
        assert picture.info["duration"] == 40 and picture.info["loop"] == 0


def test_cards_have_their_sizes() -> None:
    face, levels = Image.new("RGB", (64, 64), (200, 150, 120)), drawing.loudness(SPEECH)
    card = drawing.thumbnail("A title", "and what it is", (74, 144, 217), face, [face, face, face], levels)
    assert card.size == drawing.THUMBNAIL
    # The first frame is there.
    assert card.getpixel((36 + 184 + 22 + 40, 128 + 40)) == (200, 150, 120)
    assert drawing.icon(face, (74, 144, 217)).size == (400, 400)
    assert drawing.banner("A title", ("one", "two"), (74, 144, 217), face, levels).size == drawing.BANNER
