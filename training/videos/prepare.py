"""Videos to prepared clips: ``python -m asymtalker.training prepare``.

Every video is cut into clips of a whole number of chunks. Each clip becomes one safetensors shard, in the form of
``training.latents``. A finished video has a record in ``videos/``, written after its shards, so that a stopped run
resumes there. Shards appear under their name when they are complete; one that is truncated later is made again.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from einops import rearrange
from PIL import Image
from safetensors import SafetensorError, safe_open
from torch import Tensor
from tqdm import tqdm

from ...faces.detector import Face, find_faces
from ...media.mux import encode_video
from ...models.checkpoint import write_checkpoint
from ...models.files import write_text
from ...models.rates import FPS, SAMPLE_RATE
from ...models.reference import temporal_reference
from ..core.chunks import FRAMES_PER_CHUNK, clip_span, encode_chunks
from ..core.config import TrainingError
from .crop import Crop, centre_crop, centred_mouth, face_crop, mouth_boxes
from .encoders import ClipEncoder, load_encoder
from .video import BadClip, Picture, Video, cut, look, video_files

log = logging.getLogger(__name__)

LOOK_EVERY_S = 0.4
SILENCE = 1e-4
"""Root mean square below which there is no speech at all."""

SIZES = {"nano": 256, "pro": 512, "lite": 512}
"""Network that clips are prepared for -> pixels a side."""
SETTINGS, RECORDS, BAD_LIST, KEPT = "prepare.json", "videos", "bad_clips.tsv", "mp4"


@dataclass(frozen=True)
class PrepareSettings:
    """What the clips in a folder have in common; see the options of ``python -m asymtalker.training prepare``."""

    model: str
    size: int
    chunks: int
    centre: bool
    margin: float
    min_crop: int
    keep_videos: bool = False

    def __post_init__(self) -> None:
        if self.chunks < 1 or self.size < 1:
            raise TrainingError(f"a clip has at least one chunk and one pixel, got {self.chunks} and {self.size}")
        if not 1 <= self.margin <= 10:
            raise TrainingError(f"--margin must be 1..10 times the face, got {self.margin}")


@dataclass(frozen=True)
class Clip:
    """Frames [start, stop) at 25 a second of a video, as they are cut; mouth ``boxes`` [F, 4] as parts of the crop."""

    start: int
    stop: int
    crop: Crop
    boxes: Tensor


def prepare(
    videos: Path, out: Path, settings: PrepareSettings, vae: Path | None = None, audio_encoder: Path | None = None
) -> None:
    """Prepare every video in ``videos`` that is not done yet; those that cannot be used are listed in `bad_clips.tsv`.

    Raises:
        TrainingError: no videos, two of one name, or ``out`` was prepared with other settings.
    """
    paths = video_files(videos)
    if not paths:
        raise TrainingError(f"{videos} holds no videos")
    _check_names([path.relative_to(videos).as_posix() for path in paths])
    encoder = load_encoder(settings.model, vae, audio_encoder)
    if settings.size % encoder.multiple:
        raise TrainingError(f"--size {settings.size}: {settings.model} makes multiples of {encoder.multiple} pixels")
    _claim(out, settings, vae, audio_encoder)
    bar = tqdm(paths, unit="video")
    for path in bar:
        name = path.relative_to(videos).as_posix()
        record = _read_record(out, name, path)
        if record is None:
            record = _prepare_video(path, name, out, settings, encoder, bar)
            _write_json(_record_path(out, name), record)
            _write_bad_list(out)
    records = [json.loads(path.read_text("utf-8")) for path in (out / RECORDS).glob("*.json")]
    shards, bad = (sum(len(record[key]) for record in records) for key in ("shards", "bad"))
    log.info("%d clips in %s; %d parts were left out, see %s", shards, out, bad, out / BAD_LIST)
    if not shards:
        raise TrainingError(f"no clip could be made of the videos in {videos}: see {out / BAD_LIST}")


def _claim(out: Path, settings: PrepareSettings, vae: Path | None, audio_encoder: Path | None) -> None:
    """A folder holds clips of one kind: write down which, or check it."""
    files = {"vae": str(vae) if vae else None, "audio_encoder": str(audio_encoder) if audio_encoder else None}
    wanted = dataclasses.asdict(settings) | files
    path = out / SETTINGS
    if not path.exists():
        (out / RECORDS).mkdir(parents=True, exist_ok=True)
        _write_json(path, wanted)
        return
    found = json.loads(path.read_text("utf-8"))
    if changed := sorted(key for key in wanted if found.get(key) != wanted[key]):
        raise TrainingError(f"{out} was prepared with other values of {changed}: choose another folder")


def _prepare_video(
    path: Path, name: str, out: Path, settings: PrepareSettings, encoder: ClipEncoder, bar: Any
) -> dict[str, Any]:
    """Write the shards of one video; returns its record."""
    bad: list[dict[str, str]] = []
    shards: list[str] = []
    source = _fingerprint(path)
    try:
        video = look(path, (lambda picture: None) if settings.centre else find_faces, LOOK_EVERY_S)
        clips = _choose_clips(video, settings, encoder.stride_t, bad)
        features = encoder.encode_audio(video.audio) if encoder.encode_audio and clips else None
        for clip, frames in _cut_clips(video, clips, settings.size):
            shard = _shard_name(name, clip)
            if not _is_whole(out / shard, source):
                if settings.keep_videos:
                    _keep_video(out / KEPT / Path(shard).with_suffix(".mp4").name, frames, video, clip)
                tensors = _encode(video, clip, frames, features, encoder)
                write_checkpoint(out / shard, tensors, {"video": name, "source": source, "model": settings.model})
            shards.append(shard)
            bar.set_postfix_str(shard)
    except BadClip as reason:
        bad.append({"part": "whole" if not shards else "rest", "reason": str(reason)})
    return {"video": name, "source": source, "shards": shards, "bad": bad}


def _choose_clips(video: Video, settings: PrepareSettings, stride_t: int, bad: list[dict[str, str]]) -> list[Clip]:
    """Clips one after the other; reasons of those that cannot be used go to ``bad``."""
    length = clip_span(settings.chunks, stride_t)
    if video.num_frames < length:
        raise BadClip(
            f"too short: {video.num_frames} frames at 25 a second, a clip of {settings.chunks} chunks has {length}"
        )
    clips: list[Clip] = []
    for start in range(0, video.num_frames - length + 1, length):
        try:
            clips.append(_frame_clip(video, start, start + length, settings))
        except BadClip as reason:
            bad.append({"part": f"{start / FPS:.2f}-{(start + length) / FPS:.2f} s", "reason": str(reason)})
    return clips


def _frame_clip(video: Video, start: int, stop: int, settings: PrepareSettings) -> Clip:
    video.check_times(start, stop)
    if video.sound(start, stop).square().mean().sqrt() < SILENCE:
        raise BadClip("it is silent")
    if settings.centre:
        crop = centre_crop(video.width, video.height)
        boxes = centred_mouth(stop - start)
    else:
        # A picture just before the clip serves its first frames too.
        seen = [(time, found) for time, found in video.samples if start / FPS - LOOK_EVERY_S < time < stop / FPS]
        faces: list[list[Face]] = [found for _, found in seen]
        crop, track = face_crop(faces, video.width, video.height, settings.margin)
        boxes = mouth_boxes(np.array([time for time, _ in seen]), track, crop, np.arange(start, stop) / FPS)
    if crop.side < settings.min_crop:
        raise BadClip(f"the face is small: a crop of {crop.side} pixels, but min_crop is {settings.min_crop}")
    return Clip(start, stop, crop, boxes)


def _cut_clips(video: Video, clips: Sequence[Clip], size: int) -> Iterator[tuple[Clip, Tensor]]:
    """Each clip with its frames uint8 [F, size, size, 3], of which one clip's are held at a time."""
    indices = [index for clip in clips for index in video.source_frames(clip.start, clip.stop).tolist()]
    owners = [clip for clip in clips for _ in range(clip.start, clip.stop)]

    def transform(position: int, picture: Picture) -> Tensor:
        return owners[position].crop.apply(picture, size)

    held: list[Tensor] = []
    for position, frame in cut(video.path, indices, transform):
        held.append(frame)
        if len(held) == owners[position].stop - owners[position].start:
            yield owners[position], torch.stack(held)
            held = []


def _keep_video(path: Path, frames: Tensor, video: Video, clip: Clip) -> None:
    """The clip as it was cut, with its sound, and its portrait beside it: what to generate from and to compare with."""
    path.parent.mkdir(exist_ok=True)
    Image.fromarray(frames[0].numpy()).save(path.with_suffix(".png"))
    sound = video.sound(clip.start, clip.stop)[None]
    encode_video(frames, path, width=frames.shape[2], height=frames.shape[1], audio=(sound, SAMPLE_RATE), crf=12)


@torch.no_grad()
def _encode(
    video: Video, clip: Clip, frames: Tensor, features: Tensor | None, encoder: ClipEncoder
) -> dict[str, Tensor]:
    """The shard's tensors; the clip's first frame is its portrait, as generation starts from the portrait."""
    portrait = rearrange(frames[:1], "f h w c -> 1 c f h w").float() / 127.5 - 1
    reference = temporal_reference(encoder.encode, portrait, FRAMES_PER_CHUNK)[0]
    tensors = {
        "latents": encode_chunks(encoder.encode, frames, encoder.stride_t),
        "reference": reference.cpu().half(),
        "audio": (video.sound(clip.start, clip.stop).clamp(-1, 1) * 32767).to(torch.int16),
        "boxes": clip.boxes,
    }
    if features is not None:
        tensors["features"] = features[clip.start : clip.stop].half()
    return tensors


def _check_names(names: Sequence[str]) -> None:
    """Clips are named after their video, without its suffix."""
    taken: dict[str, str] = {}
    for name in names:
        other = taken.setdefault(_flat(name), name)
        if other != name:
            raise TrainingError(f"the clips of {other} and {name} would have the same names: rename one of them")


def _flat(name: str) -> str:
    return name.rsplit(".", 1)[0].replace("/", "__")


def _shard_name(name: str, clip: Clip) -> str:
    """The glob of the trainers' data set finds it."""
    return f"clip_{_flat(name)}_{clip.start:06d}.safetensors"


def _is_whole(path: Path, source: str) -> bool:
    """Whether a shard is there, of this ``source``, and not cut short: opening compares its length with its header."""
    try:
        with safe_open(path, framework="np") as shard:
            return (shard.metadata() or {}).get("source") == source
    except (SafetensorError, OSError):
        return False


def _record_path(out: Path, name: str) -> Path:
    return out / RECORDS / f"{_flat(name)}.json"


def _fingerprint(path: Path) -> str:
    """Changes with the file."""
    status = path.stat()
    return f"{status.st_size} bytes of {status.st_mtime_ns}"


def _read_record(out: Path, name: str, path: Path) -> dict[str, Any] | None:
    """The record of a video that is done: the file is the same, and its shards are whole.

    Shards of a video that has changed since are removed.
    """
    file = _record_path(out, name)
    if not file.exists():
        return None
    record = json.loads(file.read_text("utf-8"))
    source = _fingerprint(path)
    if record["source"] != source:
        for shard in record["shards"]:
            (out / shard).unlink(missing_ok=True)
        return None
    return record if all(_is_whole(out / shard, source) for shard in record["shards"]) else None


def _write_json(path: Path, value: Any) -> None:
    write_text(path, json.dumps(value, indent=1))


def _write_bad_list(out: Path) -> None:
    """One line for each video or part of one that was left out: name, part, reason."""
    lines = ["video\tpart\treason\n"]
    for file in sorted((out / RECORDS).glob("*.json")):
        record = json.loads(file.read_text("utf-8"))
        lines += [f"{record['video']}\t{item['part']}\t{item['reason']}\n" for item in record["bad"]]
    write_text(out / BAD_LIST, "".join(lines))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command."""
    parser.add_argument("--videos", type=Path, required=True, help="folder of videos (subfolders are searched too)")
    parser.add_argument("--out", type=Path, required=True, help="folder for the prepared clips; finished ones are kept")
    parser.add_argument("--model", choices=list(SIZES), required=True, help="network to prepare the clips for")
    parser.add_argument(
        "--vae", type=Path, help="VAE file (default: the bundled one for nano, else the one in ComfyUI's folders)"
    )
    parser.add_argument(
        "--audio-encoder", type=Path, help="wav2vec2-base-960h file (default: the one in ComfyUI's folders)"
    )
    parser.add_argument("--size", type=int, help="width and height in pixels (default: 256 for nano, else 512)")
    parser.add_argument(
        "--chunks",
        type=int,
        default=4,
        help="33-frame chunks per clip; the remainder of a video is dropped (default: %(default)s)",
    )
    parser.add_argument(
        "--margin", type=float, default=2.2, help="side of the crop, relative to the face (default: %(default)s)"
    )
    parser.add_argument("--min-crop", type=int, help="smallest crop, in pixels of the video (default: half of --size)")
    parser.add_argument(
        "--keep-videos", action="store_true", help="also write each clip as mp4 and its portrait as png, for `metrics`"
    )
    parser.add_argument("--centre", action="store_true", help="do not detect faces; crop the largest centred square")


def run(args: argparse.Namespace) -> None:
    """Run the command."""
    size = SIZES[args.model] if args.size is None else args.size
    min_crop = size // 2 if args.min_crop is None else args.min_crop
    settings = PrepareSettings(args.model, size, args.chunks, args.centre, args.margin, min_crop, args.keep_videos)
    prepare(args.videos, args.out, settings, args.vae, args.audio_encoder)
