"""A shipped graph, opened and run by a browser."""

from __future__ import annotations

import json

from asymtalker.scripts._environment import ROOT
from asymtalker.tests.browser.frontend import FrontEnd


def test_the_quick_start_runs_in_the_browser(front_end: FrontEnd) -> None:
    front_end.load(json.loads((ROOT / "workflows" / "asymtalker_nano.json").read_text(encoding="utf-8")))
    saved = front_end.run()
    assert [file["filename"].endswith(".mp4") for file in saved] == [True]
    assert front_end.own_messages() == []
