"""The ffmpeg of imageio-ffmpeg: found, fed with frames, and stopped at once when its caller has to stop.

imageio-ffmpeg writes to ffmpeg's pipe, which blocks for as long as ffmpeg takes nothing (a slow disk, a stopped
process), and waits for its end without a limit. Both happen in a thread here, so that the caller can act meanwhile.
"""

from __future__ import annotations

import contextlib
import inspect
import shutil
import threading
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, wait
from pathlib import Path
from queue import SimpleQueue
from types import TracebackType
from typing import IO, Any, Protocol, cast

import imageio_ffmpeg
import numpy as np

from .disk import format_bytes, free_bytes
from .errors import MediaError

Watch = Callable[[int], None]
"""Called with the number of frames written so far; what it raises ends the encoding."""

WATCH_INTERVAL_S = 0.1
_DISK_IS_FULL_BYTES = 1 << 20
_EXIT_S = 30

_Generator = Generator[None, Any, None]


class _Process(Protocol):
    """The part of a running ffmpeg's handle used here."""

    stdin: IO[bytes]

    def wait(self, timeout: float | None = None) -> int: ...

    def kill(self) -> None: ...


class _Abandoned(BaseException):
    """Thrown into imageio-ffmpeg's writer, which kills ffmpeg on what is not an Exception and else lets it finish."""


def find_ffmpeg() -> str:
    """Path or name of the ffmpeg that encodes. Raises MediaError where there is none."""
    try:
        program = imageio_ffmpeg.get_ffmpeg_exe()
    except RuntimeError as error:
        raise MediaError(
            "No ffmpeg was found, which is needed to write mp4 files. Install it with `pip install --force-reinstall "
            "imageio-ffmpeg`, or set the environment variable IMAGEIO_FFMPEG_EXE to an ffmpeg."
        ) from error
    if shutil.which(program) is None:
        raise MediaError(
            f"{program} cannot be run: the environment variable IMAGEIO_FFMPEG_EXE must give the path of an ffmpeg. "
            "Correct or remove it."
        )
    return program


def encoding_failure(path: Path, what: str) -> MediaError:
    """The error of a file that could not be made at `path`; `what` is how that was noticed."""
    free = free_bytes(path.parent)
    if free < _DISK_IS_FULL_BYTES:
        return MediaError(
            f"The disk is full: {path} could not be written ({what}), {format_bytes(free)} is left. "
            "Free some space or choose a folder on another disk, then queue the job again."
        )
    return MediaError(
        f"{path} could not be written: {what}. ffmpeg's own message is in the console; "
        f"{format_bytes(free)} of disk space is free."
    )


def write_frames(
    frames: Iterable[Any],
    path: Path,
    *,
    shape: tuple[int, int, int],
    watch: Watch,
    arguments: dict[str, Any],
    result: Path,
) -> int:
    """Encode `frames` to `result` and wait for ffmpeg; returns their number.

    path: the file's name in messages.
    shape: of each frame, which is uint8. An odd height or width is made even: the last row or column is repeated.
    watch: called after every frame, and every WATCH_INTERVAL_S while ffmpeg is waited for.
    arguments: what `imageio_ffmpeg.write_frames` takes besides.
    Raises MediaError, or what `frames` or `watch` raise; no ffmpeg runs any more then.
    """
    height, width, _ = shape
    added = (0, height % 2), (0, width % 2), (0, 0)
    is_odd = any(map(any, added))
    find_ffmpeg()
    writer = imageio_ffmpeg.write_frames(str(result), (width + width % 2, height + height % 2), **arguments)
    num_frames = 0
    with _Encoder(cast(_Generator, writer), path, watch) as encoder:
        for frame in frames:
            array = np.ascontiguousarray(frame)
            if array.dtype != np.uint8 or array.shape != shape:
                raise MediaError(
                    f"Frame {num_frames} of {path.name} is {array.dtype} of shape {list(array.shape)}; it must be "
                    f"uint8 of shape {list(shape)}."
                )
            encoder.write(np.pad(array, added, mode="edge") if is_odd else array)
            num_frames += 1
        if num_frames == 0:
            raise MediaError(f"There are no frames to write to {path.name}.")
        encoder.finish()
    return num_frames


class _Worker:
    """One thread for calls that may block. Unlike an executor's, it does not hold up the end of the process."""

    def __init__(self) -> None:
        self._calls: SimpleQueue[tuple[Future[None], Callable[..., None], tuple[Any, ...]] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="ffmpeg", daemon=True)
        self._thread.start()

    def submit(self, function: Callable[..., None], *arguments: Any) -> Future[None]:
        future: Future[None] = Future()
        self._calls.put((future, function, arguments))
        return future

    def close(self) -> None:
        """Wait for the calls that were submitted; further closing does nothing."""
        self._calls.put(None)
        self._thread.join()

    def _run(self) -> None:
        while (call := self._calls.get()) is not None:
            future, function, arguments = call
            try:
                future.set_result(function(*arguments))
            except BaseException as error:  # noqa: BLE001 (raised by whoever asks for the result)
                future.set_exception(error)


class _Encoder:
    """A running ffmpeg. Leaving it with an error kills ffmpeg, which ends one that is stopped (SIGSTOP) too."""

    def __init__(self, writer: _Generator, path: Path, watch: Watch) -> None:
        self._writer, self._path, self._watch = writer, path, watch
        self._num_frames = 0
        try:
            writer.send(None)
        except OSError as error:
            raise MediaError(f"{path} could not be written: ffmpeg could not be started ({error}).") from error
        self._process = cast("_Process | None", inspect.getgeneratorlocals(writer).get("p"))
        self._worker = _Worker()

    def write(self, frame: np.ndarray[Any, np.dtype[np.uint8]]) -> None:
        self._wait_for(self._worker.submit(self._writer.send, frame))
        self._num_frames += 1
        self._watch(self._num_frames)

    def finish(self) -> None:
        self._wait_for(self._worker.submit(self._writer.close))
        if self._process is not None and (status := self._process.wait(_EXIT_S)) != 0:
            raise encoding_failure(self._path, f"ffmpeg ended with status {status}")

    def _wait_for(self, work: Future[None]) -> None:
        while not wait((work,), WATCH_INTERVAL_S).done:
            self._watch(self._num_frames)
        try:
            work.result()
        except (OSError, StopIteration) as error:
            raise encoding_failure(self._path, f"ffmpeg stopped at frame {self._num_frames}") from error

    def _kill(self) -> None:
        if self._process is not None:
            self._process.kill()
        # What the thread writes fails now, and what it waits for is over.
        self._worker.close()
        with contextlib.suppress(_Abandoned, StopIteration, OSError):
            self._writer.throw(_Abandoned())
        if self._process is not None:
            # Killed, but not gone until waited for: its files could not be removed yet on Windows.
            self._process.wait(_EXIT_S)
            with contextlib.suppress(OSError):
                self._process.stdin.close()

    def __enter__(self) -> _Encoder:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            self._kill()
        self._worker.close()
