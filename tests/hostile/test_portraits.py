"""Pictures and masks of every shape, mode and damage: the right portrait in bounded memory, or one message."""

from __future__ import annotations

import math
import random
import subprocess
import sys
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor

from asymtalker.models.reference import fit_portrait
from asymtalker.tests.helpers import ROOT, Import

SEED = 19
GENERATOR = random.Random(SEED)
LARGEST_PEAK = 200_000_000


def picture(height: int = 40, width: int = 48, channels: int = 3) -> Tensor:
    """IMAGE [1, height, width, channels]."""
    return torch.rand(1, height, width, channels, generator=torch.Generator().manual_seed(SEED))


def spoiled(value: float) -> Tensor:
    image = picture()
    image[0, GENERATOR.randrange(40), GENERATOR.randrange(48), GENERATOR.randrange(3)] = value
    return image


@pytest.fixture(scope="module")
def checked(pack: Import) -> Callable[..., tuple[Tensor, list[str]]]:
    return pack("host.portrait").checked_portrait


# What a picture is.

UNUSABLE: list[tuple[Any, str]] = [
    (None, "image: expected a tensor, got None"),
    ("portrait.png", "image: expected a tensor, got 'portrait.png'"),
    ([picture()], "image: expected a tensor, got a list"),
    (picture().numpy(), "image: expected a tensor, got a ndarray"),
    (picture()[0], r"image: expected an IMAGE \[1, H, W, 3\], got shape \(40, 48, 3\)"),
    (picture()[None], "image: expected an IMAGE"),
    (torch.zeros(()), "image: expected an IMAGE"),
    (picture()[:0], r"image: expected an IMAGE \[1, H, W, 3\], got shape \(0, 40, 48, 3\)"),
    (picture()[..., :0], "image: expected an IMAGE"),
    (picture()[:, :0], "image: expected an IMAGE"),
    (picture()[:, :1, :1], "image: 1x1 is too small"),
    (picture(1, 500), "image: 500x1 is too small"),
    (picture(500, 15), "image: 15x500 is too small"),
    (picture(channels=2), "image: 2 channels; RGB, RGBA and grey"),
    (picture(channels=5), "image: 5 channels; RGB, RGBA and grey"),
    (picture().movedim(-1, 1), "image: 40x3 is too small"),
    (picture().repeat(2, 1, 1, 1), r"image: 2 portraits in a batch.*ImageFromBatch.*Rebatch Images"),
    (spoiled(math.nan), "image: the portrait contains NaN or infinite values; its file"),
    (spoiled(math.inf), "image: the portrait contains NaN or infinite values; its file"),
    (spoiled(-math.inf), "image: the portrait contains NaN or infinite values; its file"),
    (picture() * 255, "image: the portrait's values reach from .* to 25[0-9], but an IMAGE holds 0 to 1"),
    (picture() * 2 - 1, "image: the portrait's values reach from -1 to 1, but an IMAGE holds 0 to 1"),
    ((picture() * 255).long(), "image: its values are torch.int64"),
    (picture().to(torch.complex64), "image: a tensor of this kind .* is not supported"),
    (picture().to_sparse(), "image: a tensor of this kind .* is not supported"),
    (picture().to("meta"), "image: a tensor of this kind .* is not supported"),
]


@pytest.mark.parametrize("number", range(len(UNUSABLE)))
def test_an_unusable_picture_is_one_message(checked: Any, number: int) -> None:
    image, message = UNUSABLE[number]
    with pytest.raises(ValueError, match=f"^{message}"):
        checked(image)


@pytest.mark.parametrize(
    "image",
    [
        picture().double(),
        picture().requires_grad_(),
        picture(48, 40).transpose(1, 2),
        torch.cat((picture(), torch.ones(1, 40, 48, 1)), dim=-1),
    ],
)
def test_other_forms_of_a_picture_are_that_picture(checked: Any, image: Tensor) -> None:
    rgb, notes = checked(image)
    assert notes == [] and rgb.dtype == torch.float32 and not rgb.requires_grad
    assert torch.equal(rgb, image[..., :3].float())


@pytest.mark.parametrize("dtype", [torch.uint8, torch.bfloat16, torch.float16])
def test_coarser_types_are_the_picture_nearly(checked: Any, dtype: torch.dtype) -> None:
    image = (picture() * 255).round().to(dtype) if dtype == torch.uint8 else picture().to(dtype)
    torch.testing.assert_close(checked(image)[0], picture(), atol=0.01, rtol=0)


def test_overshoot_of_scaling_is_clipped(checked: Any) -> None:
    rgb, notes = checked(picture() * 1.4 - 0.2)
    assert rgb.min() == 0 and rgb.max() == 1
    assert len(notes) == 1 and "are clipped" in notes[0]
    assert checked(picture() * (1 + 1e-5))[1] == []


# Transparency.


def test_what_the_mask_covers_is_white(checked: Any) -> None:
    image, mask = picture(), torch.zeros(1, 40, 48)
    mask[:, :10] = 1
    mask[:, 10:20] = 0.25
    rgb, notes = checked(image, mask)
    assert notes == ["masked areas are white"]
    assert bool((rgb[:, :10] == 1).all()) and torch.equal(rgb[:, 20:], image[:, 20:])
    torch.testing.assert_close(rgb[:, 10:20], 0.75 * image[:, 10:20] + 0.25)


@pytest.mark.parametrize("mask", [torch.zeros(1, 64, 64), torch.zeros(64, 64), torch.zeros(3, 64, 64), None])
def test_an_empty_mask_of_any_shape_changes_nothing(checked: Any, mask: Tensor | None) -> None:
    rgb, notes = checked(picture(), mask)
    assert notes == [] and torch.equal(rgb, picture())


@pytest.mark.parametrize("scale", [0.5, 2, 3])
def test_a_mask_of_another_size_is_scaled(checked: Any, scale: float) -> None:
    mask = torch.zeros(1, int(40 * scale), int(48 * scale))
    mask[:, : int(20 * scale)] = 1
    rgb, notes = checked(picture(), mask)
    assert "the mask is scaled" in notes[-1]
    assert bool((rgb[:, :18] == 1).all()) and torch.equal(rgb[:, 22:], picture()[:, 22:])


def test_of_a_batch_of_masks_the_first_is_used(checked: Any) -> None:
    mask = torch.zeros(4, 40, 48)
    mask[0, :20] = 1
    rgb, notes = checked(picture(), mask)
    assert notes[-1] == "the first of 4 masks in the batch is used"
    assert bool((rgb[:, :20] == 1).all()) and torch.equal(rgb[:, 20:], picture()[:, 20:])


def half(*shape: int) -> Tensor:
    mask = torch.zeros(shape)
    mask[..., : shape[-1] // 2] = 1
    return mask


BAD_MASKS: list[tuple[Any, str]] = [
    ("mask.png", "mask: expected a tensor, got 'mask.png'"),
    (half(1, 64, 64), "mask: it is 64x64, the picture 48x40, a different aspect ratio"),
    (half(1, 48, 40), "mask: it is 40x48, the picture 48x40, a different aspect ratio"),
    (torch.ones(1, 40, 48), "mask: it covers the whole picture.*InvertMask"),
    (torch.full((1, 40, 48), math.nan), "mask: it contains NaN .*; its file"),
    (torch.full((1, 40, 48), -math.inf), "mask: it contains NaN or infinite"),
    (torch.zeros(0, 40, 48), "mask: expected a MASK"),
    (torch.zeros(48), "mask: expected a MASK"),
    (half(1, 40, 48, 1), "mask: expected a MASK"),
    (half(1, 40, 48).long(), "mask: its values are torch.int64"),
    (half(1, 40, 48).to("meta"), "mask: a tensor of this kind .* is not supported"),
]


@pytest.mark.parametrize("number", range(len(BAD_MASKS)))
def test_a_bad_mask_is_one_message(checked: Any, number: int) -> None:
    mask, message = BAD_MASKS[number]
    with pytest.raises(ValueError, match=f"^{message}"):
        checked(picture(), mask)


def rgba_file(file: Path, mode: str) -> None:
    """A red disc in front of nothing; what is transparent is stored as black."""
    canvas = Image.new("RGBA", (96, 64), (0, 0, 0, 0))
    canvas.paste((200, 30, 30, 255), (20, 10, 70, 60))
    if mode == "P":
        canvas.quantize(8).save(file)
    elif mode == "LA":
        canvas.convert("LA").save(file)
    else:
        canvas.save(file, lossless=True)


@pytest.mark.parametrize(("name", "mode"), [("a.png", "RGBA"), ("a.png", "LA"), ("a.png", "P"), ("a.webp", "RGBA")])
def test_a_transparent_file_through_load_image(
    comfy: Import, checked: Any, folders: Path, monkeypatch: pytest.MonkeyPatch, name: str, mode: str
) -> None:
    monkeypatch.setattr(comfy("folder_paths"), "input_directory", str(folders))
    rgba_file(folders / name, mode)
    image, mask = comfy("nodes").LoadImage().load_image(name)
    rgb, notes = checked(image, mask)
    assert notes == ["masked areas are white"]
    assert bool((rgb[0, :8] == 1).all()) and bool((rgb[0, 12:58, 22:68, 1] < 0.5).all())


@pytest.mark.parametrize("name", ["a.gif", "a.webp"])
def test_an_animated_file_is_told_what_to_do(
    comfy: Import, checked: Any, folders: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(comfy("folder_paths"), "input_directory", str(folders))
    frames = [Image.new("RGB", (64, 64), (40 * number, 90, 90)) for number in range(3)]
    frames[0].save(folders / name, save_all=True, append_images=frames[1:], duration=100)
    image, mask = comfy("nodes").LoadImage().load_image(name)
    with pytest.raises(ValueError, match=r"^image: 3 portraits in a batch.*animated GIF or WebP.*ImageFromBatch"):
        checked(image, mask)
    assert checked(image[:1], mask)[0].shape == (1, 64, 64, 3)


# Sizes.


@pytest.mark.parametrize(("height", "width"), [(512, 512), (64, 256), (255, 64), (37, 53), (300, 1199)])
def test_usual_shapes_are_scaled_whole(height: int, width: int) -> None:
    """What is cut off early is so far away that no bit of usual portraits changes."""
    image = picture(height, width)
    scale = max(64 / width, 64 / height)
    covered = max(64, round(height * scale)), max(64, round(width * scale))
    pixels = torch.nn.functional.interpolate(
        image.movedim(-1, 1), covered, mode="bicubic", align_corners=False, antialias=True
    ).clamp(0, 1)
    top, left = (covered[0] - 64) // 2, (covered[1] - 64) // 2
    expected = (pixels[..., top : top + 64, left : left + 64] * 2 - 1)[:, :, None]
    assert torch.equal(fit_portrait(image, 64, 64), expected)


@pytest.mark.parametrize(("height", "width"), [(16, 16_384), (16_384, 16), (17, 4001), (4000, 33)])
def test_the_middle_of_a_long_picture_is_kept(height: int, width: int) -> None:
    """A bright square in the middle of a grey strip fills the portrait."""
    side = min(height, width)
    image = torch.full((1, height, width, 3), 0.5)
    top, left = (height - side) // 2, (width - side) // 2
    image[:, top : top + side, left : left + side] = 1
    portrait = fit_portrait(image, 64, 64)
    assert portrait.shape == (1, 3, 1, 64, 64)
    torch.testing.assert_close(portrait[..., 10:-10, 10:-10], torch.ones(1, 3, 1, 44, 44))


def test_long_pictures_take_little_memory() -> None:
    """In a process of its own, whose peak is that of the worst shape."""
    if sys.platform == "win32":
        pytest.skip("peak memory is read as Unix gives it")
    code = """
import resource, sys, torch
from asymtalker.models.reference import fit_portrait
def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
torch.set_num_threads(1)
fit_portrait(torch.rand(1, 512, 512, 3), 512, 512)
before = peak()
for shape in ((16, 16384), (16384, 16)):
    fit_portrait(torch.rand(1, *shape, 3), 512, 512)
print(peak() - before)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert int(done.stdout) < LARGEST_PEAK


@pytest.fixture(scope="module")
def nano(pack: Import) -> SimpleNamespace:
    model, vae, _ = pack("host.checkpoints.loading").load_all("nano", "default", "default", "default")
    return SimpleNamespace(model=model, vae=vae)


@pytest.mark.parametrize("mode", ["temporal", "static"])
def test_reference_refuses_a_size_that_does_not_fit_before_it_allocates(
    comfy: Import, pack: Import, nano: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    encoded: list[Any] = []
    monkeypatch.setattr(nano.vae, "encode", lambda pixels: encoded.append(pixels))
    monkeypatch.setattr(comfy("comfy.model_management"), "get_free_memory", lambda device: 50_000_000)
    with pytest.raises(MemoryError, match=r"chunk of 33 frames of 1024x1024 takes about .* and 50\.0 MB is free"):
        pack("host.portrait").encode_reference(nano.model, nano.vae, picture(), 1024, 1024, mode, None)
    assert encoded == []


def test_the_guard_counts_a_size_as_it_counts_a_reference(pack: Import, nano: SimpleNamespace) -> None:
    """The Sampler finds no other number than Reference did."""
    guards = pack("host.guards")
    reference = pack("host.portrait").encode_reference(nano.model, nano.vae, picture(), 96, 64, "temporal", None)
    size = guards.ChunkSize((96, 64), reference.frames_per_chunk)
    assert guards.chunk_memory(nano.model, nano.vae, size) == guards.chunk_memory(nano.model, nano.vae, reference)


FITS = [
    ((512, 512), (256, 256), None, None),
    ((720, 1280), (256, 256), None, None),
    ((1280, 720), (256, 256), None, None),
    ((128, 128), (256, 256), None, None),
    ((8000, 300), (256, 256), "of 8000x300 pixels only the middle 300x300 is in the video", None),
    ((300, 8000), (256, 128), "of 300x8000 pixels only the middle 300x150 is in the video", None),
    ((40, 40), (256, 256), None, "40x40 pixels are enlarged to 256x256: the video will be blurred"),
    ((16, 1000), (256, 256), "the middle 16x16 is", "16x16 pixels are enlarged to 256x256"),
]


@pytest.mark.parametrize(("size", "video", "cut", "enlarged"), FITS)
def test_a_poor_fit_is_told(
    pack: Import, size: tuple[int, int], video: tuple[int, int], cut: str | None, enlarged: str | None
) -> None:
    notes = pack("host.portrait").fit_notes(*size, *video)
    expected = [text for text in (cut, enlarged) if text is not None]
    assert len(notes) == len(expected) and all(text in note for text, note in zip(expected, notes, strict=True))


@pytest.mark.parametrize("level", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_portrait_that_shows_nothing_is_refused(
    pack: Import, nano: SimpleNamespace, level: float, channels: int
) -> None:
    image = torch.full((1, 40, 48, channels), level)
    encode = pack("host.portrait").encode_reference
    with pytest.raises(ValueError, match=r"^image: the portrait is one plain colour"):
        encode(nano.model, nano.vae, image, 64, 64, "temporal", None)
    image[:, 20:, :, 0] = 0.3
    encode(nano.model, nano.vae, image, 64, 64, "temporal", None)


def test_the_reference_of_a_masked_portrait_is_that_of_the_white_one(pack: Import, nano: SimpleNamespace) -> None:
    encode = pack("host.portrait").encode_reference
    image, mask = picture(), half(1, 40, 48)
    white = torch.where(mask[..., None] == 1, 1.0, image)
    masked = encode(nano.model, nano.vae, image, 64, 64, "temporal", None, mask)
    expected = encode(nano.model, nano.vae, white, 64, 64, "temporal", None)
    assert torch.equal(masked.latents, expected.latents) and torch.equal(masked.portrait, expected.portrait)


def test_all_notes_stand_on_the_node_together(
    pack: Import, nano: SimpleNamespace, caplog: pytest.LogCaptureFixture
) -> None:
    """A node shows one text: the next one takes its place."""
    caplog.set_level("INFO")
    encode = pack("host.portrait").encode_reference
    encode(nano.model, nano.vae, picture(), 63, 64, "static", None, half(1, 40, 48))
    (text,) = [record.getMessage() for record in caplog.records if "AsymTalker: masked areas" in record.getMessage()]
    assert "63x64 is not a multiple" in text and "trained with mode temporal" in text


def test_face_crop_lays_a_masked_picture_over_white(pack: Import) -> None:
    host = pack("faces.crop_and_paste")
    options = host.CropOptions(0.0, 0, "error", (0, 0, 48, 40))
    image, mask = picture(), half(1, 40, 48)
    face, crop = host.crop_face(image, options, None, mask)
    expected = torch.where(mask[..., None] == 1, 1.0, image)
    assert torch.equal(face, expected[:, crop.y : crop.y + crop.side, crop.x : crop.x + crop.side])


def test_face_paste_keeps_the_white_of_the_mask(comfy: Import, pack: Import) -> None:
    host, api = pack("faces.crop_and_paste"), comfy("comfy_api.latest")
    image, mask = torch.zeros(1, 40, 48, 3), half(1, 40, 48)
    crop = pack("faces.crop").Crop(24, 8, 24, 48, 40)
    grey = api.Types.VideoComponents(images=torch.full((2, 24, 24, 3), 0.5), audio=None, frame_rate=Fraction(25))
    video = host.paste_face(api.InputImpl.VideoFromComponents(grey), image, crop, 0.0, None, mask)
    for frame in video.frames():
        assert (frame[:, :24] == 255).all() and (frame[:8, 24:] == 0).all() and (frame[8:32, 24:] == 128).all()
