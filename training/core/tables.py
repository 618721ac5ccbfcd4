"""Tables in Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from tabulate import tabulate


def markdown_table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table whose cells are texts, with a newline at its end."""
    return tabulate(list(rows), headings, tablefmt="github", disable_numparse=True) + "\n"
