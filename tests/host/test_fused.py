"""Core's fused kernels: found where they are compiled, and the same numbers."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from asymtalker.tests.helpers import Import


@pytest.fixture
def fused(pack: Import) -> Iterator[Any]:
    """The module, which forgets what it found afterwards."""
    module = pack("host.fused")
    clear = module.compiled_kernels.cache_clear
    clear()
    yield module
    clear()


def backend(*names: str, available: bool = True, disabled: bool = False) -> dict[str, Any]:
    return {"available": available, "disabled": disabled, "unavailable_reason": None, "capabilities": list(names)}


@pytest.mark.parametrize(
    ("backends", "found"),
    [
        ({"eager": backend("apply_rope", "adaln")}, []),
        ({"eager": backend("adaln"), "cuda": backend("apply_rope", "adaln")}, ["apply_rope", "adaln"]),
        ({"cuda": backend("apply_rope", disabled=True), "triton": backend("adaln", "newer")}, ["adaln"]),
        ({"cuda": backend("apply_rope", available=False)}, []),
    ],
)
def test_only_compiled_kernels_are_used(
    fused: Any, monkeypatch: pytest.MonkeyPatch, backends: dict[str, Any], found: list[str]
) -> None:
    kitchen = SimpleNamespace(list_backends=lambda: backends, apply_rope=None, adaln=None)
    monkeypatch.setattr(fused, "_kitchen", lambda: kitchen)
    assert fused.kernels_in_use(torch.device("cuda"), torch.bfloat16) == found
    assert fused.kernels_in_use(torch.device("cuda"), torch.float32) == []
    assert fused.kernels_in_use(torch.device("cpu"), torch.bfloat16) == []


def test_a_host_without_kernels_has_none(fused: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fused, "_kitchen", lambda: None)
    assert fused.kernels_in_use(torch.device("cuda"), torch.bfloat16) == []


@pytest.mark.parametrize(("dtype", "error"), [(torch.float32, 1e-5), (torch.bfloat16, 3e-2)])
def test_fused_kernels_give_the_same_numbers(
    fused: Any, pack: Import, monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype, error: float
) -> None:
    """Their PyTorch versions stand for the compiled ones."""
    kitchen = pytest.importorskip("comfy_kitchen")
    monkeypatch.setattr(fused, "_fits", lambda device, dtype: True)
    generator = torch.Generator().manual_seed(0)
    q, k = (torch.randn(1, 24, 2, 24, generator=generator).to(dtype) for _ in range(2))
    x, shift, scale = (torch.randn(1, n, 48, generator=generator).to(dtype) for n in (24, 1, 1))
    norm = torch.nn.LayerNorm(48, eps=1e-6, elementwise_affine=False)
    cos, sin = pack("models.layers").rotary_tables((2, 3, 4), 24, torch.device("cpu"))
    tables = cos, sin, torch.stack((cos, -sin, sin, cos), dim=-1).unflatten(-1, (2, 2))[None]
    monkeypatch.setattr(fused, "compiled_kernels", lambda: frozenset())
    expected = [*fused.rotate(q, k, tables), fused.modulated_norm(x, norm, shift, scale)]
    calls: list[str] = []
    for name in ("apply_rope", "adaln"):
        function = getattr(kitchen, name)
        monkeypatch.setattr(kitchen, name, lambda *args, f=function, n=name: calls.append(n) or f(*args))
    monkeypatch.setattr(fused, "compiled_kernels", lambda: frozenset({"apply_rope", "adaln"}))
    found = [*fused.rotate(q, k, tables), fused.modulated_norm(x, norm, shift, scale)]
    assert calls == ["apply_rope", "adaln"]
    torch.testing.assert_close(found, expected, atol=error, rtol=error)
