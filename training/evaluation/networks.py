"""The field's measuring networks, from files that the user gives; none is executed as code, only read as numbers.

Inception and I3D come from the libraries that published numbers are made with (``pytorch-fid``, ``cd-fvd``), without
their downloads; ArcFace is an ONNX graph; SyncNet's layers are in ``syncnet``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ...models.checkpoint import CheckpointError, read_checkpoint
from ..core.config import TrainingError
from .syncnet import SyncNet

INCEPTION_CLASSES = 1008
KINETICS_CLASSES = 400
I3D_FRAMES = 16
"""Frames in a clip for FVD, as StyleGAN-V and its successors take them."""


@dataclass(frozen=True)
class Wanted:
    """A file that a metric needs: its command-line option, which metrics, and where it is published."""

    option: str
    metrics: tuple[str, ...]
    published: str

    def missing(self) -> str:
        return f"not measured: give {self.published} as {self.option}"


INCEPTION = Wanted(
    "--inception",
    ("fid",),
    "pt_inception-2015-12-05-6726825d.pth (github.com/mseitzer/pytorch-fid, release fid_weights)",
)
I3D = Wanted("--i3d", ("fvd",), "i3d_pretrained_400.pt (github.com/songweige/TATS, folder tats/fvd)")
SYNCNET = Wanted(
    "--syncnet",
    ("sync_c", "sync_d"),
    "syncnet_v2.model (robots.ox.ac.uk/~vgg/software/lipsync, of github.com/joonson/syncnet_python)",
)
ARCFACE = Wanted("--arcface", ("identity",), "w600k_r50.onnx (insightface's buffalo_l)")
FILES = {"inception": INCEPTION, "i3d": I3D, "syncnet": SYNCNET, "arcface": ARCFACE}


def load_inception(path: Path, device: torch.device) -> Callable[[Tensor], Tensor]:
    """FID's InceptionV3: pictures uint8 [N, H, W, 3] -> features [N, 2048].

    Raises:
        TrainingError: the file is missing, damaged or of another network.
    """
    import torchvision
    from pytorch_fid import inception as fid

    network = torchvision.models.inception_v3(
        num_classes=INCEPTION_CLASSES, aux_logits=False, weights=None, init_weights=False
    )
    # The differences between TensorFlow's network, by which FID is defined, and torchvision's.
    blocks: dict[str, nn.Module] = {
        "Mixed_5b": fid.FIDInceptionA(192, pool_features=32),
        "Mixed_5c": fid.FIDInceptionA(256, pool_features=64),
        "Mixed_5d": fid.FIDInceptionA(288, pool_features=64),
        "Mixed_6b": fid.FIDInceptionC(768, channels_7x7=128),
        "Mixed_6c": fid.FIDInceptionC(768, channels_7x7=160),
        "Mixed_6d": fid.FIDInceptionC(768, channels_7x7=160),
        "Mixed_6e": fid.FIDInceptionC(768, channels_7x7=192),
        "Mixed_7b": fid.FIDInceptionE_1(1280),
        "Mixed_7c": fid.FIDInceptionE_2(2048),
    }
    for name, block in blocks.items():
        setattr(network, name, block)
    _load(network, path, INCEPTION)
    setattr(network, "fc", nn.Identity())  # noqa: B010  what torchvision declares as Linear only
    network.to(device).eval()

    @torch.no_grad()
    def features(pictures: Tensor) -> Tensor:
        pixels = pictures.to(device).permute(0, 3, 1, 2).float() / 255
        pixels = nn.functional.interpolate(pixels, (299, 299), mode="bilinear", align_corners=False)
        return network(2 * pixels - 1)

    return features


def load_i3d(path: Path, device: torch.device) -> Callable[[Tensor], Tensor]:
    """FVD's I3D: clips uint8 [N, 16, H, W, 3] -> its 400 logits [N, 400].

    Raises:
        TrainingError: the file is missing, damaged or of another network.
    """
    from cdfvd.third_party.i3d.pytorch_i3d import InceptionI3d
    from cdfvd.third_party.i3d.utils import preprocess_i3d

    network = InceptionI3d(KINETICS_CLASSES, in_channels=3)
    _load(network, path, I3D)
    network.to(device).eval()

    @torch.no_grad()
    def features(clips: Tensor) -> Tensor:
        return network(preprocess_i3d(clips.float()).to(device))

    return features


def load_syncnet(path: Path, device: torch.device) -> SyncNet:
    """SyncNet with its published weights.

    Raises:
        TrainingError: the file is missing, damaged or of another network.
    """
    network = SyncNet()
    _load(network, path, SYNCNET)
    return network.to(device).eval().requires_grad_(False)


def load_arcface(path: Path) -> Callable[[Tensor], Tensor]:
    """ArcFace: aligned faces uint8 [N, 112, 112, 3] of RGB -> unit vectors [N, width].

    Raises:
        TrainingError: the file is missing, damaged or takes other pictures.
    """
    import onnxruntime

    if not path.is_file():
        raise TrainingError(f"there is no {path}: --arcface needs {ARCFACE.published}")
    try:
        session = onnxruntime.InferenceSession(str(path), providers=onnxruntime.get_available_providers())
    # onnxruntime's exceptions have no other common type.
    except Exception as error:
        raise TrainingError(f"{path} is not {ARCFACE.published}: {error}") from error
    (given,) = session.get_inputs()
    if list(given.shape[1:]) != [3, 112, 112]:
        raise TrainingError(f"{path} takes {given.shape}, not pictures of 112x112: --arcface needs {ARCFACE.published}")

    def embed(faces: Tensor) -> Tensor:
        pixels = (faces.permute(0, 3, 1, 2).float() - 127.5) / 127.5
        vectors: Any = session.run(None, {given.name: pixels.numpy()})[0]
        return nn.functional.normalize(torch.from_numpy(vectors), dim=1)

    return embed


def _load(network: nn.Module, path: Path, wanted: Wanted) -> None:
    try:
        network.load_state_dict(read_checkpoint(path)[0])
    except CheckpointError as error:
        raise TrainingError(f"{error}; {wanted.option} needs {wanted.published}") from error
    except RuntimeError as error:
        reason = str(error).splitlines()[1].strip() if "\n" in str(error) else str(error)
        raise TrainingError(f"{path} is not {wanted.published}: {reason}") from error
