"""`python -m asymtalker.scripts.package` builds the Comfy Registry's archive and prints its size.

Its files are those that git tracks, without those in .comfyignore.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import zipfile
from pathlib import Path

from ._environment import ROOT

LIMIT_BYTES = 60_000_000


def shipped_files() -> list[Path]:
    """Paths of the archive's files, relative to the root.

    Raises:
        subprocess.CalledProcessError: this is no git checkout.
    """
    known = _git("ls-files", "--cached", "--others", "--exclude-standard")
    left_out = _git("ls-files", "--cached", "--others", "--ignored", "--exclude-from=.comfyignore")
    return sorted(Path(name) for name in known - left_out if (ROOT / name).is_file())


def _git(*arguments: str) -> set[str]:
    output = subprocess.run(["git", *arguments, "-z"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    return set(output.split("\0")) - {""}


def write_archive(target: Path) -> int:
    """Write the zip and return its size in bytes."""
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in shipped_files():
            archive.write(ROOT / path, path.as_posix())
    return target.stat().st_size


def main() -> int:
    """Write the archive; 1 if it is too large."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("asymtalker.zip"), help="file (default: %(default)s)")
    target: Path = parser.parse_args().out
    size = write_archive(target)
    print(f"{target}: {size / 1e6:.1f} MB in {len(shipped_files())} files, at most {LIMIT_BYTES / 1e6:.0f} MB allowed")
    return int(size > LIMIT_BYTES)


if __name__ == "__main__":
    sys.exit(main())
