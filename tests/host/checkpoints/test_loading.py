"""Load AsymTalker with small random networks of nano's kind: forms of their files, and what is said about them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from asymtalker.tests.helpers import Import

Write = Callable[[Path, dict[str, torch.Tensor], dict[str, str]], None]


def bare(file: Path, tensors: dict[str, torch.Tensor], metadata: dict[str, str]) -> None:
    save_file(tensors, file, metadata)


def with_config_beside(file: Path, tensors: dict[str, torch.Tensor], metadata: dict[str, str]) -> None:
    save_file(tensors, file)
    file.with_name("config.json").write_text(metadata["config"], encoding="utf-8")


def pickled(file: Path, tensors: dict[str, torch.Tensor], metadata: dict[str, str]) -> None:
    torch.save(tensors, file)
    file.with_name("config.json").write_text(metadata["config"], encoding="utf-8")


def cached(file: Path, tensors: dict[str, torch.Tensor], metadata: dict[str, str]) -> None:
    blob = file.with_name("blob")
    save_file(tensors, blob, metadata)
    file.symlink_to(blob.name)


FORMS: dict[str, tuple[str, Write]] = {
    "bare": ("asymtalker/mine/x.safetensors", bare),
    "config beside": ("asymtalker/mine/diffusion_pytorch_model.safetensors", with_config_beside),
    "bin": ("asymtalker/mine/diffusion_pytorch_model.bin", pickled),
    "in Hugging Face's cache": ("asymtalker/models--somebody--mine/snapshots/abc/x.safetensors", cached),
    "another pack's folder": ("diffusion_models/mine/x.safetensors", bare),
}


def load(pack: Import, choice: str) -> Any:
    return pack("host.checkpoints.loading").load_all(choice, "default", "default", "default")


def notes(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Lines of what was said about the files of the last load."""
    said = [record.getMessage() for record in caplog.records if "vae: " in record.getMessage()]
    return said[-1].removeprefix("AsymTalker: ").splitlines()


@pytest.mark.parametrize("form", FORMS)
def test_a_network_loads_in_every_form_and_its_file_is_said(
    pack: Import, folders: Path, network: tuple[Any, Any], caplog: pytest.LogCaptureFixture, form: str
) -> None:
    path, write = FORMS[form]
    file = folders / "models" / path
    file.parent.mkdir(parents=True)
    write(file, *network)
    choice = "mine/x.safetensors" if path.startswith("diffusion_models") else "asymtalker/mine"
    with caplog.at_level("INFO"):
        model, vae, _ = load(pack, choice)
    assert model.model.checkpoint.config.dim == 48
    assert notes(caplog) == [f"model: {path}, vae: asymtalker_nano_vae.safetensors (bundled)"]
    file_of = pack("host.checkpoints.sources").file_of
    assert file_of(model.clone().model) == path and file_of(vae)


def test_core_can_load_another_copy(
    comfy: Import, pack: Import, folders: Path, network: tuple[Any, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With dynamic VRAM (later versions), core's compile node takes a copy without; nodes that choose a device too."""
    file = folders / "models" / "asymtalker" / "mine" / "x.safetensors"
    file.parent.mkdir(parents=True)
    bare(file, *network)
    model, vae, _ = load(pack, "asymtalker/mine")
    monkeypatch.setattr(type(model), "is_dynamic", lambda self: True, raising=False)
    copies = [(model, comfy("comfy_extras.nodes_torch_compile").TorchCompileModel.execute(model, "eager").result[0])]
    if hasattr(model, "deepclone_multigpu"):
        copies += [(patcher, patcher.deepclone_multigpu(torch.device("cpu"))) for patcher in (model, vae.patcher)]
    for patcher, copy in copies:
        weights, copied = patcher.model.state_dict(), copy.model.state_dict()
        assert weights.keys() == copied.keys()
        assert all(torch.equal(copied[name], weight) for name, weight in weights.items())
        assert (copy.model is patcher.model) != hasattr(patcher, "deepclone_multigpu")
    _, compiled = copies[0]
    with pytest.raises(ValueError, match="made for another model"):
        compiled.clone().add_patches({})
    file_of = pack("host.checkpoints.sources").file_of
    assert compiled.model.checkpoint == model.model.checkpoint and file_of(compiled.model) == file_of(model.model)


def test_of_two_precisions_the_note_says_which_was_taken(
    pack: Import, folders: Path, network: tuple[Any, Any], caplog: pytest.LogCaptureFixture
) -> None:
    folder = folders / "models" / "asymtalker" / "mine"
    folder.mkdir(parents=True)
    bare(folder / "diffusion_pytorch_model.safetensors", *network)
    bare(folder / "diffusion_pytorch_model.bf16.safetensors", *network)
    with caplog.at_level("INFO"):
        load(pack, "asymtalker/mine")
    taken, others = notes(caplog)
    assert "asymtalker/mine/diffusion_pytorch_model.safetensors" in taken
    assert "asymtalker/mine/diffusion_pytorch_model.bf16.safetensors" in others and "choose" in others


ANOTHER_MODEL = {"_class_name": "FluxTransformer2DModel", "num_layers": 19, "patch_size": 1, "in_channels": 64}


def test_another_model_s_config_beside_it_is_not_read(pack: Import, folders: Path, network: tuple[Any, Any]) -> None:
    tensors, own = network
    file = folders / "models" / "diffusion_models" / "x.safetensors"
    file.with_name("config.json").write_text(json.dumps(ANOTHER_MODEL), encoding="utf-8-sig")
    read = pack("host.checkpoints.loading")._read_network
    save_file(tensors, file)
    _, metadata, notes = read(file)
    assert "config" not in metadata
    assert notes == ("model: diffusion_models/config.json was not read, because it is another model's",)
    save_file(tensors, file, own)
    assert read(file)[1:] == (own, ())


@pytest.mark.parametrize("config", ["", "[]", "{}", "{", '{"dim": 48}', '{"audio": "x"}', "[" * 100_000])
def test_what_may_be_its_own_config_is_read(pack: Import, folders: Path, config: str) -> None:
    file = folders / "config.json"
    file.write_text(config, encoding="utf-8")
    assert not pack("host.checkpoints.loading")._is_of_another_model(file)


@pytest.mark.parametrize(
    "content", [b"<!DOCTYPE html><html>Log in</html>", b"version https://git-lfs.github.com/spec/v1"]
)
@pytest.mark.parametrize("suffix", ["safetensors", "bin"])
def test_what_is_no_checkpoint_is_refused_with_its_path(
    pack: Import, folders: Path, content: bytes, suffix: str
) -> None:
    file = folders / "models" / "asymtalker" / "mine" / f"x.{suffix}"
    file.parent.mkdir(parents=True)
    file.write_bytes(content)
    with pytest.raises(pack("models.checkpoint").CheckpointError, match=rf"^model: .*mine.x\.{suffix}"):
        load(pack, "asymtalker/mine")


@pytest.mark.parametrize("content", [b"", b"hello", b"\x02\0\0\0\0\0\0\0{}"])
def test_a_file_that_cannot_be_used_is_refused_under_its_input(pack: Import, folders: Path, content: bytes) -> None:
    (folders / "models" / "vae" / "x.safetensors").write_bytes(content)
    refused = pack("models.checkpoint").CheckpointError, pack("models.config").ConfigError
    with pytest.raises(refused, match=r"^vae: .*x\.safetensors"):
        pack("host.checkpoints.loading").load_all("nano", "default", "x.safetensors", "default")


def test_the_sampler_s_report_says_which_files_were_used(pack: Import, folders: Path) -> None:
    model, vae, audio_encoder = load(pack, "nano")
    host = pack("jobs.sampling")
    continuity = pack("models.rollout").ContinuityOptions()
    samples = {"waveform": torch.randn(1, 1, 640), "sample_rate": 16_000}
    features = pack("host.audio").audio_features(audio_encoder, samples)
    image = torch.rand(1, 64, 64, 3)
    reference = pack("host.portrait").encode_reference(model, vae, image, 64, 64, "temporal", None)
    _, report = host.generate(model, vae, reference, features, host.Settings(0, 1, "auto", 0.0, 0.0, continuity), None)
    files = json.loads(report)["files"]
    assert files == {
        "model": "asymtalker_nano.safetensors (bundled)",
        "vae": "asymtalker_nano_vae.safetensors (bundled)",
        "audio_encoder": "log-mel (nano)",
    }
