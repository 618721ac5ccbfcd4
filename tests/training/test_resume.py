"""A run that is stopped and taken up again equals one that was never stopped."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch

from models.checkpoint import CheckpointError, read_checkpoint, write_checkpoint
from models.config import DiTConfig
from training import teacher
from training.config import TrainingError, learning_rate, read_config
from training.teacher import TeacherTraining

CONFIGS = Path(__file__).parents[2] / "training" / "configs"


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two encoded clips of two chunks at a quarter of the size, of random content."""
    folder = tmp_path_factory.mktemp("clips")
    generator = torch.Generator().manual_seed(0)
    for index in range(2):
        boxes = torch.tensor([0.4, 0.6, 0.6, 0.8]).expand(61, 4)
        tensors = {
            "latents": torch.randn(2, 48, 9, 4, 4, generator=generator).half(),
            "reference": torch.randn(48, 9, 4, 4, generator=generator).half(),
            "audio": torch.randint(-9000, 9000, (61 * 640,), dtype=torch.int16, generator=generator),
            "boxes": boxes.clone(),
            "mouth": torch.rand(61, 3, generator=generator),
        }
        write_checkpoint(folder / f"clip_{index}.safetensors", tensors, {})
    return folder


def tiny() -> TeacherTraining:
    config = read_config(TeacherTraining, CONFIGS / "nano_teacher.toml", [])
    return dataclasses.replace(
        config, steps=6, batch=2, audio_steps=2, audio_batch=3, dim=32, layers=2, heads=1, crop=2
    )


def run(config: TeacherTraining, clips: Path, out: Path) -> dict[str, torch.Tensor]:
    teacher.train(config, clips, out, workers=0, compile_network=False)
    return read_checkpoint(out / "teacher.safetensors")[0]


@pytest.mark.parametrize("stop_at", [1, 4])
def test_resumed_equals_uninterrupted(
    clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop_at: int
) -> None:
    whole = run(tiny(), clips, tmp_path / "whole")

    class Stopped(Exception):
        pass

    real_report = teacher.report

    def stop(writer: object, step: int, terms: dict[str, float]) -> None:
        if step == stop_at + 1:
            raise Stopped
        real_report(writer, step, terms)  # type: ignore[arg-type]

    monkeypatch.setattr(teacher, "SAVE_EVERY", 1)
    with monkeypatch.context() as patch, pytest.raises(Stopped):
        patch.setattr(teacher, "report", stop)
        run(tiny(), clips, tmp_path / "parts")
    resumed = run(tiny(), clips, tmp_path / "parts")
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


def test_export_is_read_by_the_loader(clips: Path, tmp_path: Path) -> None:
    run(tiny(), clips, tmp_path)
    tensors, metadata = read_checkpoint(tmp_path / "teacher.safetensors")
    assert DiTConfig.from_state_dict(tensors, metadata) == tiny().network()


def test_another_configuration_is_refused(clips: Path, tmp_path: Path) -> None:
    run(tiny(), clips, tmp_path)
    with pytest.raises(CheckpointError, match="mouth_weight"):
        run(dataclasses.replace(tiny(), mouth_weight=1.0), clips, tmp_path)


def test_unknown_key_is_named(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="learning_rat"):
        read_config(TeacherTraining, CONFIGS / "nano_teacher.toml", ["learning_rat = 1.0"])


def test_no_clips_is_said(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="no encoded clips"):
        run(tiny(), tmp_path, tmp_path / "out")


def test_learning_rate_ends_small() -> None:
    assert learning_rate(0, 100, 1.0, 10, 0.25) == pytest.approx(0.1)
    assert learning_rate(75, 100, 1.0, 10, 0.25) == pytest.approx(1.0)
    assert learning_rate(100, 100, 1.0, 10, 0.25) == pytest.approx(0.05)
