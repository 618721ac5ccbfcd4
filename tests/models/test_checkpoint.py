"""Checkpoint files: damaged and unsafe ones are refused by name, writing is all or nothing."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch

from asymtalker.models.checkpoint import CheckpointError, read_checkpoint, read_published, write_checkpoint

TENSORS = {"a": torch.arange(6.0).view(2, 3), "b": torch.ones(4)}


class MakesFolder:
    """Makes a folder when it is unpickled."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.folder),)


def test_safetensors_round_trip(tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "x.safetensors", TENSORS, {"config": "{}"})
    tensors, metadata = read_checkpoint(tmp_path / "x.safetensors")
    assert tensors.keys() == TENSORS.keys()
    assert all(torch.equal(tensors[name], TENSORS[name]) for name in TENSORS)
    assert metadata == {"config": "{}"}
    assert [path.name for path in tmp_path.iterdir()] == ["x.safetensors"]


@pytest.mark.parametrize("content", [TENSORS, {"state_dict": TENSORS, "epoch": 3}])
def test_pytorch_file(tmp_path: Path, content: dict[str, Any]) -> None:
    torch.save(content, tmp_path / "x.pth")
    tensors, metadata = read_checkpoint(tmp_path / "x.pth")
    assert tensors.keys() == TENSORS.keys() and metadata == {}


def test_config_beside_the_file(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"num_heads": 12}', encoding="utf-8")
    write_checkpoint(tmp_path / "bare.safetensors", TENSORS, {})
    write_checkpoint(tmp_path / "own.safetensors", TENSORS, {"config": '{"num_heads": 8}'})
    assert read_published(tmp_path / "bare.safetensors")[1]["config"] == '{"num_heads": 12}'
    assert read_published(tmp_path / "own.safetensors")[1]["config"] == '{"num_heads": 8}'
    assert read_checkpoint(tmp_path / "bare.safetensors")[1] == {}


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"no checkpoint .*absent\.safetensors"):
        read_checkpoint(tmp_path / "absent.safetensors")


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
@pytest.mark.parametrize("kept", [0.5, 0.0])
def test_truncated_file(tmp_path: Path, suffix: str, kept: float) -> None:
    path = tmp_path / f"cut{suffix}"
    if suffix == ".pth":
        torch.save(TENSORS, path)
    else:
        write_checkpoint(path, TENSORS, {})
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content))])
    with pytest.raises(CheckpointError, match=f"cut{suffix}.*truncated.*download it again"):
        read_checkpoint(path)


def test_pickle_with_code_is_not_run(tmp_path: Path) -> None:
    torch.save({"a": torch.ones(1), "code": MakesFolder(tmp_path / "made")}, tmp_path / "evil.ckpt")
    with pytest.raises(CheckpointError, match=r"evil\.ckpt holds Python code.*\.safetensors"):
        read_checkpoint(tmp_path / "evil.ckpt")
    assert not (tmp_path / "made").exists()


def test_pytorch_file_of_something_else(tmp_path: Path) -> None:
    torch.save([torch.ones(1)], tmp_path / "list.pt")
    with pytest.raises(CheckpointError, match="holds a list"):
        read_checkpoint(tmp_path / "list.pt")


def test_failed_writing_keeps_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    write_checkpoint(path, TENSORS, {})
    before = path.read_bytes()
    with pytest.raises(TypeError):
        write_checkpoint(path, TENSORS, {"config": 1})  # type: ignore[dict-item]
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["x.safetensors"]
