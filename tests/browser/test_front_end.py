"""A shipped graph, opened and run by a browser."""

from __future__ import annotations

from asymtalker.tests.browser.frontend import FrontEnd
from asymtalker.tests.helpers import shipped


def test_the_quick_start_runs_in_the_browser(front_end: FrontEnd) -> None:
    front_end.load(shipped("asymtalker_nano"))
    saved = front_end.run()
    assert [file["filename"].endswith(".mp4") for file in saved] == [True]
    assert front_end.own_messages() == []
