"""The proof's command at a tiny size: everything is trained, measured, kept and summed up."""

from __future__ import annotations

import csv
import dataclasses
import json
from pathlib import Path

import pytest
import torch

pytest.importorskip(
    "skia", reason="no Skia, or none of the libraries it draws with (libegl1, libgl1)", exc_type=ImportError
)

from asymtalker.models.checkpoint import write_checkpoint
from asymtalker.models.nano_vae import NanoVAE, NanoVAEConfig
from asymtalker.tests.helpers import cells
from asymtalker.training.core.config import TrainingError, read_config
from asymtalker.training.core.paths import CONFIGS
from asymtalker.training.evaluation import prove as module
from asymtalker.training.evaluation.evaluate import evaluate
from asymtalker.training.evaluation.probe import FaceProbe
from asymtalker.training.evaluation.prove import Proof, prove, summarise
from asymtalker.training.recipes.teacher import TeacherTraining, train

CLIP_FRAMES = 89
METHODS = ("asymmetric", "teacher-20")


@dataclasses.dataclass
class Files:
    teacher: Path
    vae: Path
    probe: Path
    data: Path


@pytest.fixture(scope="module")
def small_configs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shipped configurations, narrow."""
    folder = tmp_path_factory.mktemp("configs")
    for name in ("nano_teacher.toml", "nano_teacher_articulation.toml"):
        teacher = (CONFIGS / name).read_text()
        for old, new in (("dim = 192", "dim = 32"), ("layers = 8", "layers = 1"), ("heads = 6", "heads = 1")):
            assert old in teacher
            teacher = teacher.replace(old, new)
        (folder / name).write_text(teacher.replace("batch = 8", "batch = 1"))
    akd = (CONFIGS / "nano_akd.toml").read_text()
    for old, new in (("critic_warmup = 20", "critic_warmup = 0"), ("chunks = 3", "chunks = 2")):
        assert old in akd
        akd = akd.replace(old, new)
    (folder / "nano_akd.toml").write_text(akd)
    return folder


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory, small_configs: Path) -> Files:
    folder = tmp_path_factory.mktemp("files")
    torch.manual_seed(0)
    config = NanoVAEConfig(width=16, encoder_blocks=1, decoder_blocks=1)
    write_checkpoint(folder / "vae.safetensors", NanoVAE(config).state_dict(), config.to_metadata())
    num_traits = 62
    write_checkpoint(folder / "face_probe.safetensors", FaceProbe(8, num_traits).state_dict(), {"width": "8"})
    data = folder / "clips"
    data.mkdir()
    tensors = {
        "latents": torch.randn(3, 48, 9, 16, 16).half(),
        "reference": torch.randn(48, 9, 16, 16).half(),
        "audio": torch.randint(-9000, 9000, (CLIP_FRAMES * 640,), dtype=torch.int16),
        "boxes": torch.tensor([0.4, 0.6, 0.6, 0.8]).repeat(CLIP_FRAMES, 1),
        "mouth": torch.rand(CLIP_FRAMES, 8),
    }
    write_checkpoint(data / "clip_0.safetensors", tensors, {})
    settings = read_config(TeacherTraining, small_configs / "nano_teacher.toml", ["steps = 1"])
    train(settings, data, folder / "teacher", 0, False)
    return Files(
        folder / "teacher/teacher.safetensors", folder / "vae.safetensors", folder / "face_probe.safetensors", data
    )


def test_proof_is_complete_and_not_done_twice(
    files: Files, small_configs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CONFIGS", small_configs)
    monkeypatch.setattr(module, "WINDOW_S", 1)
    seconds = dict.fromkeys(METHODS, 2) | {"teacher-20": 1}
    config = Proof(1, 1, 1, 5e-5, seconds, [1, 2], [0], 0, ["tre", "static"])

    def run(minutes: float) -> list[Path]:
        prove(config, files.teacher, files.vae, files.probe, files.data, tmp_path / "runs", tmp_path / "out", minutes)
        return sorted((tmp_path / "runs/videos").glob("*_seed*.json"))

    assert run(minutes=-1) == []
    results = run(minutes=1e9)
    assert len(results) == 2 * len(METHODS)
    times = [path.stat().st_mtime_ns for path in results]
    assert [path.stat().st_mtime_ns for path in run(minutes=1e9)] == times
    with (tmp_path / "out/results.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {(row["method"], row["reference"], int(row["at"])) for row in rows} == {
        (method, reference, at)
        for method in METHODS
        for reference in ("tre", "static")
        for at in ((1,) if method == "teacher-20" else (1, 2))
    }
    assert (tmp_path / "runs/drawing_static/teacher.safetensors").exists()
    assert (tmp_path / "out/drift.png").stat().st_size > 1000
    assert cells((tmp_path / "out/table.md").read_text()).count("| tre |") >= len(rows) / 2


def test_unknown_method_is_named() -> None:
    with pytest.raises(TrainingError, match="symmetric-both"):
        Proof(0, 1, 1, 5e-5, {"asymmetric": 2, "symmetric-both": 2}, [1], [0], 0, ["tre"])


def test_spread_is_over_the_seeds_and_differences_are_seed_by_seed(tmp_path: Path) -> None:
    sync = {
        ("asymmetric", "tre"): {0: 0.4, 1: 0.6},
        ("asymmetric", "static"): {1: 0.35},
        ("symmetric-gt", "tre"): {0: 0.3, 1: 0.5, 2: 0.9},
    }
    videos = tmp_path / "videos"
    videos.mkdir()
    for (method, reference), by_seed in sync.items():
        for seed, value in by_seed.items():
            video = {"method": method, "reference": reference, "seed": seed, "identity_per_second": [0.1] * 10}
            figures = dict.fromkeys(module.COLUMNS, 1.0) | {"sync": value}
            (videos / f"{method}_{reference}_seed{seed}.json").write_text(
                json.dumps({**video, "marks": {"10": figures}})
            )
    summarise(Proof(0, 1, 1, 5e-5, {"asymmetric": 10}, [10], [0, 1], 0, ["tre"]), videos, tmp_path)
    text = cells((tmp_path / "table.md").read_text())
    assert "| asymmetric | tre | 10 s | 2 | 0.5000 ± 0.1000 | 1.0000 ± 0.0000 |" in text
    assert "| symmetric-gt | tre | 10 s | 2 | 0.1000 ± 0.0000 | 0.0000 ± 0.0000 |" in text
    assert "| asymmetric | static | 10 s | 1 | 0.2500 ± 0.0000 | 0.0000 ± 0.0000 |" in text


def test_evaluation_writes_figures_and_pictures(files: Files, tmp_path: Path) -> None:
    evaluate(files.teacher, files.vae, files.probe, tmp_path, count=1, seconds=2.0, steps=1)
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert {"sync", "lag", "identity", "psnr", "head_motion", "seam"} <= metrics["mean"]["synthetic"].keys()
    assert metrics["mean"]["recorded"] == {}
    assert {path.name for path in tmp_path.glob("person_0*.png")} == {
        "person_0.png",
        "person_0_opening.png",
        "person_0_tracks.png",
    }
