"""Where checkpoints lie: the bundled nano, ``models/diffusion_models``, ``models/asymtalker`` and other packs' folders.

A name from a graph is never made into a path: it is looked up among what was listed.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import folder_paths

from ...models.family import LEAPTALK, NANO_NETWORK, PRO, PUBLISHED, ModelSpec
from ...models.files import is_folder
from ..messages import encodable, one_of, quoted
from .adapters import LORA, PROJECTION, Adapter, find_adapter
from .weight_files import (
    check_whole,
    content,
    first_part,
    repository_name,
    subfolders,
    usual_stem,
    weight_files,
    without_further_parts,
)

FOLDER = "asymtalker"
NANO = "nano"
DEFAULT = "default"


def choice_of(spec: ModelSpec) -> str:
    """The loader's choice for a published model."""
    return "/".join(filter(None, (FOLDER, spec.network.repository_name, spec.network.folder)))


LISTED_CHOICES = {choice_of(spec): spec for spec in PUBLISHED}
"""Always listed, so that the shipped graphs load. For a missing one, the error gives what to download, and where to."""

NETWORK_CHOICES = {choice: spec for choice, spec in LISTED_CHOICES.items() if spec.adapter_of is None}
ADAPTER_CHOICES = {choice: spec for choice, spec in LISTED_CHOICES.items() if spec.adapter_of is not None}
REPOSITORIES = tuple({spec.network.repository: spec.network for spec in NETWORK_CHOICES.values()}.values())
"""One of the networks of each repository."""

SINGLE_FILES = {
    f"{spec.network.repository_name}-{spec.network.folder}.safetensors": choice
    for choice, spec in NETWORK_CHOICES.items()
}
"""Names of the published networks as files of models/diffusion_models."""

USUAL_NETWORK = Path(PRO.network.main_file).stem
"""The network that a folder's name stands for where the folder holds several."""

NOT_A_DIT = (
    "vae",
    "wav2vec",
    "taew",
    "optimizer",
    "scheduler",
    "training_args",
    "random_states",
    f"{PROJECTION}_step",
    LORA,
)
VAE_KINDS = ("vae", "vae_approx")
AUDIO_KINDS = ("audio_encoders",)
CHOOSE_AGAIN = "Choose one from the list; after adding a file, press R in ComfyUI to refresh it"


@dataclass(frozen=True)
class Located:
    """A checkpoint's file (the first of several numbered ones) and where its VAE and audio encoder may lie beside it.

    ``home`` is the published folder, if any; ``others`` are the choices of further networks in the same folder;
    ``adapter`` is to be applied to the network.
    """

    file: Path
    home: Path | None
    others: tuple[str, ...] = ()
    adapter: Adapter | None = None


@dataclass
class Offers:
    """Networks and adapters by the choice that loads them, and the choices that match several networks."""

    located: dict[str, Located] = field(default_factory=dict)
    ambiguous: dict[str, tuple[str, ...]] = field(default_factory=dict)
    adapters: dict[str, Adapter] = field(default_factory=dict)

    def has(self, choice: str) -> bool:
        """Whether ``choice`` is offered; an ambiguous one leads to an error that lists the networks."""
        return choice in self.located or choice in self.ambiguous or choice in self.adapters

    def add(self, choice: str, folder: Path, home: Path) -> None:
        """Offer the networks that lie in ``folder``, unless ``choice`` is offered already."""
        if self.has(choice):
            return
        files = {f"{choice}/{file.name}": file for file in weight_files(folder) if is_network(file.name)}
        usual = [name for name, file in files.items() if usual_stem(file) == USUAL_NETWORK]
        if len(files) == 1 or len(usual) == 1:
            chosen = next(iter(usual or files))
            self.located[choice] = Located(files.pop(chosen), home, tuple(files))
        elif files:
            self.ambiguous[choice] = tuple(files)
        for name, file in files.items():
            self.located[name] = Located(file, home)


def is_network(name: str) -> bool:
    """Whether a file or folder of this name may be a network; it is recognised by its tensors when it is loaded."""
    return not any(word in name.lower() for word in NOT_A_DIT)


def register() -> None:
    """Register ``models/asymtalker`` with ComfyUI (extra_model_paths.yaml may add more); creates nothing."""
    folder_paths.add_model_folder_path(FOLDER, str(Path(folder_paths.models_dir) / FOLDER))


def model_states() -> dict[str, str]:
    """The loader's choices, each with ``bundled``, ``found``, or ``missing: <folder>`` (web/loader_labels.js)."""
    offers = _offers()
    states = {NANO: "bundled"}
    for choice in LISTED_CHOICES:
        states[choice] = "found" if offers.has(choice) else f"missing: {Path(folder_paths.models_dir).name}/{choice}"
    for choice in (*sorted(offers.adapters), *sorted(offers.located), *_diffusion_models()):
        states.setdefault(choice, "found")
    return states


def titles() -> dict[str, list[str]]:
    """The display names and download sizes of the published choices, for ``web/loader_labels.js``."""
    return {choice: [spec.network.title, spec.network.size] for choice, spec in LISTED_CHOICES.items()}


def vae_choices() -> list[str]:
    """``default`` (the checkpoint's own) and the files of models/vae; of models/vae_approx only video VAEs."""
    tiny = [name for name in listed("vae_approx") if "tae" in name and "sd" not in name]
    return list(dict.fromkeys([DEFAULT, *listed("vae"), *tiny]))


def audio_encoder_choices() -> list[str]:
    """``default`` (the checkpoint's own) and the files of models/audio_encoders."""
    return [DEFAULT, *listed("audio_encoders")]


def locate_model(choice: str) -> Located:
    """The file behind a choice of ``model_states``.

    Raises:
        FileNotFoundError: names the folder and the file that are missing, or the networks to choose from.
    """
    if choice == NANO:
        return Located(_bundled(NANO_NETWORK), None)
    offers = _offers()
    if choice in offers.adapters:
        return _adapted(offers.adapters[choice], offers)
    located = offers.located.get(choice) or _in_diffusion_models(choice)
    if located is not None:
        check_whole(located.file, "model")
        return located
    if choice in SINGLE_FILES:
        return locate_model(SINGLE_FILES[choice])
    if choice in offers.ambiguous:
        raise FileNotFoundError(
            f"model: {choice} holds several networks, choose one of them: {', '.join(offers.ambiguous[choice])}"
        )
    if choice in LISTED_CHOICES:
        lines = [f"model: {_to_download(LISTED_CHOICES[choice])}"]
        base = LISTED_CHOICES[choice].adapter_of
        if base is not None and choice_of(base) not in offers.located:
            lines.append(f"It needs {base.title}: {_to_download(base)}")
        raise FileNotFoundError("\n".join(lines))
    raise FileNotFoundError(
        f"model: {quoted(choice)} is neither a file in {folders_text('diffusion_models')} nor a folder in "
        f"{one_of(map(str, roots()))}. {CHOOSE_AGAIN}"
    )


def _to_download(spec: ModelSpec) -> str:
    """Which files of a missing model to download, and where to put them."""
    choice, weights = choice_of(spec), spec.network
    files = [f"{weights.folder}/{file}" if weights.folder else file for file in reversed(weights.files)]
    return (
        f"{choice} is not installed ({weights.size}). Put {', '.join(files[:-1])} and {files[-1]} of "
        f"{weights.repository} (Hugging Face, {weights.link}) into {Path(roots()[0], *choice.split('/')[1:])}"
    )


def _adapted(adapter: Adapter, offers: Offers) -> Located:
    """A network with its adapter. Raises FileNotFoundError if either is missing."""
    weights, base = adapter.spec.network, adapter.spec.adapter_of
    assert base is not None
    if adapter.projection is None:
        file = next(file for file in weights.files if file.startswith(PROJECTION))
        raise FileNotFoundError(
            f"model: {adapter.folder} lacks {file}, the audio projection that belongs to its LoRA: "
            "without it the mouth does not follow the speech. Download it to this folder from "
            f"{weights.repository} (Hugging Face)"
        )
    located = offers.located.get(choice_of(base))
    if located is None:
        raise FileNotFoundError(f"model: {adapter.folder.name} needs {base.title}: {_to_download(base)}")
    check_whole(located.file, "model")
    return replace(located, others=(), adapter=adapter)


def chosen_file(choice: str, input_name: str, kinds: tuple[str, ...]) -> Path:
    """The file of that name in a model folder of one of the ``kinds``. Raises FileNotFoundError with the folders."""
    for kind in kinds:
        file = folder_paths.get_full_path(kind, choice) if choice in listed(kind) else None
        if file is not None:
            return Path(file)
    places = one_of(folder for kind in kinds for folder in folder_paths.get_folder_paths(kind))
    raise FileNotFoundError(f"{input_name}: {quoted(choice)} is not in {places}. {CHOOSE_AGAIN}")


def listed(kind: str) -> list[str]:
    """Names of the files in ComfyUI's folders of a kind, without those that UTF-8 cannot hold."""
    try:
        names = folder_paths.get_filename_list(kind)
    except OSError as error:
        # Core's list is of a folder that has gone or cannot be entered any more.
        logging.debug("AsymTalker: the folders of %s are read again: %s", kind, encodable(str(error)))
        try:
            names = folder_paths.get_filename_list_(kind)[0]
        except OSError:
            return []
    return [name for name in names if encodable(name) == name]


def roots() -> list[Path]:
    """The folders of ``asymtalker``, models/asymtalker and those of extra_model_paths.yaml."""
    return [Path(path) for path in folder_paths.get_folder_paths(FOLDER)]


def folders_text(kind: str) -> str:
    """ComfyUI's folders of a kind, for a message."""
    return one_of(folder_paths.get_folder_paths(kind))


def homes() -> Iterator[tuple[str, Path]]:
    """(label, folder) of whatever may be a published folder: those in models/asymtalker, and where other packs put it.

    ComfyUI_RH_FlashHead reads models/Soul-AILab/SoulX-FlashHead-1_3B; Hugging Face's cache layout may lie in each.
    """
    for root in roots():
        for repository in REPOSITORIES:
            if root.name.casefold() == repository.repository_name.casefold():
                yield repository.repository_name, root
        for folder in subfolders(root):
            yield repository_name(folder), content(folder)
    models = Path(folder_paths.models_dir)
    bases = [*roots(), models, *map(Path, folder_paths.get_folder_paths("diffusion_models"))]
    for base in bases:
        for repository in REPOSITORIES:
            for parent in (base, base / repository.organisation):
                for folder in (parent / repository.repository_name, parent / repository.cache_folder):
                    if is_folder(folder):
                        yield repository.repository_name, content(folder)


def _offers() -> Offers:
    offers = Offers()
    for root in roots():
        for file in weight_files(root):
            if is_network(file.name):
                offers.located.setdefault(f"{FOLDER}/{file.name}", Located(file, root))
    usual_case = {choice.casefold(): choice for choice in LISTED_CHOICES}
    for label, home in homes():
        choice = f"{FOLDER}/{label}"
        choice = usual_case.get(choice.casefold(), choice)
        adapter = find_adapter(home, ADAPTER_CHOICES.get(choice, LEAPTALK))
        if adapter is not None:
            offers.adapters.setdefault(choice, adapter)
        elif is_network(label):
            offers.add(f"{FOLDER}/{label}", home, home)
        for folder in subfolders(home):
            if is_network(folder.name):
                choice = f"{FOLDER}/{label}/{folder.name}"
                offers.add(usual_case.get(choice.casefold(), choice), folder, home)
    return offers


def _diffusion_models() -> list[str]:
    return without_further_parts(listed("diffusion_models"))


def _in_diffusion_models(choice: str) -> Located | None:
    path = folder_paths.get_full_path("diffusion_models", choice) if choice in listed("diffusion_models") else None
    if path is None:
        return None
    file = Path(path)
    return Located(first_part(file), file.parent.parent if Path(choice).name != choice else file.parent)


def _bundled(file: Path) -> Path:
    if not file.is_file():
        raise FileNotFoundError(
            f"model: the bundled file {file.name} is missing from {file.parent}; reinstall the pack"
        )
    return file
