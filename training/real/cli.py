"""Arguments of the commands for real videos; what a command needs is imported when it runs."""

from __future__ import annotations

import argparse
from pathlib import Path

SIZES = {"nano": 256, "pro": 512, "lite": 512}
"""Model that clips are prepared for -> pixels a side."""


def add_prepare_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `prepare`."""
    parser.add_argument("--videos", type=Path, required=True, help="folder of videos (searched with its subfolders)")
    parser.add_argument("--out", type=Path, required=True, help="folder for the prepared clips; what is done is kept")
    parser.add_argument("--model", choices=list(SIZES), required=True, help="network that the clips are for")
    parser.add_argument("--vae", type=Path, help="VAE file (default: nano's own, or the one in ComfyUI's folders)")
    parser.add_argument("--audio-encoder", type=Path, help="wav2vec2-base-960h (default: in ComfyUI's folders)")
    parser.add_argument("--size", type=int, help="pixels a side (default: 256 for nano, else 512)")
    parser.add_argument(
        "--chunks",
        type=int,
        default=4,
        help="chunks of 33 frames in a clip; a video's remainder is left out (default: %(default)s)",
    )
    parser.add_argument(
        "--margin", type=float, default=2.2, help="side of the crop over the face's (default: %(default)s)"
    )
    parser.add_argument("--min-crop", type=int, help="smallest crop in pixels of the video (default: half of --size)")
    parser.add_argument(
        "--keep-videos", action="store_true", help="write every clip as mp4 and its portrait as png too, for `metrics`"
    )
    parser.add_argument("--centre", action="store_true", help="no search for faces: the largest square in the middle")


def run_prepare(args: argparse.Namespace) -> None:
    from .prepare import PrepareSettings, prepare

    size = SIZES[args.model] if args.size is None else args.size
    min_crop = size // 2 if args.min_crop is None else args.min_crop
    settings = PrepareSettings(args.model, size, args.chunks, args.centre, args.margin, min_crop, args.keep_videos)
    prepare(args.videos, args.out, settings, args.vae, args.audio_encoder)


def add_full_teacher_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `full-teacher` beside those of every run."""
    parser.add_argument("--data", type=Path, required=True, help="folder that `prepare` wrote")
    parser.add_argument("--start", type=Path, help="checkpoint to start from (default: initial weights)")


def run_full_teacher(args: argparse.Namespace) -> None:
    from ..config import read_config
    from ..distributed import joined_world
    from ..full import FullTeacherTraining, train_teacher

    config = read_config(FullTeacherTraining, args.config, args.set)
    with joined_world() as world:
        train_teacher(config, world, args.data, args.out, args.workers, args.start)


def add_full_akd_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `full-akd` beside those of every run."""
    parser.add_argument("--teacher", type=Path, required=True, help="teacher checkpoint")
    parser.add_argument("--vae", type=Path, help="VAE file (default: the model's own in ComfyUI's folders)")
    parser.add_argument(
        "--data", type=Path, required=True, help="folder that `prepare` wrote, of `chunks` chunks or more"
    )


def run_full_akd(args: argparse.Namespace) -> None:
    from ..config import read_config
    from ..distributed import joined_world
    from ..family import geometry
    from ..full import FullAKDTraining, train_akd
    from ..host import BatchCodec, stock_codec

    config = read_config(FullAKDTraining, args.config, args.set)
    with joined_world() as world:
        codec = BatchCodec(stock_codec(geometry(config.model, config.network), config.model, args.vae))
        train_akd(config, world, codec, args.teacher, args.data, args.out, args.workers)


def add_metrics_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `metrics`."""
    parser.add_argument("--real", type=Path, required=True, help="folder of real, face-centred videos")
    parser.add_argument("--generated", type=Path, required=True, help="folder of generated videos of the same names")
    parser.add_argument("--out", type=Path, required=True, help="folder for metrics.json, metrics.md and plots")
    parser.add_argument("--inception", type=Path, help="FID: pt_inception-2015-12-05-6726825d.pth")
    parser.add_argument("--i3d", type=Path, help="FVD: i3d_pretrained_400.pt")
    parser.add_argument("--syncnet", type=Path, help="Sync-C, Sync-D: syncnet_v2.model")
    parser.add_argument("--arcface", type=Path, help="identity: w600k_r50.onnx")


def run_metrics(args: argparse.Namespace) -> None:
    from .metrics import measure

    names = ("inception", "i3d", "syncnet", "arcface")
    measure(args.real, args.generated, args.out, {name: getattr(args, name) for name in names})
