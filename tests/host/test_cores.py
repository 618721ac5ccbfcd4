"""Threads beside other busy processes."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import pytest
import torch

from asymtalker.host.cores import CpuShare, cpu_share, multiplies_bf16, threads_beside
from asymtalker.models.audio import MEL_CHANNELS
from asymtalker.models.checkpoint import read_checkpoint
from asymtalker.models.family import NANO_NETWORK
from asymtalker.tests.helpers import Import

BUSY = """
import time
while time.process_time() < 0.3: pass
print(flush=True)
while True: pass
"""


@pytest.fixture(autouse=True)
def threads() -> Iterator[int]:
    before = torch.get_num_threads()
    yield before
    torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("others", "cores", "most", "expected"),
    [(0.0, 2, 2, 2), (0.3, 2, 2, 2), (0.7, 2, 2, 1), (5.0, 2, 2, 1), (1.0, 16, 8, 8), (10.2, 16, 8, 6)],
)
def test_threads_are_what_others_leave_free(others: float, cores: int, most: int, expected: int) -> None:
    assert threads_beside(others, cores, most) == expected


def test_busy_process_takes_a_thread() -> None:
    torch.set_num_threads(2)
    share = CpuShare(2, cores=2)
    with subprocess.Popen([sys.executable, "-c", BUSY], stdout=subprocess.PIPE) as busy:
        try:
            assert busy.stdout is not None and busy.stdout.readline()
            share.adapt()
        finally:
            busy.kill()
    assert torch.get_num_threads() == 1


def test_threads_come_back_after_a_job() -> None:
    torch.set_num_threads(2)
    with pytest.raises(KeyError), cpu_share(torch.device("cpu")):
        torch.set_num_threads(1)
        raise KeyError
    assert torch.get_num_threads() == 2


def test_chunks_pass_and_a_gpu_keeps_its_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.set_num_threads(2)
    monkeypatch.setattr("asymtalker.host.cores.SHORTEST_S", 0.0)
    monkeypatch.setattr("asymtalker.host.cores._used_by_others", iter(range(0, 10**6, 1000)).__next__)
    with cpu_share(torch.device("cuda")) as share:
        assert [(chunk, torch.get_num_threads()) for chunk in share.between("ab")] == [("a", 2), ("b", 2)]
    with cpu_share(torch.device("cpu")) as share:
        assert [(chunk, torch.get_num_threads()) for chunk in share.between("ab")] == [("a", 1), ("b", 1)]


def test_number_of_threads_changes_no_bit(pack: Import) -> None:
    """A job that is continued beside other processes gives the frames that it would have given alone."""
    tensors, metadata = read_checkpoint(NANO_NETWORK)
    network = pack("host.network").ChunkNetwork(pack("host.model").load_model(tensors, metadata, name="nano"))
    windows, reference = torch.randn(1, 33, 5, 1, MEL_CHANNELS), torch.randn(1, 48, 9, 16, 16)
    made = []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        made.append(network(windows, reference, 1.0)(reference + 1, torch.tensor(0.8)))
    assert torch.equal(*made)


def test_bfloat16_arithmetic_is_as_pytorch_says(monkeypatch: pytest.MonkeyPatch) -> None:
    names = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    for says in (None, False, True):
        for name in names:
            if says is None:
                monkeypatch.delattr(torch.cpu, name, raising=False)
            else:
                monkeypatch.setattr(torch.cpu, name, lambda says=says: says, raising=False)
        assert multiplies_bf16() is bool(says)
