"""A checkpoint's identity is that of its content, also where it is known without reading it again."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from asymtalker.tests.helpers import Import

Network = tuple[dict[str, torch.Tensor], dict[str, str]]


@pytest.fixture
def file(folders: Path, network: Network) -> Path:
    path = folders / "models" / "diffusion_models" / "mine.safetensors"
    save_file(network[0], path, network[1])
    return path


def load(pack: Import) -> Any:
    return pack("host.checkpoints.loading").load_all("mine.safetensors", "default", "default", "default")[0]


def test_a_file_is_hashed_once(pack: Import, file: Path, folders: Path, network: Network) -> None:
    assert load(pack).model.checkpoint.weights_id == pack("host.model").weights_fingerprint(network[0])
    place = folders / "user" / "asymtalker" / "fingerprints.json"
    (key,) = json.loads(place.read_text())
    # What is kept is what counts from now on.
    place.write_text(json.dumps({key: "f" * 64}))
    assert load(pack).model.checkpoint.weights_id == "f" * 64


def test_another_content_of_the_same_size_and_time_is_another_network(
    pack: Import, file: Path, network: Network
) -> None:
    first = load(pack).model.checkpoint.weights_id
    status = file.stat()
    tensors = {name: tensor + 1 for name, tensor in network[0].items()}
    save_file(tensors, file, network[1])
    assert file.stat().st_size == status.st_size
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert load(pack).model.checkpoint.weights_id == pack("host.model").weights_fingerprint(tensors) != first


@pytest.mark.parametrize("content", [b"", b"[]", b'{"a": 1}', b"{", b"\xff"])
def test_a_damaged_list_is_made_anew(pack: Import, file: Path, folders: Path, network: Network, content: bytes) -> None:
    place = folders / "user" / "asymtalker" / "fingerprints.json"
    place.parent.mkdir(parents=True)
    place.write_bytes(content)
    assert load(pack).model.checkpoint.weights_id == pack("host.model").weights_fingerprint(network[0])


@pytest.mark.skipif(os.name == "nt", reason="maps are read as Linux gives them")
def test_on_a_cpu_the_weights_stay_in_the_file_s_pages(pack: Import, file: Path) -> None:
    """And a LoRA's changes of them do not reach the file."""
    content = file.read_bytes()
    model = load(pack)
    weight = model.model.diffusion_model.blocks[0].self_attn.q.weight
    spans = [
        tuple(int(end, 16) for end in line.split()[0].split("-"))
        for line in Path("/proc/self/maps").read_text().splitlines()
        if str(file) in line
    ]
    assert any(start <= weight.data_ptr() < stop for start, stop in spans)
    with torch.no_grad():
        weight.add_(1)
    assert file.read_bytes() == content
