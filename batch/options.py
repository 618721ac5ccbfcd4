"""The command line."""

from __future__ import annotations

import argparse
import os
import re
from pathlib import Path


def parse_arguments(arguments: list[str] | None) -> argparse.Namespace:
    """The command line's options, with all checks that do not need files."""
    parser = argparse.ArgumentParser(
        prog="python -m asymtalker.batch",
        description="Render a table of clips on one or many ComfyUI servers. Run the same command again to resume "
        "after a stop, or to render rows that were added or changed.",
    )
    parser.add_argument("table", type=Path, help="clips in .csv, .jsonl or .parquet; one row for each clip")
    parser.add_argument("--out", type=folder, required=True, help="folder for the videos and the report")
    parser.add_argument(
        "--workflow", default="nano", help="graph in API form, or the name of a shipped one (default: %(default)s)"
    )
    parser.add_argument("--dry-run", action="store_true", help="check every row, measure the speed, and print a plan")
    where = parser.add_argument_group("where it runs")
    where.add_argument(
        "--workers",
        type=int,
        help="ComfyUI servers to start (default: one for each GPU; without GPUs, one for every 4 cores)",
    )
    where.add_argument("--gpus-per-worker", type=float, help="GPUs of each worker (default: 1 if there is a GPU)")
    where.add_argument("--cpu", action="store_true", help="do not use GPUs")
    where.add_argument(
        "--comfyui-option",
        action="append",
        default=[],
        metavar="OPTION",
        help="option for the servers that are started, for example --comfyui-option=--lowvram; repeatable",
    )
    where.add_argument(
        "--servers",
        type=addresses,
        default=(),
        metavar="URL,...",
        help="use these running servers instead of starting any",
    )
    where.add_argument(
        "--header",
        type=header,
        action="append",
        default=[],
        metavar="'NAME: VALUE'",
        help="header sent to --servers with each request; environment $VARIABLES are expanded; repeatable",
    )
    where.add_argument("--address", help="Ray cluster to join, for example ray-head:6379 or auto (default: start Ray)")
    where.add_argument(
        "--scratch", type=Path, help="folder for servers' files on each machine (default: .batch in --out)"
    )
    where.add_argument("--no-dashboard", action="store_true", help="do not start Ray's dashboard")
    options = parser.parse_args(arguments)
    if options.workers is not None and options.workers < 1:
        parser.error("--workers must be at least 1")
    if options.gpus_per_worker is not None and options.gpus_per_worker <= 0:
        parser.error("--gpus-per-worker must be positive; use --cpu for none")
    if options.servers and options.workers is not None:
        parser.error("--workers starts servers, --servers uses running ones: give only one of them")
    if options.header and not options.servers:
        parser.error("--header is for --servers")
    options.out, options.table = options.out.absolute(), options.table.absolute()
    return options


def addresses(text: str) -> tuple[str, ...]:
    """The addresses in a comma-separated list."""
    found = tuple(part.strip().rstrip("/") for part in text.split(",") if part.strip())
    for url in found:
        if not url.startswith(("http://", "https://")):
            raise argparse.ArgumentTypeError(f"{url}: expected an address such as http://127.0.0.1:8188")
    if not found or len(set(found)) < len(found):
        raise argparse.ArgumentTypeError("expected different addresses, separated by commas")
    return found


def folder(text: str) -> Path:
    """A folder that is named; the empty text would be the current one."""
    if not text.strip():
        raise argparse.ArgumentTypeError("expected a folder")
    return Path(text).expanduser()


def header(text: str) -> tuple[str, str]:
    """A header with environment variables expanded."""
    expanded = os.path.expandvars(text)
    if missing := re.search(r"\$(\w+|\{\w+\})", expanded):
        raise argparse.ArgumentTypeError(f"the environment variable {missing[0]} is not set")
    name, colon, value = expanded.partition(":")
    if not colon or not name.strip() or "\n" in value or "\r" in value:
        raise argparse.ArgumentTypeError("expected 'NAME: VALUE'")
    return name.strip(), value.strip()
