"""Clips in the drawn corpus' format, of people, of drawn faces in photographs' looks, and of both."""

import io
import json
import os
from argparse import ArgumentParser, Namespace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip(
    "skia", reason="no Skia, or none of the libraries it draws with (libegl1, libgl1)", exc_type=ImportError
)

import torch
from PIL import Image
from safetensors import safe_open
from safetensors.numpy import load_file

from asymtalker.faces.detector import Face, find_faces
from asymtalker.models.checkpoint import read_checkpoint
from asymtalker.models.nano_vae import NanoVAE
from asymtalker.tests.training.people.people_assets import VARIABLE, data, needs_assets
from asymtalker.training.core.config import TrainingError
from asymtalker.training.core.latents import encode_clip
from asymtalker.training.core.paths import VAE
from asymtalker.training.corpus.clip import make_clip
from asymtalker.training.corpus.motion import Pose, opening
from asymtalker.training.corpus.write import ARRAYS
from asymtalker.training.people import clip
from asymtalker.training.people.background import make_background
from asymtalker.training.people.clip import Sources, kind_of, make_footage, photographed_pose, studio_of
from asymtalker.training.people.photo import Look
from asymtalker.training.people.write import add_arguments, run


def arguments(*words: str) -> Namespace:
    parser = ArgumentParser()
    add_arguments(parser)
    return parser.parse_args(list(words))


def test_plain_drawn_clip_is_that_of_the_drawn_corpus() -> None:
    footage, clip = make_footage(None, 3, 1, 3, "drawn", Look()), make_clip(3, 1, 3)
    for name in ARRAYS:
        np.testing.assert_array_equal(getattr(footage, name), getattr(clip, name), err_msg=name)


def test_mixed_corpus_has_its_share_of_people() -> None:
    kinds = [kind_of("mixed", 0, index, 0.3) for index in range(400)]
    assert kinds == [kind_of("mixed", 0, index, 0.3) for index in range(400)]
    assert 0.2 < kinds.count("people") / 400 < 0.4
    assert {kind_of("drawn", 0, i, 0.3) for i in range(9)} == {"drawn"}


def test_people_without_data_are_refused_before_anything_is_written(tmp_path: Path) -> None:
    out = tmp_path / "clips"
    with pytest.raises(TrainingError, match="--assets"):
        run(arguments("--out", str(out), "--count", "1", "--corpus", "mixed"))
    assert not out.exists()


def test_drawn_clips_are_written_once_with_their_look(tmp_path: Path) -> None:
    args = arguments("--out", str(tmp_path), "--count", "2", "--frames", "2", "--corpus", "drawn")
    run(args)
    paths = sorted(tmp_path.iterdir())
    assert [path.name for path in paths] == [
        "clip_drawn_s0_f2_0000000.safetensors",
        "clip_drawn_s0_f2_0000001.safetensors",
    ]
    with safe_open(paths[0], framework="np") as file:
        about = file.metadata()
    assert json.loads(about["kind"]) == "drawn"
    assert 0 < json.loads(about["look"])["crop"] <= 1
    before = paths[0].stat().st_mtime_ns
    run(args)
    assert paths[0].stat().st_mtime_ns == before


@needs_assets
def test_clip_of_a_person(tmp_path: Path) -> None:
    sources = Sources(*data())
    footage = make_footage(sources, 7, 4, 33, "people", Look())
    np.savez(tmp_path / "clip.npz", **{name: getattr(footage, name) for name in ARRAYS})
    assert footage.frames.shape == (33, 256, 256, 3)
    assert footage.audio.shape == (33 * 640,)
    # The first frame is the portrait of those who do not smile there, and the mouth moves as it was told to.
    assert np.abs(footage.frames[0].astype(int) - footage.portrait).mean() < 0.5
    asked = np.array([opening(Pose.from_row(row)) for row in footage.poses])
    assert np.corrcoef(asked, footage.opening)[0, 1] > 0.8
    x0, y0, x1, y1 = footage.mouth_boxes.T
    assert (x0 < x1).all()
    assert (y0 < y1).all()
    again = make_footage(sources, 7, 4, 2, "people", Look())
    np.testing.assert_array_equal(again.portrait, footage.portrait)
    # The trainers take it as they take a drawn one.
    vae = NanoVAE.from_checkpoint(*read_checkpoint(VAE))
    encoded = encode_clip(vae, {name: torch.from_numpy(getattr(footage, name)) for name in ARRAYS})
    assert encoded["latents"].isfinite().all()
    assert encoded["mouth"].shape[0] == 33


def test_damaged_background_is_named(tmp_path: Path) -> None:
    whole = io.BytesIO()
    Image.new("RGB", (64, 64), "green").save(whole, "JPEG")
    (tmp_path / "half.jpg").write_bytes(whole.getvalue()[:-200])
    with pytest.raises(TrainingError, match=r"half\.jpg cannot be read"):
        for seed in range(9):
            make_background(np.random.default_rng(seed), 32, tmp_path)


@needs_assets
def test_some_people_smile_on_their_portrait() -> None:
    sources = Sources(*data())
    poses = [photographed_pose(7, index) for index in range(60)]
    smiling = [index for index, pose in enumerate(poses) if pose.smile > 0.5]
    assert 10 <= len(smiling) <= 30
    footage = make_footage(sources, 7, smiling[0], 1, "people", Look())
    assert np.abs(footage.frames[0].astype(int) - footage.portrait).mean() > 0.5


@needs_assets
def test_portraits_are_framed_as_face_crop_does() -> None:
    sources = Sources(*data())
    shares: dict[str, list[float]] = {"portrait": [], "any": []}
    for framing, found in shares.items():
        for index in range(4):
            face = find_faces(make_footage(sources, 11, index, 1, "people", Look(), framing=framing).portrait)[0]
            found.append(max(face.width, face.height) / 256)
            if framing == "portrait":
                assert abs((face.x + face.width / 2) / 256 - 0.5) < 0.08
    assert all(0.5 < share < 0.72 for share in shares["portrait"])
    assert min(shares["any"]) < 0.5


@needs_assets
def test_what_a_background_holds_is_no_face(monkeypatch: pytest.MonkeyPatch) -> None:
    """A face far from the head, larger than the head's own, does not frame it."""
    sources = Sources(*data())
    expected = studio_of(sources, 11, 0).view
    elsewhere = Face(200, 200, 240, 240, 0.9, ((0.0, 0.0),) * 5)
    monkeypatch.setattr(clip, "find_faces", lambda picture: [elsewhere, *find_faces(picture)])
    assert studio_of(sources, 11, 0).view == expected


@needs_assets
def test_written_clip_of_a_person_can_be_read_back(tmp_path: Path) -> None:
    run(arguments("--out", str(tmp_path), "--count", "1", "--frames", "2", "--assets", os.environ[VARIABLE]))
    tensors = load_file(next(tmp_path.glob("clip_people_*.safetensors")))
    assert set(tensors) == set(ARRAYS)
    assert tensors["frames"].dtype == np.uint8
