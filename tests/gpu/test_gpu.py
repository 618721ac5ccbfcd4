"""On a real CUDA device: the same checks as `python -m asymtalker.benchmarks gpu`, and nano through the nodes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from asymtalker.benchmarks.gpu import main
from asymtalker.benchmarks.gpu_checks import CHECKS

VIDEO = """
import json, sys, tempfile
from pathlib import Path
from asymtalker.benchmarks.host import Host
with tempfile.TemporaryDirectory() as folder:
    print(json.dumps(json.loads(Host("nano", Path(folder)).make(3.0).report)))
"""


@pytest.mark.gpu
@pytest.mark.parametrize("name", CHECKS)
def test_check(name: str) -> None:
    CHECKS[name](torch.device("cuda", torch.cuda.current_device()))


@pytest.mark.gpu
def test_nano_through_the_nodes(comfyui: Path) -> None:
    """In a process of its own: the others of these tests set ComfyUI to the CPU."""
    done = subprocess.run([sys.executable, "-c", VIDEO], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    report = json.loads(done.stdout.splitlines()[-1])
    assert report["frames"] == 75 and report["runs_on"]["device"].startswith("cuda")
    assert not report["chunks_regenerated"]
    assert all(sum(chunk["seconds"].values()) > 0 for chunk in report["chunks"])


@pytest.mark.parametrize("name", ["golden_forward", "rotation", "color"])
def test_checks_pass_on_a_cpu(name: str) -> None:
    assert CHECKS[name](torch.device("cpu"))


@pytest.mark.skipif(torch.cuda.is_available(), reason="for machines without a CUDA GPU")
def test_without_a_gpu_the_command_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 1
    assert "no CUDA device" in capsys.readouterr().err
