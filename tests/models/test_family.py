"""One table of the supported checkpoints: the texts and the bundled files agree with it."""

from __future__ import annotations

import json

import pytest

from asymtalker.models.checkpoint import read_checkpoint
from asymtalker.models.config import DiTConfig
from asymtalker.models.family import MODELS, NANO, NANO_DIRECTORY, NANO_NETWORK, ModelSpec, Weights
from asymtalker.tests.helpers import ROOT

DOWNLOADED = [name for name, spec in MODELS.items() if spec.network.repository]


def parts(spec: ModelSpec) -> list[Weights]:
    return [part for part in (spec.network, spec.vae, spec.audio_encoder, spec.fast_vae) if part is not None]


def test_nano_is_the_bundled_network() -> None:
    assert DiTConfig.from_state_dict(*read_checkpoint(NANO_NETWORK)) == NANO.config
    for part in parts(NANO):
        assert abs((NANO_DIRECTORY / part.main_file).stat().st_size / 1e9 - part.gigabytes) < 0.002


@pytest.mark.parametrize(("name", "keys"), [("pro", "keys_pro.json"), ("lite", "keys_lite.json")])
def test_geometries_are_those_of_the_published_tensors(name: str, keys: str) -> None:
    shapes = json.loads((ROOT / "tests" / "data" / keys).read_text("utf-8"))
    config = MODELS[name].config
    dim, in_dim, *patch = shapes["patch_embedding.weight"]
    assert (dim, in_dim, tuple(patch)) == (config.dim, config.in_dim, config.patch_size)
    assert ("audio_emb.proj.0.weight" in shapes) == config.has_audio_emb


@pytest.mark.parametrize("name", DOWNLOADED)
def test_readme_names_every_file_with_its_size(name: str) -> None:
    rows = [line for line in (ROOT / "README.md").read_text("utf-8").splitlines() if line.startswith("|")]
    for part in parts(MODELS[name]):
        size = f"{part.gigabytes} GB" if part.gigabytes >= 0.1 else f"{part.gigabytes * 1000:.0f} MB"
        (row,) = [line for line in rows if f"({size})" in line and (part.folder or part.main_file) in line]
        assert part.single_file in row


@pytest.mark.parametrize("name", DOWNLOADED)
def test_help_page_names_every_file(name: str) -> None:
    page = (ROOT / "web" / "docs" / "AsymTalkerLoader.md").read_text("utf-8")
    for part in parts(MODELS[name]):
        assert (part.folder or part.title) in page and part.main_file.removesuffix(".safetensors") in page


@pytest.mark.parametrize("name", DOWNLOADED)
def test_the_graph_names_every_file_and_the_size_of_all(name: str) -> None:
    spec = MODELS[name]
    (file,) = (ROOT / "workflows").glob(f"* {spec.title} - *.json")
    text = file.read_text("utf-8")
    needed = [part for part in (spec.network, spec.vae, spec.audio_encoder) if part is not None]
    assert f"{sum(part.gigabytes for part in needed):.1f} GB" in text
    for part in needed:
        assert f"https://huggingface.co/{part.repository}" in text
        assert all(f"{part.folder or part.title}/{name}" in text for name in part.files)


def test_licences_are_listed() -> None:
    text = (ROOT / "THIRD_PARTY.md").read_text("utf-8").replace("\n", " ")
    for name in DOWNLOADED:
        for part in parts(MODELS[name]):
            title = part.title.removesuffix(" Pro").removesuffix(" Lite").split(" 0.9.0")[0]
            assert title in text and part.licence in text
