"""Finding model files: the names and layouts that people have, other models' files beside them, folders that fail."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from asymtalker.tests.helpers import Import

PRO = "asymtalker/SoulX-FlashHead-1_3B/Model_Pro"
LITE = "asymtalker/SoulX-FlashHead-1_3B/Model_Lite"
NETWORK = "diffusion_pytorch_model.safetensors"
REVISION = "0123456789abcdef0123456789abcdef01234567"

WAN = {"conv2.weight": (16, 16, 1, 1, 1), "decoder.head.2.weight": (3, 4, 1, 1, 1)}
UPSCALING_WAN = {**WAN, "decoder.head.2.weight": (12, 4, 1, 1, 1)}
WAN_22 = {"conv2.weight": (48, 48, 1, 1, 1), "decoder.head.2.weight": (12, 4, 1, 1, 1)}
LTX_090 = {"decoder.up_blocks.0.res_blocks.0.conv1.conv.weight": (512, 1, 1, 1, 1)}
LTX_LATER = {"decoder.up_blocks.0.res_blocks.0.conv1.conv.weight": (1024, 1, 1, 1, 1)}
SPEECH = {"wav2vec2.encoder.layers.11.final_layer_norm.weight": (768,)}
ENGLISH = {**SPEECH, "lm_head.weight": (32, 768)}
ANYTHING = {"x": (1,)}

Shapes = dict[str, tuple[int, ...]]


def put(file: Path, shapes: Shapes = ANYTHING) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: torch.zeros(shape, dtype=torch.uint8) for name, shape in shapes.items()}, file)
    return file


def put_cached(cache: Path, name: str, revision: str = REVISION) -> Path:
    """A file as Hugging Face's cache keeps it: a link in the snapshot to a blob."""
    repository, _, path = name.partition("/")
    blob = put(cache / repository / "blobs" / f"{len(name)}{revision}")
    link = cache / repository / "snapshots" / revision / path
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(os.path.relpath(blob, link.parent))
    (cache / repository / "refs").mkdir(exist_ok=True)
    (cache / repository / "refs" / "main").write_text(revision)
    return link


@pytest.fixture
def models(folders: Path) -> Path:
    """The models folder of a ComfyUI without any model."""
    return folders / "models"


# --- networks

LAYOUTS = {
    "published folder": (f"asymtalker/SoulX-FlashHead-1_3B/Model_Pro/{NETWORK}", PRO),
    "only PyTorch's format": ("asymtalker/SoulX-FlashHead-1_3B/Model_Pro/diffusion_pytorch_model.bin", PRO),
    "a precision in the name": ("asymtalker/SoulX-FlashHead-1_3B/Model_Pro/pro_bf16.safetensors", PRO),
    "ComfyUI_RH_FlashHead": (f"Soul-AILab/SoulX-FlashHead-1_3B/Model_Lite/{NETWORK}", LITE),
    "ComfyUI_RH_FlashHead's read-me": (f"Soul-AILab/SoulX-FlashHead-1_3B/model_lite/{NETWORK}", LITE),
    "beside ComfyUI's own folders": (f"SoulX-FlashHead-1_3B/Model_Pro/{NETWORK}", PRO),
    "with the organisation": (f"asymtalker/Soul-AILab/SoulX-FlashHead-1_3B/Model_Pro/{NETWORK}", PRO),
    "in diffusion_models": (f"diffusion_models/SoulX-FlashHead-1_3B/Model_Pro/{NETWORK}", PRO),
    "the teacher": (
        f"asymtalker/SoulX-FlashHead-1_3B/teacher/{NETWORK}",
        "asymtalker/SoulX-FlashHead-1_3B/teacher",
    ),
    "a folder of one's own": (f"asymtalker/mine/{NETWORK}", "asymtalker/mine"),
    "a file in models/asymtalker": ("asymtalker/mine.safetensors", "asymtalker/mine.safetensors"),
    "a file in diffusion_models": ("diffusion_models/mine.safetensors", "mine.safetensors"),
    "a name in other letters": ("asymtalker/頭 (1) é/網.safetensors", "asymtalker/頭 (1) é"),
    "a line break in the name": ("asymtalker/two\nlines/x.safetensors", "asymtalker/two\nlines"),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_networks_are_found(pack: Import, models: Path, layout: str) -> None:
    path, choice = LAYOUTS[layout]
    put(models / path)
    host = pack("host.checkpoints.folders")
    assert host.model_states()[choice] == "found"
    assert host.locate_model(choice).file == models / path
    assert pack("host.checkpoints.companions").missing_model(choice) is None


@pytest.mark.parametrize("place", ["asymtalker", "", "diffusion_models"])
def test_networks_in_hugging_face_s_cache_layout(pack: Import, models: Path, place: str) -> None:
    repository = "models--Soul-AILab--SoulX-FlashHead-1_3B"
    put_cached(models / place, f"{repository}/Model_Pro/{NETWORK}", "f" * 40)
    current = put_cached(models / place, f"{repository}/Model_Pro/{NETWORK}")
    vae = put_cached(models / place, f"{repository}/VAE_Wan/Wan2.1_VAE.pth")
    located = pack("host.checkpoints.folders").locate_model(PRO)
    assert located.file == current
    assert pack("host.checkpoints.companions").locate_vae("default", located, 16).file == vae


def test_extra_model_paths_may_name_the_published_folder(comfy: Import, pack: Import, models: Path) -> None:
    home = models.parent / "elsewhere" / "SoulX-FlashHead-1_3B"
    file = put(home / "Model_Pro" / NETWORK)
    put(models.parent / "elsewhere" / "networks" / "other.safetensors")
    paths: Any = comfy("folder_paths")
    for root in (home, models.parent / "elsewhere" / "networks"):
        paths.add_model_folder_path("asymtalker", str(root), is_default=True)
    host = pack("host.checkpoints.folders")
    assert host.locate_model(PRO).file == file
    assert "asymtalker/other.safetensors" in host.model_states()


def test_a_network_in_parts_is_one_choice(pack: Import, models: Path) -> None:
    parts = [f"diffusion_pytorch_model-{number:05}-of-00003.safetensors" for number in (1, 2, 3)]
    for folder in (models / PRO, models / "diffusion_models" / "split"):
        for part in parts:
            put(folder / part)
        (folder / "diffusion_pytorch_model.safetensors.index.json").write_text("{}")
    host = pack("host.checkpoints.folders")
    choices = [choice for choice in host.model_states() if "00" in choice]
    assert choices == [f"split/{parts[0]}"]
    assert host.locate_model(PRO).file == models / PRO / parts[0]
    assert host.locate_model(f"split/{parts[2]}").file == models / "diffusion_models" / "split" / parts[0]
    (models / PRO / parts[1]).unlink()
    with pytest.raises(FileNotFoundError, match=r"model: .* of which diffusion_pytorch_model-00002-of-00003.* missing"):
        host.locate_model(PRO)


def test_of_several_precisions_the_folder_stands_for_the_usual_name_and_each_is_offered(
    pack: Import, models: Path
) -> None:
    put(models / PRO / NETWORK)
    put(models / PRO / "diffusion_pytorch_model.bin")
    half = put(models / PRO / "diffusion_pytorch_model.bf16.safetensors")
    host = pack("host.checkpoints.folders")
    located = host.locate_model(PRO)
    assert located.file == models / PRO / NETWORK and located.others == (f"{PRO}/{half.name}",)
    assert host.locate_model(f"{PRO}/{half.name}").file == half
    assert not any(choice.endswith(".bin") for choice in host.model_states())


def test_of_several_networks_without_the_usual_name_one_must_be_chosen(pack: Import, models: Path) -> None:
    names = ("pro_bf16.safetensors", "pro_fp32.safetensors")
    for name in names:
        put(models / PRO / name)
    host = pack("host.checkpoints.folders")
    with pytest.raises(FileNotFoundError, match=f"choose one of them: {PRO}/{names[0]}, {PRO}/{names[1]}"):
        host.locate_model(PRO)
    assert host.model_states()[PRO] == "found" and host.locate_model(f"{PRO}/{names[1]}").file.name == names[1]


@pytest.mark.parametrize("suffix", [".part", ".crdownload", ".incomplete", ".partial", ".aria2", ".tmp", ".lock"])
def test_unfinished_downloads_are_not_offered(pack: Import, models: Path, suffix: str) -> None:
    put(models / PRO / (NETWORK + suffix))
    put(models / "diffusion_models" / f"mine.safetensors{suffix}")
    put(models / PRO / ".cache" / "huggingface" / "download" / NETWORK)
    if suffix == ".aria2":
        put(models / PRO / NETWORK)
    host = pack("host.checkpoints.folders")
    assert host.model_states()[PRO].startswith("missing") and not any("mine" in name for name in host.model_states())


def test_training_leftovers_are_no_networks(pack: Import, models: Path) -> None:
    for name in (NETWORK, "optimizer.bin", "training_args.bin", "scheduler.pt", "random_states_0.pth", "taew2_1.pth"):
        put(models / PRO / name)
    assert pack("host.checkpoints.folders").locate_model(PRO).others == ()


# --- what a name may reach

HOSTILE_NAMES = (
    "../secret/x.safetensors",
    "asymtalker/../../secret",
    "asymtalker/mine/..",
    "asymtalker/mine/../../../secret",
    "{secret}",
    "asymtalker/{secret}",
    "{secret}/x.safetensors",
    "/etc/passwd",
    "C:\\secret",
    "..\\..\\secret",
    "~/x.safetensors",
    "\0",
    "mine\0.safetensors",
    "\ud800",
    "asymtalker/\udcff",
    "a" * 300,
    "a/" * 3000,
    "",
    ".",
    "..",
    "/",
    "asymtalker",
    "asymtalker/",
    "con",
    "%2e%2e/secret",
    "*",
)


@pytest.mark.parametrize("name", HOSTILE_NAMES, ids=range(len(HOSTILE_NAMES)))
def test_names_reach_nothing_outside_of_the_model_folders(pack: Import, models: Path, name: str) -> None:
    secret = put(models.parent / "secret" / "x.safetensors").parent
    put(models / "asymtalker" / "mine" / "x.safetensors")
    name = name.format(secret=secret)
    located = pack("host.checkpoints.folders").Located(models / "x.safetensors", None)
    companions = pack("host.checkpoints.companions")
    searches: tuple[Callable[[], Any], ...] = (
        lambda: pack("host.checkpoints.folders").locate_model(name),
        lambda: companions.locate_vae(name, located, 16),
        lambda: companions.locate_audio_encoder(name, located),
    )
    for search, input_name in zip(searches, ("model", "vae", "audio_encoder"), strict=True):
        with pytest.raises(FileNotFoundError, match=f"^{input_name}: ") as caught:
            search()
        message = str(caught.value)
        message.encode()
        assert "x.safetensors" not in message.replace(name, "") and len(message) < 1000
    assert companions.missing_model(name)


@pytest.mark.parametrize(
    "value", [5, 1.5, True, [], ["nano"], {}, {"a": 1}, b"nano", 10**5000], ids=lambda value: type(value).__name__
)
def test_a_model_that_is_no_text_is_refused(pack: Import, models: Path, value: object) -> None:
    message = pack("host.checkpoints.companions").missing_model(value)
    assert message.startswith("model: ") and len(message) < 200


def test_links_that_the_user_made_are_followed(pack: Import, models: Path) -> None:
    file = put(models.parent / "big disk" / "flashhead" / NETWORK)
    for link, target in (
        (models / PRO, file.parent),
        (models / "diffusion_models" / "linked.safetensors", file),
        (models / "vae" / "wan_2.1_vae.safetensors", put(models.parent / "big disk" / "vae.safetensors")),
    ):
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(target)
    host = pack("host.checkpoints.folders")
    assert host.locate_model(PRO).file == models / PRO / NETWORK
    assert host.locate_model("linked.safetensors").file == models / "diffusion_models" / "linked.safetensors"
    vae = pack("host.checkpoints.companions").locate_vae("default", host.locate_model(PRO), 16)
    assert vae.file == models / "vae" / "wan_2.1_vae.safetensors"


# --- folders that fail


@contextmanager
def as_somebody_else() -> Iterator[None]:
    """Without root's right to enter every folder."""
    is_root = os.geteuid() == 0
    if is_root:
        os.seteuid(65534)
    try:
        yield
    finally:
        if is_root:
            os.seteuid(0)


@pytest.fixture
def shared_root(comfy: Import, models: Path) -> Iterator[Path]:
    """A further folder of asymtalker that everybody may enter, with one network."""
    root = Path(tempfile.mkdtemp())
    put(root / "mine" / NETWORK)
    for folder in (root, root / "mine"):
        folder.chmod(0o755)
    comfy("folder_paths").add_model_folder_path("asymtalker", str(root))
    yield root
    for folder in root.iterdir():
        if not folder.is_symlink() and folder.is_dir():
            folder.chmod(0o700)
    shutil.rmtree(root)


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="permissions of POSIX")
@pytest.mark.parametrize("mode", [0o000, 0o100, 0o400])
def test_a_folder_that_cannot_be_entered_is_left_out(pack: Import, shared_root: Path, mode: int) -> None:
    locked = shared_root / "lost+found"
    put(locked / NETWORK)
    put(locked / "VAE_Wan" / "Wan2.1_VAE.pth")
    locked.chmod(mode)
    host = pack("host.checkpoints.folders")
    with as_somebody_else():
        states = host.model_states()
        with pytest.raises(FileNotFoundError, match="vae: no Wan"):
            pack("host.checkpoints.companions").locate_vae("default", host.locate_model("asymtalker/mine"), 16)
    assert "asymtalker/mine" in states and not any("lost" in choice for choice in states)


def test_links_to_nowhere_files_and_names_of_any_kind_are_survived(pack: Import, shared_root: Path) -> None:
    (shared_root / "dangling").symlink_to("nowhere")
    (shared_root / "loop").symlink_to("loop")
    (shared_root / "around").symlink_to(".")
    (shared_root / "mine" / "dangling.safetensors").symlink_to("nowhere")
    (shared_root / "mine" / "folder.safetensors").mkdir()
    (shared_root / "a file").write_text("")
    put(shared_root / ("n" * 255) / NETWORK)
    if sys.platform == "linux":
        put(shared_root / os.fsdecode(b"latin-\xe9") / "x.safetensors")
    host = pack("host.checkpoints.folders")
    states = host.model_states()
    assert host.locate_model("asymtalker/mine").file == shared_root / "mine" / NETWORK
    assert f"asymtalker/{'n' * 255}" in states
    for choice in states:
        choice.encode()


@pytest.mark.parametrize("at", ["asymtalker", "Soul-AILab", "asymtalker/SoulX-FlashHead-1_3B", PRO])
def test_a_file_where_a_folder_is_expected(pack: Import, models: Path, at: str) -> None:
    (models / at).parent.mkdir(parents=True, exist_ok=True)
    (models / at).write_text("")
    assert pack("host.checkpoints.folders").model_states()[PRO].startswith("missing")


def test_core_s_list_of_a_folder_that_has_gone(pack: Import, models: Path) -> None:
    host = pack("host.checkpoints.folders")
    put(models / "vae" / "kept.safetensors")
    put(models / "vae" / "gone" / "x.safetensors")
    assert len(host.vae_choices()) == 3
    shutil.rmtree(models / "vae" / "gone")
    assert host.vae_choices() == ["default", "kept.safetensors"]


@pytest.mark.slow
def test_the_loader_describes_itself_whatever_lies_there(comfy: Import, pack: Import, shared_root: Path) -> None:
    (shared_root / "loop").symlink_to("loop")
    loader = pack("nodes.loader").AsymTalkerLoader
    info = loader.GET_NODE_INFO_V1()
    assert "asymtalker/mine" in str(info["input"]["required"]["model"])


# --- VAE and audio encoder of `default`

WAN_NAMES = (
    "wan_2.1_vae.safetensors",
    "Wan2.1_VAE.safetensors",
    "Wan2_1_VAE_bf16.safetensors",
    "Wan2_1_VAE_fp32.safetensors",
    "wan21_vae.safetensors",
    "WAN 2.1 VAE.safetensors",
    "sub/wan2.1-vae-fp16.safetensors",
)
OTHERS: dict[str, Shapes] = {
    "Wan2.1_VAE_upscale2x_imageonly_real_v1.safetensors": UPSCALING_WAN,
    "wan2.2_vae.safetensors": WAN_22,
    "qwen_image_vae.safetensors": WAN,
    "LTX2_audio_vae_bf16.safetensors": ANYTHING,
    "LTX23_video_vae_bf16.safetensors": LTX_LATER,
    "LTX23_audio_vae_bf16.safetensors": ANYTHING,
    "ltx_vae_0.9.5.safetensors": LTX_LATER,
    "lighttaew2_1.safetensors": ANYTHING,
    "ae.safetensors": ANYTHING,
}


def put_all(folder: Path, files: dict[str, Shapes]) -> None:
    for name, shapes in files.items():
        put(folder / name, shapes)


def vae(pack: Import, models: Path, channels: int) -> Any:
    located = pack("host.checkpoints.folders").Located(models / "diffusion_models" / "pro.safetensors", None)
    return pack("host.checkpoints.companions").locate_vae("default", located, channels)


@pytest.mark.parametrize("name", WAN_NAMES)
def test_the_wan_vae_is_known_by_its_usual_names(pack: Import, models: Path, name: str) -> None:
    put_all(models / "vae", {**OTHERS, name: WAN, "another.safetensors": WAN})
    found = vae(pack, models, 16)
    assert found.file == models / "vae" / name and found.note == ""


@pytest.mark.parametrize("name", ["ltx-video-vae-bf16.safetensors", "LTXV_VAE.safetensors", "ltx_vae.safetensors"])
def test_the_ltx_vae_is_known_by_its_usual_names(pack: Import, models: Path, name: str) -> None:
    put_all(models / "vae", {**OTHERS, name: LTX_090})
    found = vae(pack, models, 128)
    assert found.file == models / "vae" / name and found.note == ""


@pytest.mark.parametrize(("channels", "shapes"), [(16, WAN), (128, LTX_090)])
def test_a_vae_of_another_name_is_known_by_its_tensors_and_named(
    pack: Import, models: Path, channels: int, shapes: Shapes
) -> None:
    put_all(models / "vae", {**OTHERS, "renamed.safetensors": shapes})
    found = vae(pack, models, channels)
    assert found.file.name == "renamed.safetensors" and "renamed.safetensors is used" in found.note
    put(models / "vae" / "second.safetensors", shapes)
    with pytest.raises(FileNotFoundError, match=r"vae: 2 files may be .*renamed.*second.*Choose one of them in `vae`"):
        vae(pack, models, channels)


@pytest.mark.parametrize(("channels", "wanted"), [(16, "Wan 2.1 VAE"), (128, "LTX-Video 0.9.0 VAE")])
def test_other_models_vaes_are_never_taken(pack: Import, models: Path, channels: int, wanted: str) -> None:
    put_all(models / "vae", {**OTHERS, "ltx_vae.safetensors": LTX_LATER, "Wan21_VAE.safetensors": UPSCALING_WAN})
    with pytest.raises(FileNotFoundError, match=f"vae: no {wanted}.*models/vae"):
        vae(pack, models, channels)


def test_another_vae_in_the_published_folder_is_not_taken(pack: Import, models: Path) -> None:
    home = models / "asymtalker" / "SoulX-FlashHead-1_3B"
    put_all(home / "VAE_Wan", {"Wan2.1_VAE.pth": WAN, "Wan2.1_VAE_upscale2x.safetensors": WAN, "a.safetensors": WAN})
    assert vae(pack, models, 16).file == home / "VAE_Wan" / "Wan2.1_VAE.pth"


SPEECH_PLACES = (
    "asymtalker/SoulX-FlashHead-1_3B/wav2vec2-base-960h/model.safetensors",
    "asymtalker/SoulX-FlashHead-1_3B/wav2vec2-base-960h/pytorch_model.bin",
    "asymtalker/wav2vec2-base-960h/pytorch_model.bin",
    "Soul-AILab/SoulX-FlashHead-1_3B/wav2vec2-base-960h/model.safetensors",
    "wav2vec/facebook/wav2vec2-base-960h/model.safetensors",
    "wav2vec/wav2vec2-base-960h/model.safetensors",
    "wav2vec2/wav2vec2-base-960h/pytorch_model.bin",
    "wav2vec2/wav2vec2-base-960h_fp16.safetensors",
    "wav2vec2-base-960h/model.safetensors",
    "transformers/facebook/wav2vec2-base-960h/pytorch_model.bin",
    "audio/wav2vec2-base-960h/model.safetensors",
    "audio_encoders/wav2vec2-base-960h.safetensors",
    "audio_encoders/wav2vec2_base_960h.safetensors",
    "audio_encoders/sub/wav2vec2-base-960h.pth",
    "audio_encoders/wav2vec2-base-960h/pytorch_model.bin",
    "audio_encoders/facebook/wav2vec2-base-960h/model.safetensors",
)
OTHER_SPEECH = {
    "wav2vec2-chinese-base_fp16.safetensors": SPEECH,
    "chinese-wav2vec2-base.safetensors": SPEECH,
    "wav2vec2_large_english_fp16.safetensors": ANYTHING,
    "wav2vec2-base-german.safetensors": {**SPEECH, "lm_head.weight": (40, 768)},
    "whisper_large_v3.safetensors": ANYTHING,
}


def audio_encoder(pack: Import, models: Path, choice: str = "default") -> Any:
    located = pack("host.checkpoints.folders").Located(models / "diffusion_models" / "pro.safetensors", None)
    return pack("host.checkpoints.companions").locate_audio_encoder(choice, located)


@pytest.mark.parametrize("place", SPEECH_PLACES)
def test_wav2vec2_is_found_where_packs_keep_it(pack: Import, models: Path, place: str) -> None:
    put_all(models / "audio_encoders", OTHER_SPEECH)
    put_all(models / "wav2vec2", OTHER_SPEECH)
    put(models / place)
    found = audio_encoder(pack, models)
    assert found.file == models / place and found.note == ""


@pytest.mark.parametrize("place", ["audio_encoders", "asymtalker", "", "wav2vec2"])
def test_wav2vec2_in_hugging_face_s_cache_layout(pack: Import, models: Path, place: str) -> None:
    link = put_cached(models / place, "models--facebook--wav2vec2-base-960h/model.safetensors")
    assert audio_encoder(pack, models).file == link


def test_other_speech_models_are_never_taken(pack: Import, models: Path) -> None:
    put_all(models / "audio_encoders", OTHER_SPEECH)
    put_all(models / "wav2vec2", OTHER_SPEECH)
    with pytest.raises(FileNotFoundError, match=r"audio_encoder: .*wav2vec2-base-960h, which was not found"):
        audio_encoder(pack, models)
    chosen = audio_encoder(pack, models, "wav2vec2-chinese-base_fp16.safetensors")
    assert "trained with wav2vec2-base-960h" in chosen.note


def test_wav2vec2_of_another_name_is_known_by_its_output_layer(pack: Import, models: Path) -> None:
    put_all(models / "audio_encoders", {**OTHER_SPEECH, "english.safetensors": ENGLISH})
    found = audio_encoder(pack, models)
    assert found.file.name == "english.safetensors" and "english.safetensors is used" in found.note


def test_one_message_lists_all_that_is_missing(pack: Import, models: Path) -> None:
    companions = pack("host.checkpoints.companions")
    message = companions.missing_model(PRO)
    for part in (f"model: {PRO}", "vae: no Wan 2.1 VAE", "audio_encoder: ", str(models / "asymtalker")):
        assert part in message
    put(models / "vae" / "wan_2.1_vae.safetensors", WAN)
    assert "vae: no" not in companions.missing_model(PRO)
    located = pack("host.checkpoints.folders").Located(models / "pro.safetensors", None)
    with pytest.raises(FileNotFoundError) as caught:
        companions.locate_companions("default", "default", located, 128, True)
    assert [line.split(":")[0] for line in str(caught.value).splitlines()] == ["vae", "audio_encoder"]


def test_an_unknown_choice_is_one_message_with_the_places_and_a_remedy(pack: Import, folders: Path) -> None:
    places = pack("host.checkpoints.folders")
    for locate in (places.locate_model, lambda name: places.chosen_file(name, "vae", places.VAE_KINDS)):
        with pytest.raises(FileNotFoundError, match=r"'nanoo' .*\. Choose one from the list; .* press R") as caught:
            locate("nanoo")
        assert str(folders / "models") in str(caught.value)


def test_a_list_of_places_reads_as_one(pack: Import) -> None:
    one_of = pack("host.messages").one_of
    assert [one_of("abc"[:count]) for count in (1, 2, 3)] == ["a", "a or b", "a, b or c"]
