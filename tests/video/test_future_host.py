"""A host whose VIDEO has a method more than this pack has seen: jobs still end, and the new method works."""

from __future__ import annotations

import importlib
import itertools
import sys
from abc import abstractmethod
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import av
import pytest

from asymtalker.tests.helpers import NUM_FRAMES, ROOT, Import, generate, module_from_file

FUTURE_PACK = "asymtalker_on_a_future_host"


@pytest.fixture(scope="module")
def future(comfy: Import) -> SimpleNamespace:
    """The host's two classes with one more abstract method, as the next version may have them."""
    api: Any = comfy("comfy_api.latest")

    class Video(api.Input.Video):
        @abstractmethod
        def first_frames(self, count: int) -> Any:
            """A video of the first ``count`` frames."""

    class VideoFromFile(api.InputImpl.VideoFromFile, Video):
        def __init__(self, file: str) -> None:
            super().__init__(file)
            self.__where = file

        def first_frames(self, count: int) -> list[Any]:
            with av.open(self.__where) as container:
                frames = itertools.islice(container.decode(video=0), count)
                return [frame.to_ndarray(format="rgb24") for frame in frames]

    return SimpleNamespace(Video=Video, VideoFromFile=VideoFromFile)


@pytest.fixture(scope="module")
def pack(comfy: Import, future: SimpleNamespace) -> Iterator[Import]:
    """The pack as such a host imports it."""
    api: Any = comfy("comfy_api.latest")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(api.Input, "Video", future.Video)
        patch.setattr(api.InputImpl, "VideoFromFile", future.VideoFromFile)
        module_from_file(FUTURE_PACK, ROOT / "__init__.py", submodule_search_locations=[str(ROOT)])
        yield lambda name: importlib.import_module(f"{FUTURE_PACK}.{name}")
    for name in [name for name in sys.modules if name.split(".")[0] == FUTURE_PACK]:
        del sys.modules[name]


def test_a_job_ends_with_its_file(pack: Import, scene: SimpleNamespace, folders: Path) -> None:
    video, _ = generate(pack, scene)
    save = pack("video.saving").save_with_audio
    _, result = save(video, scene.audio, "video/test", 18, True, {"1": {}}, None)
    with av.open(str(folders / "output" / result.subfolder / result.filename)) as container:
        assert sum(1 for _ in container.decode(video=0)) == NUM_FRAMES


def test_the_host_s_own_code_answers_what_is_new(
    pack: Import, future: SimpleNamespace, scene: SimpleNamespace, folders: Path
) -> None:
    video, _ = generate(pack, scene)
    assert isinstance(video, future.Video) and isinstance(video, future.VideoFromFile)
    assert not hasattr(video, "get_ram_usage") and list((folders / "temp").glob("*")) == [], "probes write no file"
    frames = video.first_frames(5)
    assert len(frames) == 5 and frames[0].shape == (64, 64, 3)
    assert len(list((folders / "temp").glob("*.mp4"))) == 1
    video.first_frames(2)
    assert video.get_stream_source() == str(next((folders / "temp").glob("*.mp4")))
