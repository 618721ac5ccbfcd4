"""`report.html` and `report.csv`: the result of every row."""

from __future__ import annotations

import base64
import csv
import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, get_args
from urllib.parse import quote

import jinja2

from ..models.files import replacing
from .ledger import Ledger
from .plan import Clip, Failure, Plan, output_paths
from .progress import in_words

HTML, CSV = "report.html", "report.csv"
TEMPLATE = Path(__file__).with_name("report.html.jinja")
MOST_THUMBNAILS = 2000
"""Only this many rows have a thumbnail, so that the page is not too large for a browser."""

REMEDIES = (
    (r"(?i)out of memory|allocate", "use a smaller size, or weight_dtype fp8 in Load AsymTalker"),
    (r"no face", "use a portrait with a clear frontal face, or set on_missing to centre in AsymTalker Face Crop"),
    (r"process ended|was lost", "read the server's log (comfyui.log); then run the same command again"),
    (r"no such file", "correct the path; it is relative to the table"),
    (r"cancelled", "run the same command again"),
    (r"damaged|cannot be read|not an audio|no sound|no audio", "export the file again from its source"),
    (r"expected|is not one of|is not between", "correct the cell"),
    (r"no message for", "restart that server, then run the same command again"),
)
COLUMNS = (
    ("row", "row"),
    ("state", "state"),
    ("name", "output"),
    ("column", "column"),
    ("reason", "reason"),
    ("remedy", "remedy"),
    ("warnings", "warnings"),
    ("seconds", "length (s)"),
    ("drift", "drift"),
    ("seam", "worst seam"),
    ("attempts", "attempts"),
    ("run_s", "render time (s)"),
    ("worker", "server"),
)
"""Fields of ``Entry`` and their headings in both reports.

A new column also needs a field of ``Entry`` and a value in ``_done``, and in ``batch/figures.py`` if it comes from the
Sampler's report.
"""


RowState = Literal["done", "failed", "refused", "missing"]


@dataclass(slots=True)
class Entry:
    """One row of the table in the report."""

    row: int
    state: RowState
    name: str = ""
    files: list[str] = field(default_factory=list)
    seconds: float | None = None
    drift: float | None = None
    seam: float | None = None
    attempts: int = 0
    run_s: float | None = None
    worker: str = ""
    column: str = ""
    warnings: str = ""
    reason: str = ""
    thumbnail: bytes = b""

    @property
    def remedy(self) -> str:
        """What to do about the reason."""
        found = next((remedy for pattern, remedy in REMEDIES if re.search(pattern, self.reason)), "")
        return found if self.reason else ""


def entries(plan: Plan, ledger: Ledger, failures: dict[str, Failure]) -> list[Entry]:
    """An entry for every row of the table, in order."""
    found = {
        fault.row: Entry(fault.row, "refused", plan.names[fault.row], column=fault.column, reason=fault.reason)
        for fault in plan.faults.values()
    }
    for clip in plan.clips.values():
        result = ledger.result(clip.identity)
        attempts = ledger.attempts(clip.identity)
        for name, row in zip(clip.names, clip.rows, strict=True):
            if name in clip.intact and result is not None:
                thumbnail = ledger.thumbnail(clip.identity) if len(found) < MOST_THUMBNAILS else b""
                found[row] = _done(row, name, len(attempts), result, thumbnail)
            else:
                found[row] = _not_done(row, name, clip, failures, attempts)
    return [found[row.number] for row in plan.table.rows]


def _done(row: int, name: str, attempts: int, result: dict[str, Any], thumbnail: bytes) -> Entry:
    return Entry(
        row,
        "done",
        name,
        files=output_paths(name, [file["suffix"] for file in result["files"]]),
        seconds=result.get("seconds"),
        drift=result.get("drift"),
        seam=result.get("seam"),
        attempts=attempts,
        run_s=result.get("run_s"),
        worker=result.get("worker", ""),
        warnings="; ".join(result.get("warnings", [])),
        thumbnail=thumbnail,
    )


def _not_done(row: int, name: str, clip: Clip, failures: dict[str, Failure], attempts: list[dict[str, Any]]) -> Entry:
    failure = failures.get(clip.identity)
    entry = Entry(row, "missing", name, seconds=clip.seconds, attempts=len(attempts), reason="the batch was stopped")
    if failure is None:
        return entry
    worker = attempts[-1]["worker"] if attempts else ""
    return replace(entry, state="failed", worker=worker, column=failure.column, reason=failure.reason)


def write_reports(folder: Path, title: str, rows: list[Entry]) -> None:
    """Write both reports, each in one step."""
    with replacing(folder / CSV) as partial, partial.open("x", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow([label for _, label in COLUMNS])
        for entry in rows:
            writer.writerow([_plain(getattr(entry, name)) for name, _ in COLUMNS])
    with replacing(folder / HTML) as partial, partial.open("x", encoding="utf-8") as stream:
        # Written in pieces, because the page of a hundred thousand rows is large.
        stream.writelines(_page(title, rows))


def _plain(value: Any) -> Any:
    """A cell that spreadsheets do not interpret as a formula."""
    if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r"):
        return f"'{value}"
    return "" if value is None else value


def _page(title: str, rows: list[Entry]) -> Iterator[str]:
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    environment.filters["url"] = quote
    environment.filters["base64"] = lambda data: base64.b64encode(data).decode()
    counts = {state: sum(entry.state == state for entry in rows) for state in get_args(RowState)}
    return environment.from_string(TEMPLATE.read_text(encoding="utf-8")).generate(
        title=title,
        rows=rows,
        counts=counts,
        # An empty column takes the space of those that say something.
        columns=[column for column in COLUMNS if any(getattr(entry, column[0]) not in (None, "") for entry in rows)],
        length=in_words(sum(entry.seconds or 0 for entry in rows if entry.state == "done")),
    )
