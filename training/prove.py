"""The method's claims at nano's size: ``python -m training prove`` trains the rivals, measures them, writes the table.

Every training and every measured video is a unit of its own that is taken up or skipped when its result exists, so that
the command can be stopped and called again at any moment.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from models.audio import FPS

from . import akd, teacher
from .akd import CONTINUITIES, AKDTraining
from .config import TrainingError, read_config
from .evaluate import Generator, figures, measure
from .plots import save_drift
from .reader import FaceReader
from .subjects import synthetic_subject
from .teacher import TeacherTraining

log = logging.getLogger(__name__)

CONFIGS = Path(__file__).parent / "configs"
METHODS = (*CONTINUITIES, "teacher-4", "teacher-20")
WINDOW_S = 10

Row = dict[str, Any]
"""A line of a table."""
BySeed = dict[int, dict[str, float]]
"""Figures of one method's videos."""


@dataclass(frozen=True)
class Proof:
    """What is trained and measured.

    The given teacher goes on for ``teacher_steps`` on whole frames and is distilled by every method for
    ``student_steps`` at ``student_learning_rate``. That teacher knows one kind of reference and would need thousands of
    steps to learn another: to compare ``references``, ``drawing_steps`` above 0 trains a network for each from nothing,
    for that long on windows about the mouth, and only its hearing is the given teacher's; then it goes on the same way.
    ``seconds`` of video are generated for every one of ``methods`` (of ``METHODS``), ``references`` ("tre", "static")
    and ``seeds``; the teacher in 20 steps, which takes five times as long, makes ``teacher_20_seconds``. Figures are of
    the ten seconds that end at each of ``marks``. ``subject`` is the number of the held-out person.
    Machines (or processes) can share the work by taking some of the methods, references or seeds each.
    """

    drawing_steps: int
    teacher_steps: int
    student_steps: int
    student_learning_rate: float
    seconds: int
    teacher_20_seconds: int
    marks: list[int]
    seeds: list[int]
    subject: int
    references: list[str]
    methods: list[str]

    def __post_init__(self) -> None:
        if unknown := set(self.methods) - set(METHODS):
            raise TrainingError(f"methods: {', '.join(sorted(unknown))} unknown; known: {', '.join(METHODS)}")


@dataclass(frozen=True)
class Video:
    """One video to measure."""

    method: str
    reference: str
    seed: int

    @property
    def name(self) -> str:
        return f"{self.method}_{self.reference}_seed{self.seed}"


def prove(
    config: Proof, first_teacher: Path, vae: Path, reader: Path, data: Path, runs: Path, out: Path, minutes: float
) -> None:
    """Do what is missing, then write ``out``/results.json, table.md and drift.png from all that is there.

    Args:
        runs: folder of the training runs.
        minutes: no new unit begins after that long.
    """
    end = time.monotonic() + 60 * minutes
    out.mkdir(parents=True, exist_ok=True)
    measured = FaceReader.load(reader)
    for video in videos(config):
        result = out / f"{video.name}.json"
        if result.exists():
            continue
        if time.monotonic() > end:
            log.info("out of time: call again to go on")
            break
        checkpoint = _checkpoint(video, config, first_teacher, vae, data, runs)
        values = _measure(video, config, checkpoint, vae, measured)
        partial = result.with_suffix(".partial")
        partial.write_text(json.dumps(values, indent=1))
        partial.replace(result)
    summarise(config, out)


def videos(config: Proof) -> Iterator[Video]:
    """All videos: the first seed of every method first, so that an early stop leaves the widest picture."""
    for seed in config.seeds:
        for reference in config.references:
            for method in config.methods:
                yield Video(method, reference, seed)


def _checkpoint(video: Video, config: Proof, first_teacher: Path, vae: Path, data: Path, runs: Path) -> Path:
    """The network of a video, trained where it is not there yet."""
    trained = _teacher(video.reference, config, first_teacher, vae, data, runs)
    if video.method.startswith("teacher"):
        return trained
    student_run = runs / f"{video.method}_{video.reference}"
    student = read_config(AKDTraining, CONFIGS / "nano_akd.toml", [])
    student = dataclasses.replace(
        student,
        steps=config.student_steps,
        learning_rate=config.student_learning_rate,
        continuity=video.method,
        reference=video.reference,
    )
    akd.train(student, trained, vae, data, student_run, 0)
    return student_run / "student.safetensors"


def _teacher(reference: str, config: Proof, first_teacher: Path, vae: Path, data: Path, runs: Path) -> Path:
    """The teacher with that kind of reference, trained where it is not there yet."""
    start, hearing = first_teacher, None
    if config.drawing_steps:
        drawing = read_config(TeacherTraining, CONFIGS / "nano_teacher_articulation.toml", [])
        drawing = dataclasses.replace(drawing, steps=config.drawing_steps, crop_until=1.0, reference=reference)
        drawing_run = runs / f"drawing_{reference}"
        teacher.train(drawing, data, drawing_run, 0, False, None, vae)
        start, hearing = drawing_run / "teacher.safetensors", first_teacher
    settings = read_config(TeacherTraining, CONFIGS / "nano_teacher.toml", [])
    settings = dataclasses.replace(
        settings, steps=config.teacher_steps, crop_until=0.0, reference=reference, seed=settings.seed + 1
    )
    teacher_run = runs / f"teacher_{reference}"
    teacher.train(settings, data, teacher_run, 0, False, start, vae, hearing)
    return teacher_run / "teacher.safetensors"


def _measure(video: Video, config: Proof, checkpoint: Path, vae: Path, reader: FaceReader) -> dict[str, Any]:
    many_steps = video.method == "teacher-20"
    generator = Generator.load(checkpoint, vae, 20 if many_steps else 4, "euler" if many_steps else "few_step")
    seconds = config.teacher_20_seconds if many_steps else config.seconds
    subject = synthetic_subject(1, config.subject, seconds)
    started = time.monotonic()
    result = measure(generator, reader, subject, video.seed)
    distances = np.concatenate(result.reading.identity)
    per_second = distances[: len(distances) // FPS * FPS].reshape(-1, FPS).mean(axis=1)
    first_2_s = float(per_second[:2].mean())
    marks = {}
    for mark in (mark for mark in config.marks if mark <= seconds):
        values = figures(result, mark - WINDOW_S, mark)
        marks[str(mark)] = values | {"identity_ratio": values["identity"] / max(first_2_s, 1e-9)}
    log.info("%s: %s", video.name, marks)
    return {
        **dataclasses.asdict(video),
        "minutes": round((time.monotonic() - started) / 60, 2),
        "marks": marks,
        "identity_per_second": [round(float(value), 4) for value in per_second],
    }


COLUMNS = ("sync", "identity", "identity_ratio", "sharpness", "seam", "head_motion", "mouth_motion")


def summarise(config: Proof, out: Path) -> None:
    """Mean and spread (standard deviation) over the seeds of all videos that were measured.

    Two more tables compare AKD with the other methods and TRE with the static reference, seed by seed: these start
    from the same noise.
    """
    found = [json.loads(path.read_text()) for path in sorted(out.glob("*_seed*.json"))]
    if not found:
        return
    table: list[Row] = []
    methods: list[Row] = []
    references: list[Row] = []
    for mark in config.marks:
        measured = _by_method(found, mark)
        for (method, reference), by_seed in sorted(measured.items()):
            entry = {"method": method, "reference": reference, "at": mark}
            table.append({**entry, "seeds": len(by_seed), **_spreads(list(by_seed.values()))})
            if method != CONTINUITIES[0]:
                methods += _differences(entry, measured.get((CONTINUITIES[0], reference), {}), by_seed)
            if reference == "static":
                references += _differences(entry, measured.get((method, "tre"), {}), by_seed)
    titles = (f"{CONTINUITIES[0]} minus each of the others", "TRE minus each static reference")
    comparisons = [
        f"\n{title}, seed by seed:\n\n{_markdown(rows)}"
        for title, rows in zip(titles, (methods, references), strict=True)
        if rows
    ]
    (out / "table.md").write_text(_markdown(table) + "".join(comparisons))
    results = {"config": dataclasses.asdict(config), "table": table, "methods": methods, "references": references}
    (out / "results.json").write_text(json.dumps(results, indent=1))
    curves: dict[str, list[list[float]]] = {}
    for video in found:
        curves.setdefault(f"{video['method']}, {video['reference']}", []).append(video["identity_per_second"])
    save_drift(curves, out)


def _differences(entry: Row, ours: BySeed, theirs: BySeed) -> list[Row]:
    """A row of ``ours`` minus ``theirs`` over the seeds that both have, or none."""
    seeds = sorted(ours.keys() & theirs.keys())
    rows = [
        {key: ours[seed][key] - theirs[seed][key] for key in ours[seed].keys() & theirs[seed].keys()} for seed in seeds
    ]
    return [{**entry, "seeds": len(rows), **_spreads(rows)}] if rows else []


def _by_method(videos: list[dict[str, Any]], mark: int) -> dict[tuple[str, str], BySeed]:
    """Figures at ``mark`` seconds by method and reference."""
    measured: dict[tuple[str, str], BySeed] = {}
    for video in videos:
        if str(mark) in video["marks"]:
            by_seed = measured.setdefault((video["method"], video["reference"]), {})
            by_seed[video["seed"]] = video["marks"][str(mark)]
    return measured


def _spreads(rows: list[dict[str, float]]) -> dict[str, tuple[float, float]]:
    # Short stretches may have no seam.
    columns = {key: [row.get(key, math.nan) for row in rows] for key in COLUMNS}
    return {key: (float(np.mean(values)), float(np.std(values))) for key, values in columns.items()}


def _markdown(table: list[Row]) -> str:
    lines = [
        "| method | reference | at | seeds | " + " | ".join(COLUMNS) + " |",
        "|" + "---|" * (4 + len(COLUMNS)),
    ]
    for row in table:
        cells = [f"{mean:.4f} ± {deviation:.4f}" for mean, deviation in (row[key] for key in COLUMNS)]
        lines.append(f"| {row['method']} | {row['reference']} | {row['at']} s | {row['seeds']} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"
