"""Checks of the files in the rows: whether they exist and are readable, their hash and their duration."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import av
from av.error import FFmpegError
from PIL import Image

from ..scripts._progress import audio_seconds
from .ledger import Ledger, Stamp

THREADS = 8
BLOCK_BYTES = 1 << 20


@dataclass(frozen=True)
class FileFacts:
    """The result of checking a file; `seconds` is None for pictures, `fault` is the reason if it cannot be used."""

    digest: str = ""
    seconds: float | None = None
    fault: str | None = None


def look_at(files: Iterable[tuple[Path, str]], ledger: Ledger) -> dict[tuple[Path, str], FileFacts]:
    """Check files for a type of loader (see `graph.FILE_INPUTS`); results of unchanged files come from the ledger."""
    found: dict[tuple[Path, str], FileFacts] = {}
    new: dict[tuple[Path, str], Stamp] = {}
    for path, kind in dict.fromkeys(files):
        try:
            stamp = Stamp.of(path)
        except OSError as error:
            found[path, kind] = FileFacts(fault=f"{path}: {(error.strerror or str(error)).lower()}")
            continue
        except ValueError as error:
            found[path, kind] = FileFacts(fault=f"{str(path)!r} is not a file's name ({error})")
            continue
        known = ledger.file(path, kind, stamp)
        if known is not None:
            found[path, kind] = FileFacts(*known)
        else:
            new[path, kind] = stamp
    with ThreadPoolExecutor(THREADS) as pool:
        facts = pool.map(lambda key: _facts(*key), new)
        for (key, stamp), fact in zip(new.items(), facts, strict=True):
            found[key] = fact
            ledger.note_file(*key, stamp, fact.digest, fact.seconds, fact.fault)
    ledger.commit()
    return found


def _facts(path: Path, kind: str) -> FileFacts:
    try:
        if not path.is_file():
            return FileFacts(fault=f"{path}: not a file")
        digest = digest_of(path)
        if kind == "LoadAudio":
            return FileFacts(digest, _sound_seconds(path))
        if kind == "LoadVideo":
            return FileFacts(digest, _video_seconds(path))
        with Image.open(path) as picture:
            picture.load()
        return FileFacts(digest)
    except FFmpegError as error:
        return FileFacts(fault=f"{path}: it is damaged or not of a kind that ffmpeg reads ({error.strerror})")
    except (ValueError, SyntaxError, Image.DecompressionBombError) as error:
        return FileFacts(fault=str(error) if str(path) in str(error) else f"{path}: {error}")
    except OSError as error:
        return FileFacts(fault=f"{path}: it cannot be read ({error.strerror or 'it is damaged or no picture'})")


def digest_of(path: Path) -> str:
    """Hash of a file's content."""
    digest = hashlib.blake2b(digest_size=16)
    with path.open("rb") as stream:
        while block := stream.read(BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()


def _sound_seconds(path: Path) -> float:
    """The duration of a sound file whose beginning can be decoded. Raises ValueError if there is no sound."""
    seconds = audio_seconds(path)
    with av.open(str(path)) as container:
        samples = next((frame.samples for frame in container.decode(audio=0)), 0)
    if samples == 0:
        raise ValueError(f"{path}: no sound in it")
    return seconds


def _video_seconds(path: Path) -> float:
    with av.open(str(path)) as container:
        if not container.streams.video:
            raise ValueError(f"{path}: no pictures in it")
        next(container.decode(video=0))
        return (container.duration or 0) / 1e6
