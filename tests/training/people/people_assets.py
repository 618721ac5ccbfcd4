"""Where the tests find MakeHuman's data."""

import os
from functools import lru_cache
from pathlib import Path

import pytest

from training.people.assets import WHERE, Assets
from training.people.kernel import COMPILED
from training.people.textures import Atlas

VARIABLE = "ASYMTALKER_MAKEHUMAN"

needs_assets = pytest.mark.skipif(
    not os.environ.get(VARIABLE) or not COMPILED,
    reason=f"{VARIABLE} names no folder with {WHERE}"
    if COMPILED
    else "numba is not installed: a picture takes minutes",
)


@lru_cache(maxsize=1)
def data() -> tuple[Assets, Atlas]:
    assets = Assets(Path(os.environ[VARIABLE]))
    return assets, Atlas(assets)
