"""What stays on disk after a job, how long, who may remove it, and how a finished video goes on with more audio."""

from __future__ import annotations

import gc
import json
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from asymtalker.tests.helpers import ROOT, Import, generate

SPANS = [33, 28, 9]
ODD_SECONDS = ("NaN", "1e999", "-1", "1" + 400 * "0", "[]", '"x"')


def spools(scene: SimpleNamespace) -> list[Path]:
    return sorted(scene.spools.iterdir()) if scene.spools.is_dir() else []


def speech(frames: int, seed: int) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(seed)
    return {"waveform": torch.randn(1, 1, frames * 640, generator=generator), "sample_rate": 16_000}


def features(pack: Import, audio: dict[str, Any], *options: Any) -> Any:
    host = pack("host.audio")
    return host.audio_features(host.LogMelAudioEncoder(), audio, *options)


def joined(*parts: dict[str, Any]) -> dict[str, Any]:
    return {"waveform": torch.cat([part["waveform"] for part in parts], dim=-1), "sample_rate": 16_000}


def frames_of(video: Any) -> torch.Tensor:
    return video.get_components().images


def forget() -> None:
    """What ComfyUI does with a result that no graph needs any more."""
    gc.collect()


def test_frames_stay_until_the_video_was_saved(pack: Import, scene: SimpleNamespace, tmp_path: Path) -> None:
    video, _ = generate(pack, scene)
    del video
    forget()
    assert len(spools(scene)) == 1, "not saved yet: another attempt must be possible"
    video, report = generate(pack, scene)
    assert report["chunks_resumed"] == 3
    video.save_to(str(tmp_path / "saved.mp4"))
    assert len(spools(scene)) == 1
    del video
    forget()
    assert spools(scene) == []


def test_a_failed_save_keeps_the_frames(pack: Import, scene: SimpleNamespace, tmp_path: Path) -> None:
    video, _ = generate(pack, scene)
    (tmp_path / "file").write_text("")
    with pytest.raises(pack("media").MediaError, match="is not a folder"):
        video.save_to(str(tmp_path / "file" / "video.mp4"))
    del video
    forget()
    assert len(spools(scene)) == 1


def test_never_leaves_nothing_and_resumes_nothing(
    comfy: Import, pack: Import, scene: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    generate(pack, scene)
    forget()
    management, progress = comfy("comfy.model_management"), pack("jobs.progress").RolloutProgress
    on_chunk = progress.on_chunk

    def cancel(self: Any, chunk: Any) -> None:
        assert len(spools(scene)) == 1
        management.interrupt_current_processing()
        on_chunk(self, chunk)

    with monkeypatch.context() as patch, pytest.raises(management.InterruptProcessingException):
        patch.setattr(progress, "on_chunk", cancel)
        generate(pack, scene, keep="never")
    assert spools(scene) == []
    video, report = generate(pack, scene, keep="never")
    assert report["chunks_resumed"] == 0 and len(spools(scene)) == 1
    del video
    forget()
    assert spools(scene) == []


_DROP = """
import sys
from asymtalker.media import list_spools, remove_spool
for spool in list_spools(sys.argv[1]):
    if not spool.in_use:
        remove_spool(spool.folder)
"""


def test_another_server_does_not_take_a_finished_jobs_frames(
    pack: Import, scene: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It drops what nobody uses, as at the start of each of its jobs: here at the moment when the writer is done."""
    writer = pack("media").SpoolWriter
    close = writer.close

    def close_and_drop(self: Any) -> None:
        close(self)
        subprocess.run([sys.executable, "-c", _DROP, str(scene.spools)], cwd=ROOT, check=True)

    monkeypatch.setattr(writer, "close", close_and_drop)
    video, _ = generate(pack, scene, keep="never")
    assert frames_of(video).shape[0] == sum(SPANS)


def test_what_a_killed_process_had_no_time_to_remove_goes_with_the_next_job(
    pack: Import, scene: SimpleNamespace
) -> None:
    media = pack("media")
    metadata = {"model": "tiny", "num_frames": 10, "seed": 1, "settings_id": "x"}
    for name, keep in (("never", "never"), ("saved", "until saved"), ("open", "until saved")):
        with media.SpoolWriter(
            scene.spools / name, media.SpoolHeader(name, 64, 64, metadata={**metadata, "keep": keep})
        ):
            pass
    media.mark_saved(scene.spools / "saved")
    video, _ = generate(pack, scene)
    assert [folder.name for folder in spools(scene)][-1] == "open" and len(spools(scene)) == 2
    assert video.get_frame_count() == 70


def test_a_video_goes_on_with_more_audio(pack: Import, scene: SimpleNamespace) -> None:
    first, more = speech(100, 1), speech(60, 2)
    scene.features = features(pack, first)
    video, _ = generate(pack, scene, keep="for extending")
    beginning = frames_of(video)
    del video
    forget()
    scene.features = features(pack, more, "whole", features(pack, first))
    video, report = generate(pack, scene)
    # 33 + 28 + 28 + 11 frames: the last chunk's features included the end of the recording, so it is generated again.
    assert (report["chunks_resumed"], report["frames"]) == (3, 160)
    extended = frames_of(video)
    assert torch.equal(extended[:89], beginning[:89])
    del video
    for folder in spools(scene):
        pack("media").remove_spool(folder)
    video, report = generate(pack, scene)
    assert report["chunks_resumed"] == 0
    assert torch.equal(frames_of(video), extended), "as if it had been made at once"


def test_rolling_needs_no_more_than_the_longer_recording(pack: Import, scene: SimpleNamespace) -> None:
    first, more = speech(100, 1), speech(60, 2)
    scene.features = features(pack, first, "rolling")
    shorter, _ = generate(pack, scene)
    scene.features = features(pack, joined(first, more), "rolling")
    longer, report = generate(pack, scene)
    assert report["chunks_resumed"] == 3
    assert torch.equal(frames_of(longer)[:89], frames_of(shorter)[:89])
    del shorter, longer
    forget()
    _fresh, report = generate(pack, scene)
    assert report["chunks_resumed"] == 0 and report["frames"] == 160


def test_other_settings_take_nothing_over(pack: Import, scene: SimpleNamespace) -> None:
    scene.features = features(pack, speech(100, 1), "rolling")
    _kept, _ = generate(pack, scene)
    scene.features = features(pack, joined(speech(100, 1), speech(60, 2)), "rolling")
    _video, report = generate(pack, scene, seed=4)
    assert report["chunks_resumed"] == 0


def test_listing_and_removal(pack: Import, scene: SimpleNamespace) -> None:
    kept = pack("jobs.kept").kept_jobs

    def listing(remove: str) -> str:
        return kept(remove).text

    assert listing("").startswith("0 kept, 0 bytes of at most 20.0 GB in ")
    video, _ = generate(pack, scene, keep="for extending")
    text = listing("")
    name = spools(scene)[0].name[:8]
    line = rf"{name} \| finished, in use \| tiny 64x64, seed 3 \| 2.8 of 2.8 s \(100%\) \| [\d.]+ [kM]B \| \d+ s old"
    assert re.fullmatch(line, text.splitlines()[1])
    (row,) = kept("").table()["jobs"]
    assert (row["id"], row["state"], row["in_use"]) == (name, "finished, in use", True)
    assert row["picture"].startswith("data:image/jpeg;base64,") and re.fullmatch(r"[-\d]{10} \d\d:\d\d", row["date"])
    with pytest.raises(pack("media").FolderBusyError, match="in use"):
        listing(name)
    assert listing("all") == listing(""), "what is in use stays"
    del video
    forget()
    with pytest.raises(ValueError, match="remove: no kept job has an id that begins with 'zzz'"):
        listing("finished, zzz")
    with pytest.raises(ValueError) as caught:
        listing(1000 * "z")
    assert len(str(caught.value)) < 300
    assert "| finished |" in listing("")
    assert listing("finished").startswith("0 kept") and spools(scene) == []


def test_the_estimate_comes_from_the_job_before(
    pack: Import, scene: SimpleNamespace, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    generate(pack, scene)
    generate(pack, scene, seed=5)
    first, second = (record.getMessage() for record in caplog.records if "chunk 0 of 3" in record.getMessage())
    assert first.endswith("of memory") and re.search(r"of memory, about \d+ s$", second)
    file = scene.spools.parent / "pace.json"
    (kind,) = json.loads(file.read_text())
    for seed, damage in enumerate(("damaged", "[" * 100_000, *(f'{{"{kind}": {value}}}' for value in ODD_SECONDS))):
        file.write_text(damage)
        generate(pack, scene, seed=6 + seed)
        assert '"tiny, 64x64, 2 steps' in file.read_text()
