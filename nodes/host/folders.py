"""Where checkpoints lie: the bundled nano, ``models/diffusion_models`` and folders in ``models/asymtalker``."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import folder_paths

FOLDER = "asymtalker"
NANO = "nano"
DEFAULT = "default"
PUBLISHED = "SoulX-FlashHead-1_3B"
PUBLISHED_CHOICES = (f"{FOLDER}/{PUBLISHED}/Model_Pro", f"{FOLDER}/{PUBLISHED}/Model_Lite")
"""Always listed, so that the shipped graphs load; choosing one that is not there says what to download to where."""

WEIGHT_SUFFIXES = (".safetensors", ".sft", ".pth", ".pt", ".ckpt")
NANO_DIRECTORY = Path(__file__).resolve().parents[2] / "models" / "nano"
NANO_DIT = NANO_DIRECTORY / "asymtalker_nano.safetensors"
NANO_VAE = NANO_DIRECTORY / "asymtalker_nano_vae.safetensors"
NOT_A_DIT = ("vae", "wav2vec")

# What fits a checkpoint, by its latent channels: words that a file name must contain, in order of preference.
VAE_FILE_NAMES = {16: (("wan", "2.1", "vae"), ("wan", "2_1", "vae")), 128: (("ltx", "vae"), ("ltxv",))}
VAE_DIRECTORIES = {16: "VAE_Wan", 128: "VAE_LTX"}
AUDIO_FILE_NAMES = (("wav2vec2", "base", "960h"), ("wav2vec2", "base"))
AUDIO_DIRECTORY = "wav2vec2-base-960h"
VAE_KINDS = ("vae", "vae_approx")
AUDIO_KINDS = ("audio_encoders",)


@dataclass(frozen=True)
class Located:
    """A checkpoint file and the folder (if any) it was published in, where its VAE and audio encoder may lie too."""

    file: Path
    home: Path | None


def register() -> None:
    """Tell ComfyUI about ``models/asymtalker`` (extra_model_paths.yaml may add more); creates nothing."""
    folder_paths.add_model_folder_path(FOLDER, str(Path(folder_paths.models_dir) / FOLDER))


def model_choices() -> list[str]:
    """What the loader offers; files are recognised when they are loaded, not here."""
    folders = [f"{FOLDER}/{folder.relative_to(root).as_posix()}" for root, folder in _published_folders()]
    files = folder_paths.get_filename_list("diffusion_models")
    return list(dict.fromkeys([NANO, *PUBLISHED_CHOICES, *sorted(folders), *files]))


def model_states() -> dict[str, str]:
    """For the labels of the choices (web/loader_labels.js): ``bundled``, ``found``, or ``missing: <folder>``."""
    states = {}
    for choice in model_choices():
        is_missing = choice in PUBLISHED_CHOICES and missing_model(choice) is not None
        states[choice] = f"missing: {Path(folder_paths.models_dir).name}/{choice}" if is_missing else "found"
    return {**states, NANO: "bundled"}


def vae_choices() -> list[str]:
    """``default`` (the checkpoint's own) and the files of models/vae; of models/vae_approx only video VAEs."""
    tiny = [name for name in folder_paths.get_filename_list("vae_approx") if "tae" in name and "sd" not in name]
    return list(dict.fromkeys([DEFAULT, *folder_paths.get_filename_list("vae"), *tiny]))


def audio_encoder_choices() -> list[str]:
    """``default`` (the checkpoint's own) and the files of models/audio_encoders."""
    return [DEFAULT, *folder_paths.get_filename_list("audio_encoders")]


def locate_model(choice: str) -> Located:
    """The file behind a choice of ``model_choices``.

    Raises:
        FileNotFoundError: names the folder and the file that are missing.
    """
    if choice == NANO:
        return Located(_bundled(NANO_DIT), None)
    file = folder_paths.get_full_path("diffusion_models", choice)
    if file is not None:
        return Located(Path(file), None)
    relative = choice.removeprefix(f"{FOLDER}/")
    for root in _roots():
        folder = root / relative
        if folder.is_dir():
            home = folder.parent if folder.parent != root else folder
            return Located(_only_dit(folder), home)
    if choice in PUBLISHED_CHOICES:
        part = relative.rsplit("/", 1)[-1]
        raise FileNotFoundError(
            f"model: {choice} is not installed. Put {part}/diffusion_pytorch_model.safetensors and {part}/config.json "
            f"of Soul-AILab/{PUBLISHED} (Hugging Face) into {_roots()[0] / relative}"
        )
    raise FileNotFoundError(
        f"model: {choice} is neither a file in {_folders_text('diffusion_models')} nor a folder in {_roots()[0]}"
    )


def locate_vae(choice: str, located: Located, latent_channels: int) -> Path:
    """The VAE file for a checkpoint: the one chosen, or for ``default`` the one that belongs to it.

    Raises:
        FileNotFoundError: names the folders searched and the file to put there.
    """
    if choice != DEFAULT:
        return _chosen(choice, "vae", VAE_KINDS)
    if latent_channels not in VAE_FILE_NAMES:
        return _bundled(NANO_VAE)
    directory = VAE_DIRECTORIES[latent_channels]
    found = _beside(located, directory) or _named("vae", VAE_FILE_NAMES[latent_channels])
    if found is None:
        wanted = "wan_2.1_vae.safetensors (or Wan2.1_VAE.pth)" if latent_channels == 16 else "the LTX-Video VAE"
        raise FileNotFoundError(
            f"vae: no VAE for {located.file.name} ({latent_channels} latent channels) was found. Put {wanted} into "
            f"{_folders_text('vae')}, or the folder {directory} into {located.home or _roots()[0] / PUBLISHED}"
        )
    return found


def locate_audio_encoder(choice: str, located: Located) -> Path:
    """The wav2vec2 file: the one chosen, or for ``default`` the one published with the checkpoint or installed.

    Raises:
        FileNotFoundError: names the folders searched and the file to put there.
    """
    if choice != DEFAULT:
        return _chosen(choice, "audio_encoder", AUDIO_KINDS)
    found = _beside(located, AUDIO_DIRECTORY) or _named("audio_encoders", AUDIO_FILE_NAMES)
    if found is None:
        raise FileNotFoundError(
            f"audio_encoder: {located.file.name} listens with wav2vec2-base-960h, which was not found. Put "
            f"model.safetensors of facebook/wav2vec2-base-960h (Hugging Face) as wav2vec2-base-960h.safetensors into "
            f"{_folders_text('audio_encoders')}"
        )
    return found


def missing_model(choice: str | None) -> str | None:
    """What is wrong with the loader's model choice, if anything; None stands for one that another node will make."""
    try:
        if choice is not None:
            locate_model(choice)
    except FileNotFoundError as error:
        return str(error)
    return None


def _roots() -> list[Path]:
    return [Path(path) for path in folder_paths.get_folder_paths(FOLDER)]


def _folders_text(kind: str) -> str:
    return " or ".join(folder_paths.get_folder_paths(kind))


def _bundled(file: Path) -> Path:
    if not file.is_file():
        raise FileNotFoundError(
            f"model: the bundled file {file.name} is missing from {file.parent}; reinstall the pack"
        )
    return file


def _published_folders() -> Iterator[tuple[Path, Path]]:
    """(root, folder) of every folder at most two levels down that holds network weights."""
    for root in _roots():
        for pattern in ("*", "*/*"):
            for folder in sorted(root.glob(pattern)):
                if folder.is_dir() and not folder.name.lower().startswith(NOT_A_DIT) and _weights(folder):
                    yield root, folder


def _weights(folder: Path) -> list[Path]:
    files = (file for file in folder.iterdir() if file.suffix in WEIGHT_SUFFIXES and file.is_file())
    return sorted(file for file in files if not any(word in file.name.lower() for word in NOT_A_DIT))


def _only_dit(folder: Path) -> Path:
    files = _weights(folder)
    if len(files) != 1:
        found = ", ".join(file.name for file in files) or "none"
        raise FileNotFoundError(
            f"model: {folder} must hold one network file (diffusion_pytorch_model.safetensors), found {found}"
        )
    return files[0]


def _beside(located: Located, directory: str) -> Path | None:
    """A weights file in ``directory`` of the checkpoint's published folder or of any folder in models/asymtalker."""
    homes = [located.home] if located.home is not None else []
    homes += [folder for root in _roots() if root.is_dir() for folder in (root, *sorted(root.iterdir()))]
    for home in homes:
        folder = home / directory
        if folder.is_dir():
            files = sorted(file for file in folder.iterdir() if file.suffix in WEIGHT_SUFFIXES)
            if files:
                return files[0]
    return None


def _named(kind: str, patterns: tuple[tuple[str, ...], ...]) -> Path | None:
    names = folder_paths.get_filename_list(kind)
    for words in patterns:
        for name in names:
            if all(word in os.path.normpath(name).lower() for word in words):
                return Path(folder_paths.get_full_path_or_raise(kind, name))
    return None


def _chosen(choice: str, input_name: str, kinds: tuple[str, ...]) -> Path:
    for kind in kinds:
        file = folder_paths.get_full_path(kind, choice)
        if file is not None:
            return Path(file)
    raise FileNotFoundError(f"{input_name}: {choice} is not in {' or '.join(_folders_text(kind) for kind in kinds)}")
