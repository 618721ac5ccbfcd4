"""What ComfyUI's dialogue on missing models is told: each file under a name by which the loader finds it."""

from __future__ import annotations

from pathlib import Path

from asymtalker.tests.helpers import Import

PRO, LITE = (f"asymtalker/SoulX-FlashHead-1_3B/Model_{part}" for part in ("Pro", "Lite"))


def test_every_file_is_told_and_none_that_is_there(pack: Import, comfy: Import, folders: Path) -> None:
    downloads = pack("host.checkpoints.downloads")
    missing = downloads.missing_files()
    assert list(missing) == [PRO, LITE]
    for files in missing.values():
        assert list(files) == ["model", "vae", "audio_encoder"]
        for file in files.values():
            assert file["url"].startswith("https://huggingface.co/") and "/resolve/main/" in file["url"]
            assert Path(file["name"]).suffix == Path(file["url"]).suffix == ".safetensors"
    for file in missing[PRO].values():
        (folders / "models" / file["directory"] / file["name"]).write_bytes(b"x")
    comfy("folder_paths").filename_list_cache.clear()
    assert list(downloads.missing_files()) == [LITE]
    assert list(downloads.missing_files()[LITE]) == ["model", "vae"]


def test_a_network_s_name_as_a_file_stands_for_the_published_folder(pack: Import, folders: Path) -> None:
    module = pack("host.checkpoints.folders")
    name = "SoulX-FlashHead-1_3B-Model_Pro.safetensors"
    message = pack("host.checkpoints.companions").missing_model(name)
    assert message.startswith(f"model: {PRO} is not installed (6 GB)") and "wav2vec2-base-960h" in message
    file = folders / "models" / PRO / "diffusion_pytorch_model.safetensors"
    file.parent.mkdir(parents=True)
    (file.parent / "config.json").write_text("{}")
    file.write_bytes((8).to_bytes(8, "little") + b"{}      ")
    assert module.locate_model(name).file == file
