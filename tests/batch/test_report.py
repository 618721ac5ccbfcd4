"""The report: every row in it, and nothing in it that a browser or spreadsheet would run or fetch."""

from __future__ import annotations

import csv
import re
from pathlib import Path

from asymtalker.batch.figures import report_figures
from asymtalker.batch.graph import find_graph, report_node, samplers
from asymtalker.batch.report import Entry, write_reports


def test_every_row_and_no_code_of_others(tmp_path: Path) -> None:
    rows = [
        Entry(2, "done", "=cmd()", ["=cmd().mp4"], 12.3456, 0.01, 1.2, 1, 3.0, "worker_1", thumbnail=b"jpeg"),
        Entry(3, "failed", "b", seconds=2.0, attempts=3, reason="<script>alert(1)</script> out of memory"),
        Entry(4, "refused", column="audio", reason="x.wav: no such file"),
    ]
    write_reports(tmp_path, "clips & more", rows)
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "<script>alert" not in page and "&lt;script&gt;alert" in page and "clips &amp; more" in page
    assert not re.search(r"""(src|href)=["']?(https?:)?//""", page)
    assert 'href="%3Dcmd%28%29.mp4"' in page and page.count("data:image/jpeg;base64,") == 1
    assert page.count("<tr data-state=") == 3 and "1 of 3 rows done" in page
    with (tmp_path / "report.csv").open(encoding="utf-8", newline="") as stream:
        found = list(csv.DictReader(stream))
    assert [row["row"] for row in found] == ["2", "3", "4"] and found[0]["output"] == "'=cmd()"
    assert "weight_dtype fp8" in found[1]["remedy"] and "correct the path" in found[2]["remedy"]
    assert not list(tmp_path.glob("*.part"))


def test_figures_of_a_samplers_report() -> None:
    graph = find_graph("nano")
    stats = [
        '{"stats": {"reference_distance": 0.1}}',
        '{"stats": {"reference_distance": 0.14, "seam": 1.5}}',
        '{"stats": {"reference_distance": 0.13, "seam": NaN}}',
    ]
    text = f'{{"chunks": [{",".join(stats)}], "frames": 90, "chunks_regenerated": [1], "notes": ["no locks"]}}'
    figures = report_figures(graph, {"outputs": {report_node(samplers(graph)[0]): {"text": [text]}}})
    assert (figures["chunks"], figures["frames"], figures["drift"], figures["seam"]) == (3, 90, 0.03, 1.5)
    assert figures["warnings"] == ["no locks", "chunks regenerated after they collapsed: 1"]
    assert report_figures(graph, {"outputs": {}}) == {}
