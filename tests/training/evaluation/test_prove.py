"""The proof's command at a tiny size: everything is trained, measured, kept and summed up."""

from __future__ import annotations

import csv
import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
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
from asymtalker.training.evaluation.evaluate import Generator, evaluate
from asymtalker.training.evaluation.exposure import ExposureMeter, table
from asymtalker.training.evaluation.probe import FaceProbe
from asymtalker.training.evaluation.prove import Material, Proof, prove, summarise
from asymtalker.training.evaluation.subjects import synthetic_subject
from asymtalker.training.recipes.teacher import TeacherTraining, train

CLIP_FRAMES = 89
METHODS = ("asymmetric", "teacher-20")


@dataclasses.dataclass
class Files:
    teacher: Path
    vae: Path
    probe: Path
    data: Path


def proof(**changes: Any) -> Proof:
    """A proof of one step each."""
    settings: dict[str, Any] = {
        "start": "teacher",
        "teacher": [{"config": "nano_teacher.toml", "steps": 1, "crop_until": 0.0}],
        "student": {"config": "nano_akd.toml", "steps": 1, "learning_rate": 5e-5},
        "networks": [0],
        "references": ["tre"],
        "seconds": {"asymmetric": 2},
        "marks": [1],
        "seeds": [0],
        "subjects": [0],
        "colors": [1.0],
        "size": 256,
    }
    return Proof(**settings | changes)


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
    drawing = {"config": "nano_teacher_articulation.toml", "steps": 1, "crop_until": 1.0}
    config = proof(
        start="audio",
        teacher=[drawing, {"config": "nano_teacher.toml", "steps": 1, "crop_until": 0.0}],
        seconds=seconds,
        marks=[1, 2],
        references=["tre", "static"],
    )
    material = Material(files.teacher, files.vae, files.data, tmp_path / "runs")

    def run(minutes: float) -> list[Path]:
        prove(config, material, files.probe, tmp_path / "out", minutes)
        return sorted((tmp_path / "runs/videos").glob("*.json"))

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
    assert (tmp_path / "runs/teacher0_static_network0/teacher.safetensors").exists()
    assert len(list((tmp_path / "runs/videos").glob("*.png"))) == len(results)
    assert (tmp_path / "out/drift.png").stat().st_size > 1000
    assert cells((tmp_path / "out/table.md").read_text()).count("| tre |") >= len(rows) / 2


def test_unknown_method_is_named() -> None:
    with pytest.raises(TrainingError, match="symmetric-both"):
        proof(seconds={"asymmetric": 2, "symmetric-both": 2})


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"start": "nothing"}, "start"),
        ({"teacher": [{"config": "nano_teacher.toml", "stepps": 1}]}, "stepps"),
        ({"start": "audio", "teacher": []}, "condition_on"),
        ({"start": "audio", "teacher": [{"config": "nano_teacher_articulation.toml", "steps": 1}]}, "condition_on"),
        ({"teacher": [], "references": ["static"]}, "references"),
        ({"student": {"steps": 1}}, "config"),
    ],
)
def test_a_wrong_training_is_named(changes: dict[str, Any], named: str, files: Files, tmp_path: Path) -> None:
    material = Material(files.teacher, files.vae, files.data, tmp_path / "runs")
    with pytest.raises(TrainingError, match=named):
        prove(proof(**changes), material, files.probe, tmp_path / "out", 1e9)


def test_networks_differ_in_seed_alone() -> None:
    config = proof(networks=[0, 1], references=["static"])
    first, second = (
        module._configured(TeacherTraining, {"config": "nano_teacher.toml", "steps": 7}, video)
        for video in module.videos(config)
    )
    assert first.steps == 7 and first.reference == "static"
    assert second == dataclasses.replace(first, seed=first.seed + module.SEEDS_APART)


def test_spread_is_over_the_runs_and_differences_are_run_by_run(tmp_path: Path) -> None:
    sync = {
        ("asymmetric", "tre"): {0: 0.4, 1: 0.6},
        ("asymmetric", "static"): {1: 0.35},
        ("symmetric-gt", "tre"): {0: 0.3, 1: 0.5, 2: 0.9},
    }
    videos = tmp_path / "videos"
    videos.mkdir()
    for (method, reference), by_seed in sync.items():
        for seed, value in by_seed.items():
            for subject in (0, 1):
                video = module.Video(method, reference, 0, seed, subject, 1.0)
                # What differs between people is averaged before runs are compared.
                figures = dict.fromkeys(module.COLUMNS, 1.0) | {"sync": value + 0.02 * subject - 0.01}
                record: dict[str, Any] = {
                    **dataclasses.asdict(video),
                    "identity_per_second": [0.1] * 10,
                    "marks": {"10": figures},
                }
                (videos / f"{video.name}.json").write_text(json.dumps(record))
    # The person whom only one method has is no part of their difference.
    (videos / f"{module.Video('symmetric-gt', 'tre', 0, 0, 1, 1.0).name}.json").unlink()
    summarise(proof(seconds={"asymmetric": 10}, marks=[10], seeds=[0, 1]), videos, tmp_path)
    text = cells((tmp_path / "table.md").read_text())
    assert "| asymmetric | tre | 1 | 10 s | 2 | 4 | 0.5000 ± 0.1000 | 1.0000 ± 0.0000 |" in text
    assert "| symmetric-gt | tre | 1 | 10 s | 2 | 3 | 0.1000 ± 0.0000 | 0.0000 ± 0.0000 |" in text
    assert "| asymmetric | static | 1 | 10 s | 1 | 2 | 0.2500 ± 0.0000 | 0.0000 ± 0.0000 |" in text


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


def test_exposure_compares_continuity_frames(files: Files) -> None:
    generator = Generator.load(files.teacher, files.vae, steps=1)
    subject = synthetic_subject(1, 0, 4.0)
    chunks = list(ExposureMeter(generator, generator, FaceProbe.load(files.probe), subject).read(2))
    # Chunk 1 follows true frames in both cases.
    assert chunks[0].own == chunks[0].true and chunks[0].target_own == chunks[0].target_true
    assert chunks[1].own != chunks[1].true and chunks[1].target_own != chunks[1].target_true
    measured = np.array([dataclasses.astuple(chunk) for chunk in chunks])
    assert cells(table({"teacher": measured})).count(f"{chunks[1].own:.2f}") >= 1
