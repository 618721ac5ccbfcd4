"""The benchmark command runs nano on the CPU and writes what it says."""

from __future__ import annotations

import copy
import json
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from asymtalker.benchmarks.__main__ import main
from asymtalker.benchmarks.geometries import load_geometry
from asymtalker.benchmarks.gpu import run_part
from asymtalker.benchmarks.gpu_parts import Figures, run_stages, run_variants
from asymtalker.benchmarks.stages import Bench
from asymtalker.benchmarks.vae import Variant, row


def test_nano_on_the_cpu(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "figures.json"
    assert (
        main(["--geometry", "nano", "--device", "cpu", "--repeats", "1", "--seconds", "0.2", "--json", str(file)]) == 0
    )
    (nano,) = json.loads(file.read_text(encoding="utf-8"))["geometries"]
    stages = {stage["name"]: stage for stage in nano["stages"]}
    assert list(stages) == [
        "audio features",
        "reference",
        "audio keys and values",
        "network, one step",
        "decode",
        "colour",
        "detail",
        "continuity encode",
        "hand-over to the spool",
        "mp4 encode",
    ]
    assert all(stage["seconds"] > 0 for stage in stages.values())
    assert stages["network, one step"]["calls_per_chunk"] >= nano["steps"]
    assert nano["chunk"]["complete"] and nano["chunk"]["fps"] > 0
    table = capsys.readouterr().out
    assert all(name in table for name in stages) and "whole chunk" in table


def test_contention_measures_in_one_process(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["contention", "--worker", "--adapt", "--seconds", "0"]) == 0
    assert float(capsys.readouterr().out) > 0


def test_large_geometries_are_left_out_on_a_cpu(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--geometry", "pro", "--device", "cpu"]) == 1
    assert "--large-on-cpu" in capsys.readouterr().err


@pytest.mark.parametrize("wrong", [["--seconds", "0"], ["--repeats", "0"], ["--geometry", "huge"]])
def test_wrong_options(wrong: list[str]) -> None:
    with pytest.raises(SystemExit):
        main(wrong)


def test_peers_wants_flashheads_code(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["peers", str(tmp_path)])
    assert "no clone of SoulX-FlashHead" in capsys.readouterr().err


WRITER = """import sys; open(sys.argv[-1], "w").write('{"step": 1.5}'); """


def test_a_part_that_dies_keeps_its_figures() -> None:
    assert run_part([sys.executable, "-c", WRITER], 60) == ({"step": 1.5}, "")
    assert run_part([sys.executable, "-c", WRITER + "sys.exit(3)"], 60) == ({"step": 1.5}, "exit status 3")
    assert run_part([sys.executable, "-c", "import time; time.sleep(600)"], 0.1) == ({}, "stopped after 0 s")


def test_a_variant_that_fails_costs_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COMFYUI_PATH", raising=False)
    geometry = load_geometry("nano", torch.device("cpu"), smallest=True)
    bench = Bench(geometry, 0.2)
    stages = {"fails": (lambda: 1 / 0, 28, 1), "works": (lambda: None, 28, 1)}
    monkeypatch.setattr(bench, "stages", lambda: stages)
    monkeypatch.setattr(bench, "step", lambda: 1 / 0)
    figures = Figures(tmp_path / "figures.json")
    run_stages(geometry, bench, 1, figures)
    run_variants(geometry, bench, 1, figures)
    found = json.loads((tmp_path / "figures.json").read_text(encoding="utf-8"))
    assert list(found["stages of nano"]["failed"]) == ["fails"]
    assert [stage["name"] for stage in found["stages of nano"]["stages"]] == ["works"]
    assert found["variants of nano"]["ms"]["step"] is None and found["variants of nano"]["ms"]["decode"] > 0


def test_spool_says_how_frames_were_stored(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["spool", "--size", "64", "--chunks", "2"]) == 0
    assert "56 frames of 64x64" in capsys.readouterr().out


class Tinted(nn.Module):
    """In place of a VAE."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv3d(3, 3, 1)

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        return self.conv(latents)

    encode = decode


def test_forms_of_a_vae_are_compared_with_float32() -> None:
    tinted = Tinted().requires_grad_(False)
    short = copy.deepcopy(tinted).to(torch.bfloat16)
    exact, other = (
        Variant("float32", tinted, torch.float32),
        Variant("bf16", short, torch.bfloat16, torch.channels_last_3d),
    )
    for variant in (exact, other):
        for method in ("decode", "encode"):
            variant.run(method, torch.rand(1, 3, 5, 64, 64))
    assert row(exact, exact)[2:] == ("1.00", row(exact, exact)[3], "", "")
    other.results = {method: result + 0.01 * result.std() for method, result in exact.results.items()}
    assert row(other, exact)[4:] == ("52.0 dB", "1 %")
