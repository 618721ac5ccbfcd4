"""``python -m training.people clips|sheet``."""

from __future__ import annotations

import argparse

from ..config import TrainingError
from . import cli


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m training.people", description=cli.__doc__)
    commands = parser.add_subparsers(required=True)
    clips = commands.add_parser("clips", help="render and voice clips of people, drawn faces, or both")
    cli.add_arguments(clips)
    clips.set_defaults(run=cli.run)
    sheet = commands.add_parser("sheet", help="render a sheet of people and their visemes")
    cli.add_sheet_arguments(sheet)
    sheet.set_defaults(run=cli.run_sheet)
    args = parser.parse_args()
    try:
        args.run(args)
    except TrainingError as error:
        # What a user gave is wrong, and the message says what: a traceback would bury it.
        raise SystemExit(f"{parser.prog}: {error}") from None


if __name__ == "__main__":
    main()
