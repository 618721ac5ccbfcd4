"""The metrics' mathematics against closed forms, their networks against the libraries', and the program on videos."""

from __future__ import annotations

import json
import pickle
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import scipy.linalg
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from asymtalker.tests.helpers import cells
from asymtalker.tests.training.videos.videos import person, plain, speech, write_video
from asymtalker.training.__main__ import main
from asymtalker.training.core.config import TrainingError
from asymtalker.training.evaluation.frechet import FeatureStatistics, frechet_distance
from asymtalker.training.evaluation.metrics import Measurement, Networks, measure
from asymtalker.training.evaluation.networks import FILES, load_arcface, load_i3d, load_inception, load_syncnet
from asymtalker.training.evaluation.syncnet import MAX_OFFSET, SyncNet, measure_sync
from asymtalker.training.videos.faces import ARCFACE_POINTS, FaceBoxes, aligned_faces, sync_faces, track_face

CPU = torch.device("cpu")


def statistics(rows: np.ndarray, parts: int = 1) -> FeatureStatistics:
    collected = FeatureStatistics()
    for part in np.array_split(rows, parts):
        collected.add(torch.from_numpy(part))
    return collected


def with_moments(mean: np.ndarray, covariance: np.ndarray, seed: int, count: int = 64) -> np.ndarray:
    """Rows [count, n] that have just this mean and covariance."""
    rows = np.random.default_rng(seed).normal(size=(count, len(mean)))
    rows -= rows.mean(axis=0)
    whitened = rows @ np.linalg.inv(np.linalg.cholesky(np.cov(rows.T))).T
    return whitened @ np.linalg.cholesky(covariance).T + mean


def test_frechet_distance_has_its_closed_forms() -> None:
    zero, identity = np.zeros(5), np.eye(5)
    shift = np.array([1.0, -2.0, 0.5, 0.0, 3.0])
    standard = statistics(with_moments(zero, identity, 1))
    assert frechet_distance(standard, statistics(with_moments(zero, identity, 2))) == pytest.approx(0, abs=1e-9)
    assert frechet_distance(standard, statistics(with_moments(shift, identity, 3))) == pytest.approx(shift @ shift)
    # Covariances that commute: the sum of the squared differences of the standard deviations.
    spread = np.array([4.0, 0.25, 9.0, 1.0, 0.01])
    scaled = statistics(with_moments(shift, np.diag(spread), 4))
    expected = shift @ shift + np.square(np.sqrt(spread) - 1).sum()
    assert frechet_distance(standard, scaled) == pytest.approx(expected)
    assert frechet_distance(scaled, standard) == pytest.approx(expected)


def test_frechet_distance_equals_the_matrix_root() -> None:
    rng = np.random.default_rng(0)
    factors = [rng.normal(size=(5, 5)) for _ in range(2)]
    a, b = (factor @ factor.T + 0.1 * np.eye(5) for factor in factors)
    root = np.real(np.asarray(scipy.linalg.sqrtm(a @ b)))
    distance = frechet_distance(statistics(with_moments(np.zeros(5), a, 1)), statistics(with_moments(np.ones(5), b, 2)))
    assert distance == pytest.approx(5 + np.trace(a + b - 2 * root))


def test_frechet_distance_of_few_samples_is_finite() -> None:
    rows = np.random.default_rng(0).normal(size=(6, 40))
    few = statistics(rows)
    assert frechet_distance(few, few) == pytest.approx(0, abs=1e-4)
    assert frechet_distance(few, statistics(rows + 1, parts=3)) == pytest.approx(40, rel=1e-6)
    with pytest.raises(ValueError, match="at least 2 samples"):
        frechet_distance(few, statistics(rows[:1]))


class Loudness(nn.Module):
    """In SyncNet's place: embeds how bright and how loud each of the five frames is."""

    def __init__(self) -> None:
        super().__init__()
        self.level = nn.Parameter(torch.tensor(0.0))

    def embed_video(self, windows: Tensor) -> Tensor:
        assert windows.shape[1:3] == (3, 5)
        return windows.mean((1, 3, 4)) / 50

    def embed_audio(self, windows: Tensor) -> Tensor:
        assert windows.shape[1:] == (1, 13, 20)
        return windows[:, 0, 0].unflatten(1, (5, 4)).mean(2) - self.level


@pytest.mark.parametrize("early", [-4, 0, 3])
def test_sync_finds_the_offset_of_the_sound(early: int) -> None:
    """Frames as bright as their sound is loud (the first cepstrum is the logarithm of the energy)."""
    rng = np.random.default_rng(0)
    level = np.repeat(rng.uniform(0, 4, 30), 4)
    frames = torch.from_numpy(np.round(level * 50).astype(np.uint8))[:, None, None, None].expand(-1, 8, 8, 3)
    noise = rng.normal(0, 0.01, 120 * 640)
    sound = torch.from_numpy(np.exp(np.repeat(level, 640) / 2) * noise).float()
    network = Loudness()
    with torch.no_grad():
        quiet = measure_windows(network, torch.from_numpy(noise).float())
        network.level.fill_(quiet)
    shifted = torch.roll(sound, -early * 640)
    sync = measure_sync(network, frames, shifted)  # type: ignore[arg-type]
    assert sync.offset == early
    assert sync.distance == sync.distances.min() == sync.distances[MAX_OFFSET - early]
    assert sync.confidence == pytest.approx(float(np.median(sync.distances)) - sync.distance, rel=1e-5)
    assert sync.confidence > 1 > sync.distance
    with pytest.raises(ValueError, match="at least 6 frames"):
        measure_sync(network, frames[:5], shifted)  # type: ignore[arg-type]


def measure_windows(network: Loudness, audio: Tensor) -> float:
    from python_speech_features import mfcc

    cepstra = mfcc((audio * 32767).round().to(torch.int16).numpy(), 16_000)
    return float(cepstra[:, 0].mean())


def save_random(network: nn.Module, path: Path, *, old_format: bool = False) -> dict[str, Tensor]:
    torch.manual_seed(0)
    tensors = {
        name: torch.randn(tensor.shape) * 0.05 if tensor.is_floating_point() else tensor
        for name, tensor in network.state_dict().items()
    }
    tensors = {name: tensor.abs() + 0.5 if "var" in name else tensor for name, tensor in tensors.items()}
    torch.save(tensors, path, _use_new_zipfile_serialization=not old_format)
    return tensors


def test_syncnet_has_the_published_layers_and_reads_the_published_format(tmp_path: Path) -> None:
    shapes = {name: tuple(tensor.shape) for name, tensor in SyncNet().state_dict().items()}
    assert sum(name.endswith("weight") for name in shapes) == 6 * 2 + 6 * 2 + 2 * 3
    expected = {
        "netcnnaud.0.weight": (64, 1, 3, 3),
        "netcnnaud.8.weight": (384, 192, 3, 3),
        "netcnnaud.18.weight": (512, 256, 5, 4),
        "netcnnlip.0.weight": (96, 3, 5, 7, 7),
        "netcnnlip.4.weight": (256, 96, 1, 5, 5),
        "netcnnlip.18.weight": (512, 256, 1, 6, 6),
        "netfcaud.0.weight": (512, 512),
        "netfclip.3.weight": (1024, 512),
    }
    assert expected.items() <= shapes.items()
    tensors = save_random(SyncNet(), tmp_path / "syncnet_v2.model", old_format=True)
    network = load_syncnet(tmp_path / "syncnet_v2.model", CPU)
    assert torch.equal(network.state_dict()["netfcaud.0.weight"], tensors["netfcaud.0.weight"])
    assert (
        network.embed_video(torch.rand(1, 3, 5, 224, 224)).shape
        == network.embed_audio(torch.rand(1, 1, 13, 20)).shape
        == (1, 1024)
    )


def test_inception_equals_pytorch_fid(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from pytorch_fid import inception as fid

    downloaded: dict[str, Tensor] = {}
    with monkeypatch.context() as patch:
        # Their constructor downloads; here it builds the network and takes its own initial weights.
        patch.setattr(fid, "load_state_dict_from_url", lambda url, progress: downloaded)
        patch.setattr(nn.Module, "load_state_dict", lambda self, tensors: None)
        theirs = fid.fid_inception_v3()
    tensors = save_random(theirs, tmp_path / "inception.pth")
    theirs.load_state_dict(tensors)
    with monkeypatch.context() as patch:
        patch.setattr(fid, "fid_inception_v3", lambda: theirs)
        oracle = fid.InceptionV3().eval()
    pictures = torch.randint(0, 256, (2, 96, 80, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = oracle(pictures.permute(0, 3, 1, 2).float() / 255)[0].flatten(1)
    features = load_inception(tmp_path / "inception.pth", CPU)(pictures)
    assert features.shape == (2, 2048) and features.std() > 0
    assert torch.allclose(features, expected, rtol=1e-4, atol=1e-6)


def test_i3d_reads_its_file(tmp_path: Path) -> None:
    from cdfvd.third_party.i3d.pytorch_i3d import InceptionI3d

    save_random(InceptionI3d(400, in_channels=3), tmp_path / "i3d.pt")
    clips = torch.randint(0, 256, (1, 16, 32, 32, 3), dtype=torch.uint8)
    logits = load_i3d(tmp_path / "i3d.pt", CPU)(clips)
    assert logits.shape == (1, 400) and torch.isfinite(logits).all()


def save_arcface(path: Path, size: int = 112) -> np.ndarray:
    """A graph in ArcFace's form: pixels to a vector, here by one random matrix."""
    matrix = np.random.default_rng(0).normal(size=(3 * size * size, 8)).astype(np.float32)
    given = helper.make_tensor_value_info("input", TensorProto.FLOAT, ["n", 3, size, size])
    result = helper.make_tensor_value_info("output", TensorProto.FLOAT, ["n", 8])
    nodes = [helper.make_node("Flatten", ["input"], ["flat"]), helper.make_node("MatMul", ["flat", "m"], ["output"])]
    graph = helper.make_graph(nodes, "g", [given], [result], [numpy_helper.from_array(matrix, "m")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.save(model, str(path))
    return matrix


def test_arcface_embeds_unit_vectors(tmp_path: Path) -> None:
    matrix = save_arcface(tmp_path / "face.onnx")
    faces = torch.randint(0, 256, (2, 112, 112, 3), dtype=torch.uint8)
    vectors = load_arcface(tmp_path / "face.onnx")(faces)
    pixels = (faces.permute(0, 3, 1, 2).float().numpy() - 127.5) / 127.5
    expected = pixels.reshape(2, -1) @ matrix
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    assert np.allclose(vectors.numpy(), expected, atol=1e-4)


@pytest.mark.parametrize("name", list(FILES))
def test_files_that_are_missing_or_others_say_what_is_wanted(name: str, tmp_path: Path) -> None:
    wanted = FILES[name]
    write_video(tmp_path / "a.mp4", person(30), audio=speech(1.3))
    with pytest.raises(
        TrainingError, match=rf"there is no .*missing\.bin: {wanted.option} needs .*{re.escape(wanted.published[:20])}"
    ):
        measure(tmp_path, tmp_path, tmp_path / "out", {name: tmp_path / "missing.bin"})
    others = {"other.pth": lambda path: torch.save({"a": torch.ones(2)}, path), "torn.pth": torn, "code.pth": code}
    for file, make in others.items():
        make(tmp_path / file)
        with pytest.raises(TrainingError, match=rf"{file}.*{re.escape(wanted.published)}"):
            measure(tmp_path, tmp_path, tmp_path / "out", {name: tmp_path / file})
    assert not (tmp_path / "out").exists() and not (tmp_path / "ran").exists()


def torn(path: Path) -> None:
    torch.save({"a": torch.ones(2000)}, path)
    path.write_bytes(path.read_bytes()[:500])


def code(path: Path) -> None:
    """A pickle that would make a file when it is loaded the old way."""

    class Runs:
        def __reduce__(self) -> tuple[object, tuple[object, ...]]:
            return Path.touch, (path.with_name("ran"),)

    path.write_bytes(pickle.dumps(Runs(), protocol=2))


def test_aligned_faces_have_their_points_where_arcface_has_them() -> None:
    angle, scale = 0.3, 1.7
    turn = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    points = ARCFACE_POINTS @ turn.T + (60, 20)
    rows, columns = np.mgrid[0:260, 0:300]
    distance = np.stack([(columns - x) ** 2 + (rows - y) ** 2 for x, y in points]).min(axis=0)
    picture = (255 * np.exp(-distance / 18)).astype(np.uint8)
    frames = torch.from_numpy(np.repeat(picture[None, :, :, None], 3, axis=3))
    (face,) = aligned_faces(frames, FaceBoxes(np.zeros((1, 4)), points[None], 1.0))
    for x, y in ARCFACE_POINTS.round().astype(int):
        assert face[y, x, 0] > 200
    assert face.float().mean() < 40


def test_sync_faces_are_cut_as_syncnets_authors_do() -> None:
    frames = torch.zeros(3, 200, 240, 3, dtype=torch.uint8)
    frames[:, 60:100, 100:140] = 255
    track = FaceBoxes(np.tile((100.0, 60.0, 140.0, 100.0), (3, 1)), np.zeros((3, 5, 2)), 1.0)
    (face, *_) = sync_faces(frames, track, 56)
    # The crop is 28 left and right of the centre, 20 above it and 36 below.
    bright = (face[..., 0] > 128).nonzero()
    assert bright.amin(0).tolist() == [0, 8] and bright.amax(0).tolist() == [39, 47]


def brightness_features(pictures: Tensor) -> Tensor:
    return pictures.float().mean((1, 2)) / 255


def clip_features(clips: Tensor) -> Tensor:
    return clips.float().mean((2, 3)).flatten(1) / 255


def test_measurements_tell_good_from_bad(tmp_path: Path) -> None:
    """The same video measures as perfect, a darker and blurred one as worse in everything."""
    save_arcface(tmp_path / "face.onnx")
    syncnet: Any = Loudness()
    networks = Networks(brightness_features, clip_features, syncnet, load_arcface(tmp_path / "face.onnx"))
    frames = torch.from_numpy(np.stack(person(40, travel=40)))
    sound = torch.from_numpy(speech(1.6, 16_000))
    blurred = nn.functional.interpolate(frames[:, ::8, ::8].permute(0, 3, 1, 2) // 2, (320, 400)).permute(0, 2, 3, 1)
    results = []
    for made in (frames, blurred):
        measurement = Measurement(networks)
        measurement.add("a", (frames, sound), (made, sound))
        results.append(measurement.result())
    good, bad = (result["mean"] for result in results)
    assert good["psnr"] == 60 and good["ssim"] == pytest.approx(1, rel=1e-4) and good["identity"] > 0.5
    assert good["fid"] == pytest.approx(0, abs=1e-9) and good["fvd"] == pytest.approx(0, abs=1e-9)
    assert bad["psnr"] < 20 and bad["ssim"] < 0.9 and bad["fid"] > 0.01 and bad["fvd"] > 0.01
    assert (
        (good["sync_c"], good["sync_d"]) == (good["sync_c_real"], good["sync_d_real"]) != (bad["sync_c"], bad["sync_d"])
    )
    assert good["sync_d"] > 0 and good["sync_c"] >= 0 and abs(results[0]["videos"][0]["sync_offset"]) <= MAX_OFFSET
    assert not results[0]["not_measured"] and results[0]["counts"] == {"videos": 1, "pictures": 40, "clips": 2}


def test_the_program_writes_json_table_and_plots(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, generated, out = (tmp_path / name for name in ("real", "generated", "out"))
    sound = speech(1.6)
    for folder in (real, generated):
        write_video(folder / "one.mp4", person(16), audio=sound)
        write_video(folder / "sub" / "two.mp4", person(12) if folder == real else person(12, (200, 160)), audio=sound)
        write_video(folder / "blink.mp4", person(4), audio=sound)
        write_video(folder / f"only_in_{folder.name}.mp4", plain(10), audio=sound)
        (folder / "broken.mp4").write_bytes(b"0" * 100)
    save_arcface(tmp_path / "face.onnx")
    options = ["--real", str(real), "--generated", str(generated), "--out", str(out)]
    monkeypatch.setattr(sys, "argv", ["training", "metrics", *options, "--arcface", str(tmp_path / "face.onnx")])
    main()
    result = json.loads((out / "metrics.json").read_text("utf-8"))
    assert [row["name"] for row in result["videos"]] == ["one", "sub/two"]
    assert result["videos"][0]["psnr"] == 60 and result["videos"][1]["psnr"] < 30
    assert result["not_measured"].keys() == {"fid", "fvd", "sync_c", "sync_d"}
    assert "syncnet_v2.model" in result["not_measured"]["sync_c"] and "--i3d" in result["not_measured"]["fvd"]
    assert result["left_out"].keys() == {"broken", "blink"} and result["left_out"]["blink"] == "too short: 4 frames"
    table = cells((out / "metrics.md").read_text("utf-8"))
    assert "| videos | identity ↑ | PSNR ↑ (dB) | SSIM ↑ |" in table and "| sub/two |" in table
    assert "broken is left out" in table and "pt_inception-2015-12-05" in table
    assert (out / "identity.png").stat().st_size > 1000 and (out / "psnr.png").stat().st_size > 1000


def test_no_pairs_and_no_faces(tmp_path: Path) -> None:
    write_video(tmp_path / "a" / "x.mp4", plain(20), audio=speech(1.0))
    write_video(tmp_path / "b" / "y.mp4", plain(20), audio=speech(1.0))
    with pytest.raises(TrainingError, match=r"no video in .* has the name of one"):
        measure(tmp_path / "a", tmp_path / "b", tmp_path / "out", {})
    assert track_face(torch.from_numpy(np.stack(plain(3)))) is None
    save_arcface(tmp_path / "face.onnx")
    result = measure(tmp_path / "a", tmp_path / "a", tmp_path / "out", {"arcface": tmp_path / "face.onnx"})
    assert result["not_measured"]["identity"] == "not measured: no face is found"
    assert result["videos"][0]["note"] == "no face is found in the real video"
