"""The 1.3B trainers: the published shapes, and the same result however many processes share the work."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from asymtalker.models.checkpoint import CheckpointError, read_checkpoint, write_checkpoint
from asymtalker.models.config import AUDIO_WINDOW, DiTConfig, SamplingConfig
from asymtalker.models.dit import TalkingHeadDiT
from asymtalker.models.nano_vae import NanoVAE, NanoVAEConfig
from asymtalker.scripts._environment import ROOT
from asymtalker.tests.models.tiny import randomise
from asymtalker.training.core.config import TrainingError, read_config
from asymtalker.training.core.data import Batch, PreparedClips
from asymtalker.training.core.distributed import World, joined_world
from asymtalker.training.core.family import GEOMETRIES, geometry
from asymtalker.training.core.shards import Shards
from asymtalker.training.core.teaching import drop_audio, teacher_loss
from asymtalker.training.recipes import full_akd, full_teacher
from asymtalker.training.recipes.full_akd import FullAKDTraining
from asymtalker.training.recipes.full_teacher import FullTeacherTraining

CONFIGS = ROOT / "training" / "configs"
PARAMETERS = {"pro": 1_507_694_912, "lite": 1_526_864_256}
SMALL = {
    "dim": 48,
    "ffn_dim": 64,
    "num_heads": 2,
    "num_layers": 2,
    "freq_dim": 32,
    "text_dim": 8,
    "has_audio_emb": False,
    "audio": {"blocks": 2, "channels": 6, "intermediate_dim": 16, "context_tokens": 3},
}
CHANGES = {"steps": 3, "batch": 4, "micro_batch": 1, "save_every": 2, "mixed_precision": False, "network": SMALL}
DECAYING = {"decay": 0.01}
"""Of the teacher that is stopped."""


def teacher_config(**changes: object) -> FullTeacherTraining:
    config = read_config(FullTeacherTraining, CONFIGS / "full_pro_teacher.toml", [])
    return dataclasses.replace(config, learning_rate=1e-3, warmup=1, **(CHANGES | changes))


def akd_config(**changes: object) -> FullAKDTraining:
    config = read_config(FullAKDTraining, CONFIGS / "full_pro_akd.toml", [])
    reduced = {"learning_rate": 1e-3, "warmup": 1, "chunks": 2, "denoising_steps": 4, "critic_updates": 1}
    return dataclasses.replace(config, critic_warmup=1, **(CHANGES | reduced | {"steps": 2} | changes))


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Clips as `prepare --model pro` writes them, of random content and few latent sites."""
    folder = tmp_path_factory.mktemp("clips")
    generator = torch.Generator().manual_seed(0)
    for index in range(3):
        tensors = {
            "latents": torch.randn(2, 16, 9, 4, 4, generator=generator).half(),
            "reference": torch.randn(16, 9, 4, 4, generator=generator).half(),
            "audio": torch.zeros(61 * 640, dtype=torch.int16),
            "features": torch.randn(61, 2, 6, generator=generator).half(),
            "boxes": torch.tensor([0.4, 0.6, 0.6, 0.8]).expand(61, 4).clone(),
        }
        write_checkpoint(folder / f"clip_{index}.safetensors", tensors, {})
    return folder


@pytest.fixture(scope="module")
def teacher_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random network at reduced width, as published: without metadata on how it is sampled."""
    network = TalkingHeadDiT(geometry("pro", SMALL))
    randomise(network, seed=3, std=0.1)
    path = tmp_path_factory.mktemp("teacher") / "teacher.safetensors"
    write_checkpoint(path, network.state_dict(), network.config.to_metadata())
    return path


def codec() -> NanoVAE:
    """Stands for the Wan VAE at a time stride of 4 and its number of channels."""
    vae = NanoVAE(NanoVAEConfig(latent_channels=16, width=16, encoder_blocks=1, decoder_blocks=1))
    randomise(vae, seed=2, std=0.1)
    return vae.eval().requires_grad_(False)


def train(world: World, kind: str, clips: Path, out: Path, teacher: Path, **changes: object) -> None:
    if kind == "teacher":
        full_teacher.train(teacher_config(**changes), world, clips, out, 0, teacher)
    else:
        full_akd.train(akd_config(**changes), world, codec(), teacher, clips, out, 0)


def run_here(kind: str, clips: Path, out: Path, teacher: Path, **changes: object) -> None:
    with joined_world() as world:
        train(world, kind, clips, out, teacher, **changes)


@pytest.fixture(scope="module")
def by_two_processes(clips: Path, teacher_file: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """What two processes made, started by torchrun as users do; both trainers in one start, which takes longest."""
    folder = tmp_path_factory.mktemp("two")
    out = {"teacher": folder / "teacher", "akd": folder / "akd"}
    changes: dict[str, dict[str, object]] = {"teacher": {**DECAYING, "steps": 2}, "akd": {}}
    runs = [(kind, str(clips), str(out[kind]), str(teacher_file), changes[kind]) for kind in out]
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", __file__]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*command, json.dumps(runs)], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return out


def assert_equal(first: Path, second: Path, tolerance: float = 1e-5) -> None:
    (a, metadata), (b, same_metadata) = read_checkpoint(first), read_checkpoint(second)
    assert metadata == same_metadata and a.keys() == b.keys()
    for name in a:
        assert torch.allclose(a[name].float(), b[name].float(), atol=tolerance, rtol=1e-4), name


@pytest.mark.parametrize("model", ["pro", "lite"])
def test_the_published_shapes(model: str) -> None:
    expected = json.loads((ROOT / "tests" / "data" / f"keys_{model}.json").read_text("utf-8"))
    for stage, kind in (("teacher", FullTeacherTraining), ("akd", FullAKDTraining)):
        config = read_config(kind, CONFIGS / f"full_{model}_{stage}.toml", [])
        network = TalkingHeadDiT(geometry(config.model, config.network), device="meta")
        assert {name: list(tensor.shape) for name, tensor in network.state_dict().items()} == expected
        assert sum(parameter.numel() for parameter in network.parameters()) == PARAMETERS[model]
        assert config.batch % config.micro_batch == 0 and (config.batch // config.micro_batch) % 8 == 0
    audio = GEOMETRIES[model].audio
    windows = torch.empty(1, 33, AUDIO_WINDOW, audio.blocks, audio.channels, device="meta")
    latents = torch.empty(1, GEOMETRIES[model].out_dim, GEOMETRIES[model].latent_frames(33), 16, 16, device="meta")
    flow = network(latents, torch.empty(1, device="meta"), network.encode_audio(windows), latents)
    assert flow.shape == latents.shape


def test_a_step_is_the_teachers_own_loss_on_the_whole_batch(clips: Path, teacher_file: Path, tmp_path: Path) -> None:
    """Sharding, recomputation and micro-batches give what the plain network gives in one piece."""
    config = teacher_config(steps=1, save_every=1, ema_decay=0.0)
    run_here("teacher", clips, tmp_path, teacher_file, steps=1, save_every=1, ema_decay=0.0)
    network = TalkingHeadDiT(config_network())
    network.load_state_dict(read_checkpoint(teacher_file)[0])
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3, betas=(0.9, 0.98), weight_decay=config.weight_decay)
    samples = PreparedClips(clips, config.seed, config.batch)
    for index in range(config.batch):
        batch = Batch(*(part[None] for part in samples[index]))
        generator = torch.Generator().manual_seed(config.seed * 1_000_003 + index)
        tokens = network.encode_audio(drop_audio(batch.windows[:, 0], config.audio_dropout, generator))
        (teacher_loss(network, tokens, batch, config, generator) / config.batch).backward()
    torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
    optimizer.step()
    trained, metadata = read_checkpoint(tmp_path / "state.safetensors")
    assert metadata["step"] == "1"
    for name, parameter in network.named_parameters():
        assert torch.allclose(trained[f"network.teacher.{name}"], parameter, atol=2e-6), name


def config_network() -> DiTConfig:
    return geometry("pro", SMALL)


def test_two_processes_equal_one_across_a_stop(
    clips: Path, teacher_file: Path, by_two_processes: dict[str, Path], tmp_path: Path
) -> None:
    """Two processes begin, one ends what they began: the same as one alone."""
    two = by_two_processes["teacher"]
    run_here("teacher", clips, tmp_path / "one", teacher_file, **DECAYING)
    assert read_checkpoint(two / "state.safetensors")[1]["step"] == "2"
    run_here("teacher", clips, two, teacher_file, **DECAYING)
    assert_equal(tmp_path / "one" / "state.safetensors", two / "state.safetensors")
    assert len((two / "losses.csv").read_text().splitlines()) == 1 + 3
    assert_published(two, "teacher", "euler", teacher_file)


def test_two_processes_equal_one_in_distillation(
    clips: Path, teacher_file: Path, by_two_processes: dict[str, Path], tmp_path: Path
) -> None:
    """An update of the student by four rollouts, of which each process makes two."""
    run_here("akd", clips, tmp_path / "one", teacher_file)
    assert_equal(tmp_path / "one" / "state.safetensors", by_two_processes["akd"] / "state.safetensors")
    assert_published(by_two_processes["akd"], "student", "few_step", teacher_file)


def assert_published(out: Path, name: str, sampler: str, start: Path) -> None:
    """The network has moved, and what is published is what the loader reads."""
    published, metadata = read_checkpoint(out / f"{name}.safetensors")
    assert {tensor.dtype for tensor in published.values()} == {torch.bfloat16}
    assert DiTConfig.from_state_dict(published, metadata) == config_network()
    assert SamplingConfig.from_metadata(metadata).sampler == sampler
    before, after = read_checkpoint(start)[0], read_checkpoint(out / "state.safetensors")[0]
    moved = [key for key in before if (before[key] - after[f"network.{name}.{key}"]).abs().max() > 5e-4]
    assert len(moved) > 0.8 * len(before)


def test_it_starts_from_initial_weights_and_learns(clips: Path, tmp_path: Path) -> None:
    with joined_world() as world:
        full_teacher.train(teacher_config(steps=12, save_every=12, audio_dropout=0.0), world, clips, tmp_path, 0)
    rows = (tmp_path / "losses.csv").read_text().splitlines()
    losses = [float(row.split(",")[1]) for row in rows[1:]]
    assert len(losses) == 12 and all(math.isfinite(loss) for loss in losses)
    assert sum(losses[-4:]) < sum(losses[:4])


def test_mixed_precision_stays_close(clips: Path, teacher_file: Path) -> None:
    """Forward only: CPUs compute the gradient of a bfloat16 Conv3d wrongly."""
    sample = PreparedClips(clips, seed=1, length=2)[0]
    latents, reference, windows = sample[0], sample[1][None], sample[2]
    timestep = torch.tensor([873.0])
    flows = []
    with joined_world() as world, torch.no_grad():
        for mixed in (False, True):
            shards = Shards(teacher_config(mixed_precision=mixed), world)
            network = shards.network(teacher_file)
            with shards.precision():
                flows.append(network(latents, timestep, network.encode_audio(windows), reference).float())
    assert not torch.equal(flows[0], flows[1])
    assert (flows[0] - flows[1]).abs().mean() < 0.03 * flows[0].abs().mean()


def test_bad_input_is_named(clips: Path, teacher_file: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"full_pro_teacher.toml: unknown keys \['micro_batches'\]"):
        read_config(FullTeacherTraining, CONFIGS / "full_pro_teacher.toml", ["micro_batches = 2"])
    with pytest.raises(TrainingError, match=r"network: .*'width'"):
        geometry("pro", {"width": 3})
    with pytest.raises(TrainingError, match="model must be one of"):
        geometry("nano", {})
    with joined_world() as world:
        with pytest.raises(TrainingError, match="batch of 4 in micro-batches of 3"):
            Shards(teacher_config(micro_batch=3), world)
        wider = teacher_config(network=SMALL | {"ffn_dim": 80})
        with pytest.raises(TrainingError, match=r"teacher.safetensors is no pro network: blocks.0.ffn.0.*64"):
            Shards(wider, world).network(teacher_file)
        deeper = teacher_config(network=SMALL | {"num_layers": 3})
        with pytest.raises(TrainingError, match=r"lacks 27 tensors of this network, such as blocks.2"):
            Shards(deeper, world).network(teacher_file)
    static = tmp_path / "static.safetensors"
    write_checkpoint(static, read_checkpoint(teacher_file)[0], {"reference": "static"})
    with joined_world() as world, pytest.raises(TrainingError, match=r"static.safetensors was trained with reference"):
        full_akd.train(akd_config(), world, codec(), static, clips, tmp_path / "out", 0)
    torn = tmp_path / "torn.safetensors"
    torn.write_bytes(teacher_file.read_bytes()[:-100])
    with joined_world() as world, pytest.raises(CheckpointError, match=r"torn.safetensors is not a complete"):
        Shards(teacher_config(), world).network(torn)


if __name__ == "__main__":
    with joined_world() as both:
        for kind, *paths, changed in json.loads(sys.argv[1]):
            train(both, kind, *map(Path, paths), **changed)
