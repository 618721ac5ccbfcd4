"""The VAE and the audio encoder that belong to a checkpoint: by their exact names first, then by their tensors.

Other models' files lie in the same folders, some of the same shapes: ``wav2vec2-chinese-base`` in place of
``wav2vec2-base-960h`` loads and gives wrong mouths. So a file is never taken because its name is similar.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import folder_paths
from safetensors import SafetensorError, safe_open

from ...models.family import LITE, NANO_VAE, PRO, WAV2VEC2, Weights
from ..messages import expected
from .folders import (
    AUDIO_KINDS,
    DEFAULT,
    NETWORK_CHOICES,
    SINGLE_FILES,
    VAE_KINDS,
    Located,
    chosen_file,
    folders_text,
    homes,
    listed,
    locate_model,
    roots,
)
from .weight_files import content, weight_files

Shapes = Mapping[str, tuple[int, ...]]

WAV2VEC2_STEMS = ("model", "pytorch_model")
WAV2VEC2_PARENTS = ("", "wav2vec2", "wav2vec", "transformers", "audio")
"""Folders of models/ in which other packs keep their wav2vec2."""

_PRECISION = r"(?:fp32|bf16|fp16|float32|bfloat16|float16)?"
_WAV2VEC2_NAME = re.compile(rf"(?:facebook)?wav2vec2base960h{_PRECISION}")
_CTC_LETTERS = 32


@dataclass(frozen=True)
class VaeKind:
    """How a published VAE is recognised.

    ``name`` matches its usual file names (lower case, letters and digits only), ``foreign`` are words in names of other
    models' files with the same tensors.
    """

    weights: Weights
    name: re.Pattern[str]
    foreign: tuple[str, ...]
    is_this: Callable[[Shapes], bool]
    is_other: Callable[[Shapes], bool]

    @property
    def stems(self) -> tuple[str, ...]:
        """Its usual file names in the published folder, in lower case and without suffix."""
        names = (self.weights.main_file, self.weights.single_file)
        return tuple(Path(name).stem.casefold() for name in names if name)

    @property
    def download(self) -> str:
        """What to put into models/vae."""
        file, published = self.weights.single_file, self.weights.main_file
        return f"{file} (or {published})" if file else f"the {self.weights.title}"


@dataclass(frozen=True)
class Found:
    """A file that was chosen or found, and a note about it, which may be empty."""

    file: Path
    note: str = ""


def _first(shapes: Shapes, name: str) -> tuple[int, ...]:
    return next((shape for prefix in ("", "vae.", "first_stage_model.") if (shape := shapes.get(prefix + name))), ())


def _is_wan_21(shapes: Shapes) -> bool:
    """16 latent channels and three colours; VAEs that upscale have more outputs, Wan 2.2's more latent channels."""
    return _first(shapes, "conv2.weight")[:2] == (16, 16) and _first(shapes, "decoder.head.2.weight")[:1] == (3,)


def _is_wan_other(shapes: Shapes) -> bool:
    return bool(_first(shapes, "decoder.head.2.weight")) and not _is_wan_21(shapes)


def _ltx_width(shapes: Shapes) -> int:
    """Channels of the decoder's first block: 512 in LTX-Video 0.9.0, 1024 in later ones; 0 where it is no LTX VAE."""
    own = _first(shapes, "decoder.up_blocks.0.res_blocks.0.conv1.conv.weight")
    diffusers = _first(shapes, "decoder.mid_block.resnets.0.conv1.conv.weight")
    return (own or diffusers or (0,))[0]


VAES = {
    PRO.config.latent_channels: VaeKind(
        PRO.vae,
        name=re.compile(rf"(?:comfy)?(?:wan21vae|vaewan21){_PRECISION}"),
        foreign=("qwen", "upscale", "2x", "tae", "audio", "krea"),
        is_this=_is_wan_21,
        is_other=_is_wan_other,
    ),
    LITE.config.latent_channels: VaeKind(
        LITE.vae,
        name=re.compile(rf"ltx(?:v|video)?(?:09|090)?vae{_PRECISION}"),
        foreign=("audio", "tae"),
        is_this=lambda shapes: _ltx_width(shapes) == 512,
        is_other=lambda shapes: _ltx_width(shapes) not in (0, 512),
    ),
}
"""By latent channels of the checkpoint, Pro's and Lite's. Any other number is nano's, whose VAE comes with the pack."""


def locate_companions(
    vae_choice: str, audio_choice: str, located: Located, latent_channels: int, needs_wav2vec2: bool
) -> tuple[Found, Found | None]:
    """The VAE and, unless the checkpoint needs none, the audio encoder.

    Raises:
        FileNotFoundError: lists whatever is missing, and where it goes.
    """
    found: list[Found | None] = []
    missing: list[str] = []
    searches: list[Callable[[], Found | None]] = [
        lambda: locate_vae(vae_choice, located, latent_channels),
        lambda: locate_audio_encoder(audio_choice, located) if needs_wav2vec2 or audio_choice != DEFAULT else None,
    ]
    for search in searches:
        try:
            found.append(search())
        except FileNotFoundError as error:
            missing.append(str(error))
    if missing:
        raise FileNotFoundError("\n".join(missing))
    vae, audio = found
    assert vae is not None
    return vae, audio


def locate_vae(choice: str, located: Located, latent_channels: int) -> Found:
    """The VAE file for a checkpoint: the one chosen, or for ``default`` the one that belongs to it.

    Raises:
        FileNotFoundError: names the folders searched and the file to put there, or several files to choose from.
    """
    if choice != DEFAULT:
        return Found(chosen_file(choice, "vae", VAE_KINDS))
    kind = VAES.get(latent_channels)
    if kind is None:
        return Found(NANO_VAE)
    if located.adapter is not None and located.adapter.fast_vae is not None:
        return Found(
            located.adapter.fast_vae,
            f"vae: {located.adapter.fast_vae.name}, as published with {located.adapter.folder.name}; the Wan 2.1 VAE, "
            "selected as `vae`, is sharper and slower",
        )
    found = _published_vae(kind, located) or _installed_vae(kind)
    if found is None:
        weights = kind.weights
        home = located.home or roots()[0] / weights.repository_name
        published = f"the folder {weights.folder} of {weights.repository} (Hugging Face, {weights.link})"
        raise FileNotFoundError(
            f"vae: no {kind.weights.title} for {located.file.name} ({latent_channels} latent channels) was found. Put "
            f"{kind.download} into {folders_text('vae')}, or {published} into {home}"
        )
    return found


def locate_audio_encoder(choice: str, located: Located) -> Found:
    """The wav2vec2 file: the one chosen, or for ``default`` the one published with the checkpoint or installed.

    Raises:
        FileNotFoundError: names the folders searched and the file to put there, or several files to choose from.
    """
    if choice != DEFAULT:
        file = chosen_file(choice, "audio_encoder", AUDIO_KINDS)
        note = f"audio_encoder: {file.name} is used, but the checkpoints were trained with {WAV2VEC2.title}"
        return Found(file, "" if _is_named_wav2vec2(file) else note)
    found = _published_wav2vec2(located) or _installed_wav2vec2()
    if found is None:
        raise FileNotFoundError(
            f"audio_encoder: {located.file.name} needs {WAV2VEC2.title}, which was not found. Put "
            f"{WAV2VEC2.main_file} of {WAV2VEC2.repository} (Hugging Face, {WAV2VEC2.link}) as "
            f"{WAV2VEC2.single_file} into {folders_text('audio_encoders')}"
        )
    return found


def missing_model(choice: object) -> str | None:
    """The problem with the loader's model choice, if any; None stands for one that another node provides.

    Of a published model that is not there, its VAE and audio encoder are named too if they are missing.
    """
    if choice is None:
        return None
    if not isinstance(choice, str):
        return expected("model", "a name of the list", choice)
    try:
        locate_model(choice)
    except FileNotFoundError as error:
        lines = [str(error)]
        choice = SINGLE_FILES.get(choice, choice)
        if choice in NETWORK_CHOICES:
            lines += _missing_companions(choice)
        return "\n".join(lines)
    return None


def _missing_companions(choice: str) -> list[str]:
    spec = NETWORK_CHOICES[choice]
    home = roots()[0] / spec.network.repository_name
    located = Located(home / spec.network.folder / spec.network.main_file, home)
    try:
        locate_companions(DEFAULT, DEFAULT, located, spec.config.latent_channels, spec.audio_encoder is not None)
    except FileNotFoundError as error:
        return ["Unless other files are chosen, these are missing too:", str(error)]
    return []


def _published_vae(kind: VaeKind, located: Located) -> Found | None:
    for home in _all_homes(located):
        found = _in_folder(home / kind.weights.folder, kind.stems, kind.foreign)
        if found is not None:
            return found
    return None


def _published_wav2vec2(located: Located) -> Found | None:
    for parent in (*_all_homes(located), *_wav2vec2_parents()):
        for name in (WAV2VEC2.title, WAV2VEC2.repository, WAV2VEC2.cache_folder):
            found = _in_folder(content(parent / name), WAV2VEC2_STEMS)
            if found is not None:
                return found
    return None


def _in_folder(folder: Path, stems: tuple[str, ...], foreign: tuple[str, ...] = ()) -> Found | None:
    """The weights in a folder that is named for them: those with the first of the usual names, else the first."""
    files = [file for file in weight_files(folder) if not _is_foreign(file, foreign)]
    by_stem = {file.stem.casefold(): file for file in files}
    usual = next((by_stem[stem] for stem in stems if stem in by_stem), None)
    return Found(usual or files[0]) if files else None


def _is_foreign(file: Path, words: tuple[str, ...]) -> bool:
    return any(word in file.name.lower() for word in words)


def _all_homes(located: Located) -> Iterator[Path]:
    if located.home is not None:
        yield located.home
    yield from roots()
    yield from (home for _, home in homes())


def _wav2vec2_parents() -> Iterator[Path]:
    yield from map(Path, folder_paths.get_folder_paths("audio_encoders"))
    if "wav2vec2" in folder_paths.folder_names_and_paths:
        yield from map(Path, folder_paths.get_folder_paths("wav2vec2"))
    yield from (Path(folder_paths.models_dir) / name for name in WAV2VEC2_PARENTS)


def _installed_vae(kind: VaeKind) -> Found | None:
    candidates = [file for file in _files("vae") if not _is_foreign(file, kind.foreign)]
    for file in candidates:
        if kind.name.fullmatch(_plain(file.stem)) and not kind.is_other(_shapes(file)):
            return Found(file)
    return _by_content(candidates, kind.is_this, "vae", f"the {kind.weights.title}")


def _installed_wav2vec2() -> Found | None:
    files = _files("audio_encoders")
    for file in (*files, *(file for parent in _wav2vec2_parents() for file in weight_files(parent))):
        if _WAV2VEC2_NAME.fullmatch(_plain(file.stem)):
            return Found(file)
    return _by_content(files, _is_english_ctc, "audio_encoder", WAV2VEC2.title)


def _by_content(
    candidates: Iterable[Path], is_this: Callable[[Shapes], bool], input_name: str, title: str
) -> Found | None:
    """The one candidate with the right tensors. Raises FileNotFoundError that names them if there are several."""
    fitting = [file for file in candidates if is_this(_shapes(file))]
    if len(fitting) > 1:
        raise FileNotFoundError(
            f"{input_name}: {len(fitting)} files may be {title}: {', '.join(file.name for file in fitting)}. "
            f"Choose one of them in `{input_name}`"
        )
    if not fitting:
        return None
    note = f"{input_name}: {fitting[0].name} is used as {title}, because its tensors have the same names and shapes"
    return Found(fitting[0], note)


def _files(kind: str) -> list[Path]:
    paths = (folder_paths.get_full_path(kind, name) for name in listed(kind))
    return [Path(path) for path in paths if path is not None]


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def _is_named_wav2vec2(file: Path) -> bool:
    usual, folders = _plain(WAV2VEC2.title), (_plain(part) for part in file.parent.parts)
    return bool(_WAV2VEC2_NAME.fullmatch(_plain(file.stem))) or any(name.endswith(usual) for name in folders)


def _is_english_ctc(shapes: Shapes) -> bool:
    """wav2vec2-base-960h was published with its output layer over 32 letters; most others have other ones, or none."""
    return (
        shapes.get("lm_head.weight") == (_CTC_LETTERS, 768)
        and "wav2vec2.encoder.layers.11.final_layer_norm.weight" in shapes
    )


def _shapes(file: Path) -> Shapes:
    """Names and shapes from a safetensors file's header; of anything else none."""
    if file.suffix.lower() not in (".safetensors", ".sft"):
        return {}
    try:
        with safe_open(file, framework="pt") as header:
            return {name: tuple(header.get_slice(name).get_shape()) for name in header.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError):
        return {}
