"""Videos become clips that the trainers read; what cannot be used is listed with its reason."""

from __future__ import annotations

import csv
import dataclasses
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from asymtalker.models.checkpoint import read_checkpoint
from asymtalker.models.nano_vae import NanoVAE
from asymtalker.models.reference import temporal_reference
from asymtalker.scripts._environment import ROOT
from asymtalker.tests.training.videos.videos import person, plain, speech, write_video
from asymtalker.training.__main__ import main
from asymtalker.training.core.articulation import articulation_loss
from asymtalker.training.core.chunks import clip_span
from asymtalker.training.core.config import TrainingError
from asymtalker.training.core.data import Batch, PreparedClips
from asymtalker.training.videos.encoders import NANO_VAE
from asymtalker.training.videos.prepare import PrepareSettings, prepare
from asymtalker.training.videos.video import look, read_clip

SECONDS = 5.2
NANO = PrepareSettings(model="nano", size=64, chunks=2, centre=False, margin=2.2, min_crop=32)


def listed(out: Path) -> dict[str, str]:
    with (out / "bad_clips.tsv").open(newline="") as file:
        return {row["video"]: row["reason"] for row in csv.DictReader(file, delimiter="\t")}


def shards(out: Path) -> list[str]:
    return sorted(path.name for path in out.glob("clip_*.safetensors"))


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A good video, the same name in a subfolder at 30 frames a second, and one of every fault."""
    folder = tmp_path_factory.mktemp("videos")
    sound = speech(SECONDS)
    good = write_video(folder / "good.mp4", person(130), audio=sound)
    write_video(folder / "more" / "good.mp4", person(90), fps=30, audio=sound)
    write_video(folder / "no_face.mp4", plain(70), audio=sound)
    write_video(folder / "no_sound.mp4", person(70))
    write_video(folder / "silent.mp4", person(70), audio=0 * sound)
    write_video(folder / "short.mp4", person(30), audio=sound)
    write_video(folder / "slow.mp4", person(70), fps=12, audio=speech(6))
    write_video(folder / "small.mp4", person(70, scale=0.5), audio=sound)
    write_video(folder / "leaves.mp4", person(70, (1000, 320), travel=600), audio=sound)
    frozen = [index / 25 + (0.5 if index > 30 else 0) for index in range(70)]
    write_video(folder / "frozen.mp4", person(70), times=frozen, audio=sound)
    content = good.read_bytes()
    (folder / "cut_short.mp4").write_bytes(content[: len(content) // 2])
    (folder / "not_a_video.mp4").write_bytes(b"portrait" * 500)
    (folder / "notes.txt").write_text("not looked at")
    return folder


@pytest.fixture(scope="module")
def prepared(videos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("clips")
    prepare(videos, out, PrepareSettings("nano", 64, 2, False, 2.2, min_crop=230))
    return out


def test_every_fault_is_listed_with_its_reason_and_the_rest_is_prepared(prepared: Path) -> None:
    reasons = {
        "no_face.mp4": "no face",
        "no_sound.mp4": "no sound",
        "silent.mp4": "silent",
        "short.mp4": "too short: 30 frames",
        "slow.mp4": "12.0 frames a second",
        "small.mp4": "face is small",
        "leaves.mp4": "moves out of the crop",
        "frozen.mp4": "no new frame for 0.54 s",
        "cut_short.mp4": "cannot be decoded",
        "not_a_video.mp4": "cannot be decoded",
    }
    found = listed(prepared)
    assert found.keys() == reasons.keys()
    assert all(reason in found[name] for name, reason in reasons.items())
    assert shards(prepared) == [
        "clip_good_000000.safetensors",
        "clip_good_000061.safetensors",
        "clip_more__good_000000.safetensors",
    ]


def test_shards_hold_what_the_network_sees_at_inference(prepared: Path) -> None:
    clip, metadata = read_checkpoint(prepared / "clip_good_000061.safetensors")
    assert metadata["video"] == "good.mp4"
    assert {name: tuple(tensor.shape) for name, tensor in clip.items()} == {
        "latents": (2, 48, 9, 4, 4),
        "reference": (48, 9, 4, 4),
        "audio": (61 * 640,),
        "boxes": (61, 4),
    }
    # The clip continues its own first frame: the first latents of both are that frame alone.
    assert torch.equal(clip["latents"][0, :, 0], clip["reference"][:, 0])


def test_sound_stays_where_it_belongs(prepared: Path, videos: Path) -> None:
    clip, _ = read_checkpoint(prepared / "clip_good_000061.safetensors")
    recorded = clip["audio"].float() / 32767
    true = torch.from_numpy(speech(SECONDS, 16_000))
    lags = range(-400, 401)
    start, length = 61 * 640, 30_000
    scores = [float(torch.dot(recorded[:length], true[start + lag : start + lag + length])) for lag in lags]
    assert abs(lags[int(np.argmax(scores))]) <= 16


def test_mouth_boxes_are_on_the_mouth(prepared: Path) -> None:
    clip, _ = read_checkpoint(prepared / "clip_good_000000.safetensors")
    x0, y0, x1, y1 = clip["boxes"].mean(0).tolist()
    # In the photograph the corners of the mouth are at (142, 143) and (180, 146), the crop of 246 begins at (43, 0).
    assert 0.4 < (x0 + x1) / 2 < 0.55 and y0 < 0.6 < y1 and 0.15 < x1 - x0 < 0.35


def test_frame_rates_are_resampled_by_time(tmp_path: Path) -> None:
    """The brightness of each frame tells its time: what comes out at 25 a second has the brightness of that time."""
    times = np.cumsum(np.random.default_rng(0).uniform(0.02, 0.06, 120))
    times -= times[0]
    frames = [np.full((64, 64, 3), round(20 + 40 * time), np.uint8) for time in times]
    path = write_video(tmp_path / "varies.mp4", frames, times=times.tolist(), audio=speech(5.5))
    clip, _ = read_clip(path)
    brightness = clip.float().mean((1, 2, 3))
    seen = (brightness - brightness[0]) / 40
    wanted = torch.arange(len(clip)) / 25
    assert len(clip) == round((times[-1] + times[-1] / 119) * 25)
    # Half a frame's distance and two steps of brightness.
    assert (seen - wanted).abs().max() < 0.08 and (seen - wanted).mean().abs() < 0.02


@pytest.mark.parametrize("delay_s", [-0.2, 0.3])
def test_sound_that_starts_at_another_time_is_aligned(tmp_path: Path, delay_s: float) -> None:
    times = [max(0.0, -delay_s) + index / 25 for index in range(50)]
    sound = speech(2.5)
    path = write_video(tmp_path / "late.mp4", plain(50), times=times, audio=sound, audio_start=max(0.0, delay_s))
    recorded = look(path, lambda picture: None, 10.0).audio
    true = torch.from_numpy(speech(2.5, 16_000))
    shift = round(delay_s * 16_000)
    window = slice(8_000, 28_000)
    lags = range(-500, 501)
    scores = [float(torch.dot(recorded[window], true[8_000 - shift + lag : 28_000 - shift + lag])) for lag in lags]
    assert abs(lags[int(np.argmax(scores))]) <= 32


def test_a_stopped_run_goes_on_and_torn_shards_are_made_again(videos: Path, tmp_path: Path) -> None:
    folder = tmp_path / "videos"
    folder.mkdir()
    (folder / "good.mp4").write_bytes((videos / "good.mp4").read_bytes())
    out = tmp_path / "clips"
    prepare(folder, out, NANO)
    first, second = (out / name for name in shards(out))
    whole = {name: tensor.clone() for name, tensor in read_checkpoint(second)[0].items()}
    kept = first.stat().st_mtime_ns
    # Stopped between the second shard and the record; a disk that lost the shard's end.
    (out / "videos" / "good.json").unlink()
    for size in (second.stat().st_size // 2, 100):
        second.write_bytes(second.read_bytes()[:size])
        prepare(folder, out, NANO)
        again, _ = read_checkpoint(second)
        assert again.keys() == whole.keys() and all(torch.equal(again[name], whole[name]) for name in whole)
    assert first.stat().st_mtime_ns == kept
    assert not list(out.glob("*.part"))


def test_a_killed_run_goes_on(videos: Path, tmp_path: Path) -> None:
    """SIGKILL while shards are written: the next run ends with what an undisturbed one makes."""
    folder = tmp_path / "videos"
    folder.mkdir()
    for name in ("a.mp4", "b.mp4", "c.mp4"):
        (folder / name).write_bytes((videos / "good.mp4").read_bytes())
    killed, undisturbed = tmp_path / "killed", tmp_path / "undisturbed"
    options = ["--model", "nano", "--size", "64", "--chunks", "2", "--min-crop", "32", "--videos", str(folder)]
    command = [sys.executable, "-m", "asymtalker.training", "prepare", *options, "--out", str(killed)]
    running = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not shards(killed) and time.monotonic() < deadline and running.poll() is None:
        time.sleep(0.005)
    running.kill()
    assert running.wait() == -signal.SIGKILL
    assert 0 < len(shards(killed)) < 6
    for out in (killed, undisturbed):
        prepare(folder, out, NANO)
    assert len(shards(killed)) == 6 and shards(killed) == shards(undisturbed)
    for name in shards(killed):
        one, other = (read_checkpoint(out / name)[0] for out in (killed, undisturbed))
        assert one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


def test_two_videos_of_one_name_are_refused(videos: Path, tmp_path: Path) -> None:
    for name in ("same.mp4", "same.mov"):
        (tmp_path / name).write_bytes((videos / "good.mp4").read_bytes())
    with pytest.raises(TrainingError, match=r"same\.mov and same\.mp4 would have the same names"):
        prepare(tmp_path, tmp_path / "clips", NANO)


def test_trainers_refuse_a_shard_that_was_cut_short(prepared: Path, tmp_path: Path) -> None:
    whole = (prepared / shards(prepared)[0]).read_bytes()
    (tmp_path / "clip_torn.safetensors").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(TrainingError, match=r"clip_torn\.safetensors is not a whole prepared clip.*prepare it again"):
        PreparedClips(tmp_path, seed=1, length=1)


def test_a_repaired_video_is_prepared_anew(videos: Path, tmp_path: Path) -> None:
    folder, out = tmp_path / "videos", tmp_path / "clips"
    folder.mkdir()
    write_video(folder / "one.mp4", person(64), audio=speech(SECONDS))
    (folder / "two.mp4").write_bytes(b"")
    prepare(folder, out, NANO)
    assert listed(out).keys() == {"two.mp4"}
    (folder / "two.mp4").write_bytes((videos / "good.mp4").read_bytes())
    prepare(folder, out, NANO)
    assert not listed(out) and len(shards(out)) == 3
    write_video(folder / "two.mp4", person(64), audio=speech(SECONDS))
    prepare(folder, out, NANO)
    assert shards(out) == ["clip_one_000000.safetensors", "clip_two_000000.safetensors"]


def test_other_settings_need_another_folder(prepared: Path, videos: Path) -> None:
    with pytest.raises(TrainingError, match="other values of \\['centre', 'min_crop'\\]"):
        prepare(videos, prepared, PrepareSettings("nano", 64, 2, True, 2.2, 32))


def test_centred_clips_need_no_face_and_are_encoded_chunk_by_chunk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_video(tmp_path / "videos" / "drawn.mp4", plain(64, (96, 64)), audio=speech(SECONDS))
    options = ["--videos", str(tmp_path / "videos"), "--out", str(tmp_path / "clips"), "--size", "64", "--chunks", "2"]
    monkeypatch.setattr(sys, "argv", ["training", "prepare", "--model", "nano", "--centre", *options])
    main()
    clip, _ = read_checkpoint(tmp_path / "clips" / "clip_drawn_000000.safetensors")
    assert clip["boxes"].unique(dim=0).shape == (1, 4)
    frames, _ = read_clip(path)
    pixels = frames[:, :, 16:80].permute(3, 0, 1, 2)[None].float() / 127.5 - 1
    vae = NanoVAE.from_checkpoint(*read_checkpoint(NANO_VAE))
    for index, start in enumerate((0, 28)):
        expected = vae.encode(pixels[:, :, start : start + 33])[0]
        assert torch.allclose(clip["latents"][index].float(), expected, atol=0.02)
    expected = temporal_reference(vae.encode, pixels[:, :, :1], 33)[0]
    assert torch.allclose(clip["reference"].float(), expected, atol=0.02)


def test_nothing_usable_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="holds no videos"):
        prepare(tmp_path, tmp_path / "clips", NANO)
    write_video(tmp_path / "plain.mp4", plain(64), audio=speech(SECONDS))
    with pytest.raises(TrainingError, match=r"no clip could be made.*bad_clips\.tsv"):
        prepare(tmp_path, tmp_path / "clips", NANO)


def test_the_trainers_read_them(prepared: Path) -> None:
    """Of real mouths nothing is known: the articulation loss leaves them out."""
    clips = PreparedClips(prepared, seed=1, length=4, chunks=2)
    batch = Batch(*(torch.stack(parts) for parts in zip(clips[0], clips[1], strict=True)))
    assert batch.latents.shape == (2, 2, 48, 9, 4, 4) and batch.windows.shape == (2, 2, 33, 5, 1, 320)
    assert batch.mask.sum() > 0 and batch.mask.mean() < 0.3
    assert batch.mouth.isnan().all()
    hidden = torch.randn(2, 9, 64)
    unknown, known = batch.mouth[:, 0], torch.rand(2, 33, 8)
    assert articulation_loss(hidden, unknown, 4) == 0
    mixed = torch.stack((unknown[0], known[1]))
    assert torch.allclose(articulation_loss(hidden, mixed, 4), articulation_loss(hidden[1:], known[1:], 4))


def test_spans_follow_the_vaes_stride() -> None:
    assert [clip_span(chunks, 4) for chunks in (1, 2, 4)] == [33, 61, 117]
    assert [clip_span(chunks, 8) for chunks in (1, 2, 4)] == [33, 57, 105]


def test_kept_videos_are_what_was_cut(videos: Path, tmp_path: Path) -> None:
    folder = tmp_path / "videos"
    folder.mkdir()
    (folder / "good.mp4").write_bytes((videos / "good.mp4").read_bytes())
    prepare(folder, tmp_path / "clips", dataclasses.replace(NANO, size=128, keep_videos=True))
    kept = sorted(path.name for path in (tmp_path / "clips" / "mp4").iterdir())
    assert kept == [f"clip_good_{start}.{kind}" for start in ("000000", "000061") for kind in ("mp4", "png")]
    frames, sound = read_clip(tmp_path / "clips" / "mp4" / "clip_good_000061.mp4")
    clip, _ = read_checkpoint(tmp_path / "clips" / "clip_good_000061.safetensors")
    assert frames.shape == (61, 128, 128, 3)
    recorded = clip["audio"].float() / 32767
    assert (sound - recorded).abs().mean() < 0.1 * recorded.abs().mean()
    with Image.open(tmp_path / "clips" / "mp4" / "clip_good_000061.png") as portrait:
        assert np.abs(np.array(portrait).astype(int) - frames[0].numpy()).mean() < 4
