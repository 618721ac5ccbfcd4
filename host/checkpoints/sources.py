"""Which file a loaded MODEL, VAE or AUDIO_ENCODER was read from, for notes and the Sampler's report."""

from __future__ import annotations

from pathlib import Path

import folder_paths

from ...models.family import NANO_DIRECTORY

ATTRIBUTE = "asymtalker_file"


def note_file(value: object, file: Path) -> None:
    """Store on a loaded object, which other nodes pass on, the file that it was read from."""
    setattr(value, ATTRIBUTE, shown_path(file))


def file_of(value: object) -> str:
    """The file stored by ``note_file``; empty if another node loaded the object."""
    return getattr(value, ATTRIBUTE, "")


def shown_path(file: Path) -> str:
    """A model file's path from ComfyUI's models folder on; the whole path of one that lies elsewhere."""
    if NANO_DIRECTORY in file.parents:
        return f"{file.name} (bundled)"
    models = Path(folder_paths.models_dir)
    return str(file.relative_to(models)) if models in file.parents else str(file)
