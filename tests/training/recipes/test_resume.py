"""A run that is stopped and taken up again equals one that was never stopped."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from asymtalker.models.checkpoint import CheckpointError, read_checkpoint, write_checkpoint
from asymtalker.models.config import DiTConfig, SamplingConfig
from asymtalker.models.nano_vae import NanoVAE, NanoVAEConfig
from asymtalker.training.core.config import TrainingError, learning_rate, read_config
from asymtalker.training.core.distillation import AKDTraining
from asymtalker.training.core.distributed import joined_world
from asymtalker.training.core.inference import ReferenceTraining, load_for_sampling
from asymtalker.training.core.loop import TrainingRun
from asymtalker.training.core.paths import CONFIGS
from asymtalker.training.evaluation.evaluate import Generator
from asymtalker.training.recipes import akd, refine, teacher, vae
from asymtalker.training.recipes.refine import RefineTraining
from asymtalker.training.recipes.teacher import TeacherTraining
from asymtalker.training.recipes.vae import VAETraining

FRAMES = 89


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two encoded clips of three chunks at a quarter of the size, of random content."""
    folder = tmp_path_factory.mktemp("clips")
    generator = torch.Generator().manual_seed(0)
    for index in range(2):
        boxes = torch.tensor([0.4, 0.6, 0.6, 0.8]).expand(FRAMES, 4)
        tensors = {
            "latents": torch.randn(3, 48, 9, 4, 4, generator=generator).half(),
            "reference": torch.randn(48, 9, 4, 4, generator=generator).half(),
            "audio": torch.randint(-9000, 9000, (FRAMES * 640,), dtype=torch.int16, generator=generator),
            "boxes": boxes.clone(),
            "mouth": torch.rand(FRAMES, 8, generator=generator),
        }
        write_checkpoint(folder / f"clip_{index}.safetensors", tensors, {})
    return folder


@pytest.fixture(scope="module")
def small_vae(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    config = NanoVAEConfig(width=16, encoder_blocks=1, decoder_blocks=1)
    path = tmp_path_factory.mktemp("vae") / "vae.safetensors"
    write_checkpoint(path, NanoVAE(config).state_dict(), config.to_metadata())
    return path


def tiny(name: str = "nano_teacher.toml") -> TeacherTraining:
    config = read_config(TeacherTraining, CONFIGS / name, [])
    return dataclasses.replace(config, steps=4, batch=2, dim=32, layers=2, heads=1, crop=2, save_every=3)


def tiny_akd(**changes: object) -> AKDTraining:
    config = read_config(AKDTraining, CONFIGS / "nano_akd.toml", [])
    small = dataclasses.replace(config, steps=3, batch=1, critic_updates=2, critic_warmup=1, save_every=2)
    return dataclasses.replace(small, **changes)  # type: ignore[arg-type]


def run(config: TeacherTraining, clips: Path, out: Path) -> dict[str, torch.Tensor]:
    teacher.train(config, clips, out, workers=0, compile_network=False)
    return read_checkpoint(out / "teacher.safetensors")[0]


@pytest.fixture(scope="module")
def small_teacher(clips: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("teacher")
    run(tiny(), clips, out)
    return out / "teacher.safetensors"


@pytest.fixture(scope="module")
def student(clips: Path, small_vae: Path, small_teacher: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("student")
    akd.train(tiny_akd(), small_teacher, small_vae, clips, out, workers=0)
    return out / "student.safetensors"


def interrupted(monkeypatch: pytest.MonkeyPatch, stop_at: int, go: Callable[[], object]) -> None:
    """``go``, stopped within step ``stop_at``."""

    class Stopped(Exception):
        pass

    real = TrainingRun.set_learning_rate

    def stop(self: TrainingRun) -> None:
        if self.state.step == stop_at:
            raise Stopped
        real(self)

    with monkeypatch.context() as patch, pytest.raises(Stopped):
        patch.setattr(TrainingRun, "set_learning_rate", stop)
        go()


def assert_equal(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> None:
    assert all(torch.equal(a[name], b[name]) for name in a)


def test_resumed_teacher_equals_uninterrupted(
    clips: Path, small_teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupted(monkeypatch, 3, lambda: run(tiny(), clips, tmp_path))
    assert_equal(read_checkpoint(small_teacher)[0], run(tiny(), clips, tmp_path))
    assert (tmp_path / "losses.csv").read_text() == (small_teacher.parent / "losses.csv").read_text()
    assert (tmp_path / "losses.png").exists()


def torchrun(*arguments: str | Path) -> None:
    """Start two processes and wait for them."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*command, *map(str, arguments)], env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr[-3000:]


AVERAGE = """
import sys
from pathlib import Path
import torch
from asymtalker.models.checkpoint import write_checkpoint
from asymtalker.training.core.distributed import average_gradients, joined_world

with joined_world() as world:
    layer = torch.nn.Linear(2, 1)
    (layer(torch.ones(1, 2)) * (world.rank + 1)).sum().backward()
    average_gradients(layer.parameters(), world)
    write_checkpoint(Path(sys.argv[1]) / f"{world.rank}.safetensors", {"weight": layer.weight.grad}, {})
"""


def test_two_processes_share_a_teachers_batches(clips: Path, tmp_path: Path) -> None:
    """Started by torchrun, in bfloat16, stopped by a shorter run and continued."""
    small = {"dim": 32, "layers": 2, "heads": 1, "crop": 2, "batch": 4, "save_every": 1, "mixed_precision": "true"}
    out = tmp_path / "run"
    # "--": torchrun would take --start for one of its own options.
    command = ("-m", "--", "asymtalker.training", "teacher", "--data", clips, "--out", out, "--workers", "0")
    for steps in (1, 3):
        settings = [part for key, value in {**small, "steps": steps}.items() for part in ("--set", f"{key}={value}")]
        torchrun(*command, *settings)
        assert read_checkpoint(out / "state.safetensors")[1]["step"] == str(steps)
    assert len((out / "losses.csv").read_text().splitlines()) == 4
    assert all(tensor.isfinite().all() for tensor in read_checkpoint(out / "teacher.safetensors")[0].values())


def test_a_batch_that_cannot_be_shared_is_refused(clips: Path, tmp_path: Path) -> None:
    with joined_world() as alone, pytest.raises(TrainingError, match="batch of 2 cannot be divided among 3"):
        world = dataclasses.replace(alone, size=3)
        teacher.train(tiny(), clips, tmp_path, workers=0, compile_network=False, world=world)


def test_gradients_of_two_processes_become_their_mean(tmp_path: Path) -> None:
    script = tmp_path / "average.py"
    script.write_text(AVERAGE, encoding="utf-8")
    torchrun(script, tmp_path)
    for rank in range(2):
        gradient = read_checkpoint(tmp_path / f"{rank}.safetensors")[0]["weight"]
        assert torch.equal(gradient, torch.full((1, 2), 1.5))


def test_resumed_teacher_of_articulation_equals_uninterrupted(
    clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = dataclasses.replace(tiny("nano_teacher_articulation.toml"), steps=2, save_every=1)
    whole = run(config, clips, tmp_path / "whole")
    interrupted(monkeypatch, 1, lambda: run(config, clips, tmp_path / "parts"))
    assert_equal(whole, run(config, clips, tmp_path / "parts"))
    assert (tmp_path / "parts/losses.csv").read_text() == (tmp_path / "whole/losses.csv").read_text()


def test_resumed_distillation_equals_uninterrupted(
    clips: Path, small_vae: Path, small_teacher: Path, student: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def distil() -> dict[str, torch.Tensor]:
        akd.train(tiny_akd(), small_teacher, small_vae, clips, tmp_path, workers=0)
        return read_checkpoint(tmp_path / "student.safetensors")[0]

    whole = read_checkpoint(student)[0]
    interrupted(monkeypatch, 2, distil)
    assert_equal(whole, distil())
    assert not torch.equal(whole["head.head.weight"], read_checkpoint(small_teacher)[0]["head.head.weight"])


def test_resumed_vae_equals_uninterrupted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("skia", reason="no Skia, or none of its libraries", exc_type=ImportError)
    config = dataclasses.replace(
        read_config(VAETraining, CONFIGS / "nano_vae.toml", []), steps=2, batch=1, width=16, crop=32, save_every=1
    )

    def fit(out: Path) -> dict[str, torch.Tensor]:
        vae.train(config, out, workers=0)
        return read_checkpoint(out / "vae.safetensors")[0]

    whole = fit(tmp_path / "whole")
    interrupted(monkeypatch, 1, lambda: fit(tmp_path / "parts"))
    assert_equal(whole, fit(tmp_path / "parts"))


def test_resumed_refinement_equals_uninterrupted_and_leaves_the_encoder(
    clips: Path, small_vae: Path, small_teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = tmp_path / "drawn"
    drawn.mkdir()
    for path in clips.glob("clip_*.safetensors"):
        frames = torch.randint(0, 256, (FRAMES, 64, 64, 3), dtype=torch.uint8)
        boxes = torch.tensor([24, 36, 40, 52], dtype=torch.int32).repeat(FRAMES, 1)
        write_checkpoint(drawn / path.name, {"frames": frames, "mouth_boxes": boxes}, {})
    config = read_config(RefineTraining, CONFIGS / "nano_refine.toml", [])
    config = dataclasses.replace(config, steps=2, crop=32, save_every=1)

    def fit(out: Path) -> dict[str, torch.Tensor]:
        refine.train(config, small_teacher, small_vae, drawn, clips, out, workers=0, count=2)
        return read_checkpoint(out / "vae.safetensors")[0]

    whole = fit(tmp_path / "whole")
    interrupted(monkeypatch, 1, lambda: fit(tmp_path / "parts"))
    assert_equal(whole, fit(tmp_path / "parts"))
    before = read_checkpoint(small_vae)[0]
    changed = {name.split(".")[0] for name in before if not torch.equal(before[name], whole[name])}
    assert changed == {"decoder"}


def test_exports_are_read_by_the_loader(small_teacher: Path, student: Path) -> None:
    tensors, metadata = read_checkpoint(small_teacher)
    assert DiTConfig.from_state_dict(tensors, metadata) == tiny().network()
    tensors, metadata = read_checkpoint(student)
    assert DiTConfig.from_state_dict(tensors, metadata) == tiny().network()
    assert SamplingConfig.from_metadata(metadata) == SamplingConfig("few_step", 4, 5.0, detail=1.0)
    assert list(student.parent.glob("samples_*.png"))


def test_teacher_of_the_other_reference_is_refused(
    clips: Path, small_vae: Path, small_teacher: Path, tmp_path: Path
) -> None:
    with pytest.raises(TrainingError, match="static"):
        akd.train(tiny_akd(reference="static"), small_teacher, small_vae, clips, tmp_path, workers=0)


def test_reference_noise_is_published_and_checked(clips: Path, small_vae: Path, tmp_path: Path) -> None:
    uncertain = dataclasses.replace(tiny(), steps=1, reference_noise=2.0)
    run(uncertain, clips, tmp_path / "teacher")
    teacher_path = tmp_path / "teacher/teacher.safetensors"
    with pytest.raises(TrainingError, match=r"reference noise 2, but .* reference noise 0 is needed"):
        akd.train(tiny_akd(), teacher_path, small_vae, clips, tmp_path / "student", workers=0)
    settings = tiny_akd(steps=1, reference_noise=2.0)
    akd.train(settings, teacher_path, small_vae, clips, tmp_path / "student", workers=0)
    student_path = tmp_path / "student/student.safetensors"
    assert load_for_sampling(student_path).reference == ReferenceTraining("tre", 2.0)
    generator = Generator.load(student_path, small_vae)
    windows, reference = torch.zeros(1, 33, 5, 1, 320), torch.zeros(1, 48, 9, 4, 4)
    x, u = torch.randn(1, 48, 9, 4, 4), torch.tensor(0.5)
    condition = generator.conditioning(0)
    first, second = (condition(windows, reference, 1.0)(x, u) for _ in range(2))
    assert not torch.equal(first, second)
    assert torch.equal(generator.conditioning(0)(windows, reference, 1.0)(x, u), first)


def test_runs_from_before_a_setting_are_resumed(clips: Path, small_teacher: Path, tmp_path: Path) -> None:
    shutil.copytree(small_teacher.parent, tmp_path, dirs_exist_ok=True)
    state = tmp_path / "state.safetensors"
    saved = json.loads(read_checkpoint(state)[1]["training_config"])
    assert "mouth_weight" in saved and not saved.keys() & {"reference_noise", "prediction"}
    before = state.stat().st_mtime_ns
    run(tiny(), clips, tmp_path)
    assert state.stat().st_mtime_ns == before


def test_another_configuration_is_refused(clips: Path, small_teacher: Path, tmp_path: Path) -> None:
    shutil.copytree(small_teacher.parent, tmp_path, dirs_exist_ok=True)
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
