"""The dry run: it checks portraits for faces and times short clips on a server to estimate time and disk space."""

from __future__ import annotations

import random
import shutil
import uuid
import wave
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..scripts._graph import declared_inputs
from ..scripts._workflow import Graph
from .driver import BatchStopped, Pool, order_of
from .files import digest_of
from .graph import ASSETS, Target
from .plan import Clip, Plan
from .progress import in_words
from .shelf import Record
from .worker import Order, Outcome, Status

SPEECH = ASSETS / "asymtalker_speech.wav"
LENGTHS_S = (1.0, 1.0, 4.0)
"""Lengths of the timed clips; the first one also loads the model and is not counted."""

FACE_CROP = "AsymTalkerFaceCrop"
SPARE = 1.2
"""Safety factor on the disk space, because few clips are measured."""


@dataclass(frozen=True)
class RenderTime:
    """The cost of a clip: `fixed_s`, plus seconds and bytes for each second of its length."""

    fixed_s: float
    seconds: float
    bytes: float

    def clip_s(self, length_s: float) -> float:
        """How long a clip of a length takes."""
        return self.fixed_s + self.seconds * length_s


def calibrate(pool: Pool, worker: int, plan: Plan, parts: Path, folder: Path) -> RenderTime:
    """Time short clips with the first row's portrait and settings.

    Raises:
        BatchStopped: they cannot be rendered.
    """
    clip = plan.waiting()[0]
    times, size = [], 0
    for number, seconds in enumerate(LENGTHS_S):
        speech = folder / f"calibration_{number}.wav"
        _cut_speech(speech, seconds)
        order = _with_speech(order_of(plan, clip), plan, clip, speech)
        outcome = _answer(pool, pool.render(worker, order))
        if outcome.status is not Status.DONE:
            raise BatchStopped(f"the calibration clip failed: {outcome.reason}")
        times.append(outcome.run_s)
        size = sum(part.bytes for part in Record.load(parts, order.clip).files)
        for file in parts.glob(f"{order.clip}.*"):
            file.unlink()
        speech.unlink()
    rate = max(0.0, (times[2] - times[1]) / (LENGTHS_S[2] - LENGTHS_S[1]))
    return RenderTime(max(0.0, times[1] - rate * LENGTHS_S[1]), rate, size / LENGTHS_S[2])


def _cut_speech(path: Path, seconds: float) -> None:
    """Write a different part of the example speech each time, because a server does not render the same one twice."""
    with wave.open(str(SPEECH), "rb") as source:
        frames = round(seconds * source.getframerate())
        source.setpos(random.randrange(source.getnframes() - frames))
        samples = source.readframes(frames)
        with wave.open(str(path), "wb") as target:
            target.setparams(source.getparams())
            target.writeframes(samples)


def _with_speech(order: Order, plan: Plan, clip: Clip, speech: Path) -> Order:
    digest = digest_of(speech)
    kinds = {target: kind for target, (_, kind) in plan.files(clip.row).items()}
    files = {target: (speech, digest) if kinds[target] == "LoadAudio" else file for target, file in order.files.items()}
    return Order(f"calibration-{uuid.uuid4().hex}", order.graph, files)


def _answer(pool: Pool, call: Any) -> Any:
    while not pool.wait([call], 1.0):
        pass
    answer = pool.result(call)
    if not isinstance(answer, (Outcome, str, type(None))):
        raise BatchStopped(f"the worker ended during the dry run: {answer}")
    return answer


def look_for_faces(pool: Any, worker: int, plan: Plan, object_info: Mapping[str, Any]) -> list[str]:
    """Look for a face in every portrait.

    Rows without one are refused if the graph crops the face and fails without it.

    Returns:
        A warning for each other portrait without a face.
    """
    targets = plan.template.columns.get("portrait")
    if targets is None or FACE_CROP not in object_info:
        return []
    crops = [node for node in plan.template.graph.values() if node["class_type"] == FACE_CROP]
    is_needed = any(node["inputs"].get("on_missing") == "error" for node in crops)
    rows: dict[tuple[Path, str], list[int]] = {}
    for clip in plan.waiting():
        path, digest = order_of(plan, clip).files[targets[0]]
        rows.setdefault((path, digest), []).extend(clip.rows)
    warnings = []
    for (path, digest), numbers in rows.items():
        order = Order(f"face-{digest}", _face_graph(object_info), {Target("1", "image"): (path, digest)})
        problem = _answer(pool, pool.try_out(worker, order))
        if problem is not None and is_needed:
            for number in numbers:
                plan.refuse(number, "portrait", f"{path}: {problem}")
        elif problem is not None:
            warnings.append(f"row {numbers[0]}, column portrait: {path}: {problem.splitlines()[0]}")
    plan.clips = {key: clip for key, clip in plan.clips.items() if not set(clip.rows) <= plan.faults.keys()}
    return warnings


def _face_graph(object_info: Mapping[str, Any]) -> Graph:
    declared = declared_inputs(object_info[FACE_CROP])
    crop = {name: options["default"] for name, (_, options, _) in declared.items() if "default" in options}
    crop |= {"on_missing": "error", "image": ["1", 0], "mask": ["1", 1]}
    return {
        "1": {"class_type": "LoadImage", "inputs": {"image": ""}},
        "2": {"class_type": FACE_CROP, "inputs": crop},
        "3": {"class_type": "PreviewImage", "inputs": {"images": ["2", 0]}},
    }


def describe(plan: Plan, cost: RenderTime, workers: int, folder: Path) -> tuple[list[str], bool]:
    """The lines of the plan, and whether the disk has room for it."""
    waiting = plan.waiting()
    lengths = [clip.seconds for clip in waiting]
    times = [cost.clip_s(seconds) for seconds in lengths]
    wanted = round(sum(lengths) * cost.bytes * SPARE)
    free = shutil.disk_usage(folder).free
    lines = [
        f"clips:    {len(waiting)} to render, {len(plan.clips) - len(waiting)} done, {len(plan.faults)} rows refused",
        f"length:   {sum(lengths) / 60:.1f} minutes in all, {min(lengths):.1f} to {max(lengths):.1f} s each",
        f"speed:    {cost.fixed_s:.2f} s a clip and {cost.seconds:.2f} s for each second of it, measured on one worker",
        f"time:     about {in_words(max(max(times), sum(times) / workers))} with {workers} workers",
        f"disk:     about {wanted / 1e6:,.0f} MB for the videos, {free / 1e6:,.0f} MB free",
    ]
    return lines, wanted <= free
