"""Text for people: a user's value in a message, and how the pack's errors are named in ComfyUI's dialogue."""

from __future__ import annotations

from collections.abc import Iterable
from numbers import Number

PACK_NAME = "AsymTalker"
LONGEST_VALUE = 80
"""Characters of a value that a message shows."""


def encodable(text: str) -> str:
    """``text`` with lone surrogates as escapes: ComfyUI's queue ends for good on an error that UTF-8 cannot encode."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def quoted(value: object) -> str:
    """A user's value for a message: text and numbers as Python writes them, shortened; of anything else its type."""
    if value is None:
        return "None"
    if not isinstance(value, (str, Number)):
        return with_article(type(value).__name__)
    try:
        text = encodable(repr(value))
    except ValueError:
        # Python writes no integer of more than 4300 digits.
        return f"{with_article(type(value).__name__)} of more than 4300 digits"
    return text if len(text) <= LONGEST_VALUE else f"{text[: LONGEST_VALUE - 4]}...{text[-1]}"


def expected(name: str, what: str, value: object) -> str:
    """The message for an input ``name`` with a ``value`` that is not ``what`` it must be."""
    return f"{name}: expected {what}, got {quoted(value)}"


def with_article(noun: str) -> str:
    """A noun with "a" or "an"."""
    return f"{'an' if noun[:1].lower() in 'aeiou' else 'a'} {noun}"


def counted(count: int, noun: str) -> str:
    """A number of things: "1 frame", "2 frames"."""
    return f"{count} {noun}{'' if count == 1 else 's'}"


def one_of(things: Iterable[str]) -> str:
    """Several things to choose from: "a", "a or b", "a, b or c"."""
    *first, last = things
    return f"{', '.join(first)} or {last}" if first else last


def make_encodable(error: BaseException) -> None:
    """Replace what UTF-8 cannot hold in an error's message, such as the name of a file in another encoding.

    The errors that caused it are printed with it.
    """
    seen: set[int] = set()
    open_ends: list[BaseException | None] = [error]
    while open_ends:
        current = open_ends.pop()
        if current is None or id(current) in seen:
            continue
        seen.add(id(current))
        open_ends += [current.__cause__, current.__context__]
        args = tuple(encodable(part) if isinstance(part, str) else part for part in current.args)
        if args != current.args:
            current.args = args
        if isinstance(current, OSError):
            for attribute in ("filename", "filename2"):
                part = getattr(current, attribute)
                if isinstance(part, str):
                    setattr(current, attribute, encodable(part))


def name_errors_plainly() -> None:
    """Have ComfyUI's dialogue show `AsymTalker.MediaError` for an error of the pack.

    It shows the class's module, which for a node pack is a path on the server. Errors are found by name only where
    they are pickled, which nothing does in ComfyUI.
    """
    pack = __name__.removesuffix(".host.messages")
    classes: list[type[BaseException]] = [Exception]
    while classes:
        current = classes.pop()
        classes += current.__subclasses__()
        # Other packages' classes may have anything there.
        if str(current.__module__).startswith(f"{pack}."):
            current.__module__ = PACK_NAME
