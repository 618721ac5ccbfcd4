"""Real faults under a generation: a disk that fills up, one too small, one that cannot be written, damaged frames."""

from __future__ import annotations

import gc
import subprocess
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from asymtalker.tests.helpers import Import, generate

MakeTmpfs = Callable[[str], Path]


@pytest.fixture
def expected(pack: Import, scene: SimpleNamespace) -> torch.Tensor:
    """The frames of an undisturbed run."""
    video, _ = generate(pack, scene)
    return video.get_components().images


def use_disk(comfy: Import, scene: SimpleNamespace, folder: Path) -> None:
    """Let ComfyUI's user folder lie in ``folder``."""
    comfy("folder_paths").set_user_directory(str(folder))
    scene.spools = folder / "asymtalker" / "spool"


def segments(scene: SimpleNamespace) -> list[Path]:
    return sorted(scene.spools.glob("*/*.segment"))


def after_chunk(pack: Import, patch: pytest.MonkeyPatch, index: int, act: Callable[[], None]) -> None:
    """Call ``act`` when chunk ``index`` was handed over."""
    progress = pack("jobs.progress").RolloutProgress
    on_chunk = progress.on_chunk

    def observed(self: Any, chunk: Any) -> None:
        on_chunk(self, chunk)
        if chunk.record.index == index:
            act()

    patch.setattr(progress, "on_chunk", observed)


def test_a_disk_that_fills_up_keeps_what_is_whole(
    comfy: Import,
    pack: Import,
    scene: SimpleNamespace,
    expected: torch.Tensor,
    make_tmpfs: MakeTmpfs,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    disk = make_tmpfs("4m")
    use_disk(comfy, scene, disk)

    def fill() -> None:
        with (disk / "filler").open("wb", buffering=0) as file:
            while file.write(bytes(4096)) == 4096:
                pass

    def fill_up() -> None:
        with pytest.raises(OSError, match="No space left"):
            fill()

    with monkeypatch.context() as patch, pytest.raises(pack("media").MediaError, match="The disk is full"):
        after_chunk(pack, patch, 0, fill_up)
        generate(pack, scene)
    assert len(segments(scene)) <= 1 and not list(scene.spools.rglob("*.part"))
    (disk / "filler").unlink()
    video, report = generate(pack, scene)
    assert report["chunks_resumed"] <= 1
    assert torch.equal(video.get_components().images, expected)


def test_a_disk_that_is_too_small_is_refused_with_the_numbers(
    comfy: Import, pack: Import, scene: SimpleNamespace, make_tmpfs: MakeTmpfs
) -> None:
    use_disk(comfy, scene, make_tmpfs("200k"))
    message = r"the frames of this video: it needs about 344\.1 kB in .*spool.*, and 1\d\d\.\d kB is free\. Free "
    with pytest.raises(pack("media").MediaError, match=message):
        generate(pack, scene)
    assert list(scene.spools.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_refused_at_once(
    comfy: Import, pack: Import, scene: SimpleNamespace, make_tmpfs: MakeTmpfs
) -> None:
    disk = make_tmpfs("4m")
    use_disk(comfy, scene, disk)
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    with pytest.raises(pack("media").MediaError, match=r"creating the folder for frames.*Read-only"):
        generate(pack, scene)
    assert list(disk.iterdir()) == []


@pytest.mark.parametrize("cut", [0, 1, 1000])
def test_a_torn_segment_is_made_anew(
    comfy: Import,
    pack: Import,
    scene: SimpleNamespace,
    expected: torch.Tensor,
    monkeypatch: pytest.MonkeyPatch,
    cut: int,
) -> None:
    management = comfy("comfy.model_management")

    def stop() -> None:
        management.interrupt_current_processing()
        management.throw_exception_if_processing_interrupted()

    with monkeypatch.context() as patch, pytest.raises(management.InterruptProcessingException):
        after_chunk(pack, patch, 1, stop)
        generate(pack, scene)
    torn = segments(scene)[1]
    content = torn.read_bytes()
    torn.write_bytes(content[:cut] + bytes([content[cut] ^ 1]) + content[cut + 1 :] if cut else b"")
    video, report = generate(pack, scene)
    assert report["chunks_resumed"] == 1
    assert torch.equal(video.get_components().images, expected)


def test_an_output_folder_that_cannot_be_written_is_refused_before_anything_runs(
    comfy: Import, pack: Import, make_tmpfs: MakeTmpfs, folders: Path
) -> None:
    mux = pack("nodes.mux").AsymTalkerMux
    assert mux.validate_inputs("video/x") is True
    disk = make_tmpfs("1m")
    comfy("folder_paths").set_output_directory(str(disk))
    assert "has 1.0 MB left: free at least 20.0 MB" in mux.validate_inputs("video/x")
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    assert f"the output folder {disk} cannot be written" in mux.validate_inputs("video/x")


def test_a_save_that_fails_keeps_the_frames(
    comfy: Import, pack: Import, scene: SimpleNamespace, make_tmpfs: MakeTmpfs
) -> None:
    output = make_tmpfs("1m")
    comfy("folder_paths").set_output_directory(str(output))
    save, error = pack("video.saving").save_with_audio, pack("media").MediaError
    video, _ = generate(pack, scene)
    subprocess.run(["mount", "-o", "remount,ro", str(output)], check=True)
    for prefix in ("x", "new/folder/x"):
        with pytest.raises(error, match=f"The folder {output}.* cannot be written: saving .*Read-only"):
            save(video, scene.audio, prefix, 18, True, None, None)
    subprocess.run(["mount", "-o", "remount,rw", str(output)], check=True)
    (output / "filler").write_bytes(bytes(900_000))
    with pytest.raises(error, match="disk"):
        save(video, scene.audio, "x", 0, True, None, None)
    assert [path.name for path in output.iterdir()] == ["filler"]
    del video
    gc.collect()
    assert segments(scene)
    (output / "filler").unlink()
    video, report = generate(pack, scene)
    save(video, scene.audio, "x", 18, True, None, None)
    assert report["chunks_resumed"] == 3
    assert [path.name for path in output.iterdir()] == ["x_00001_.mp4"]
    del video
    gc.collect()
    assert not segments(scene)


def test_a_file_is_saved_though_its_frames_cannot_be_noted_as_saved(
    comfy: Import,
    pack: Import,
    scene: SimpleNamespace,
    folders: Path,
    make_tmpfs: MakeTmpfs,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    disk, texts = make_tmpfs("4m"), []
    use_disk(comfy, scene, disk)
    video, _ = generate(pack, scene)
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    saving = pack("video.saving")
    monkeypatch.setattr(saving, "notify", lambda node_id, *said: texts.append("\n".join(said)))
    _, result = saving.save_with_audio(video, scene.audio, "x", 18, True, None, None)
    assert (folders / "output" / result.filename).is_file()
    assert "noting that the video was saved failed (Read-only file system)" in texts[0]
