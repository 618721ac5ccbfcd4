"""Named choices whose values are the texts in graphs, checkpoints and stored jobs."""

from __future__ import annotations

from enum import Enum
from typing import TypeVar

from .config import ConfigError, short

AnyChoice = TypeVar("AnyChoice", bound="Choice")


class Choice(str, Enum):
    """A text out of a fixed set; equal to that text, and written as it (``enum.StrEnum`` needs Python 3.11)."""

    def __str__(self) -> str:
        return self.value

    @classmethod
    def parse(cls: type[AnyChoice], value: object, name: str) -> AnyChoice:
        """The choice with that text. For any other text, raises ConfigError that names the input and the choices."""
        if not isinstance(value, str) or value not in cls.texts():
            raise ConfigError(f"{name}: {short(value)} is not a choice; use one of {', '.join(cls.texts())}")
        return cls(value)

    @classmethod
    def texts(cls) -> list[str]:
        """All of them, as plain texts, in order."""
        return [choice.value for choice in cls]


class Keep(Choice):
    """How long a job's frames stay on disk."""

    UNTIL_SAVED = "until saved"
    FOR_EXTENDING = "for extending"
    """After saving too, so that a longer recording can continue them."""
    NEVER = "never"
    """Only during the run."""
