"""The player's source alone, in a real Chromium, fed by the real routes."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from playwright.sync_api import Browser

from asymtalker.tests.live.test_live import CHUNKS, job, port

__all__ = ["job", "port"]

# In the page: plays all finished chunks; returns how many listeners are left on the buffer, and what is buffered.
FEED = """async ({ url, count, seconds }) => {
    let left = 0;
    const add = SourceBuffer.prototype.addEventListener;
    SourceBuffer.prototype.addEventListener = function (type, listener, options) {
        left += 1;
        const gone = () => { left -= 1; };
        if (options?.signal) options.signal.addEventListener('abort', gone);
        else if (options?.once) add.call(this, type, gone, { once: true });
        return add.call(this, type, listener, options);
    };
    const { LiveSource } = await import('/web/live/source.mjs');
    const video = document.body.appendChild(document.createElement('video'));
    await new Promise((resolve, reject) => {
        const source = new LiveSource(url, reject);
        video.src = URL.createObjectURL(source.mediaSource);
        const starts = [...Array(count).keys()].map((index) => index * seconds);
        source.update({ starts, ends: starts.map((start) => start + seconds), over: true, duration: count * seconds });
        source.mediaSource.addEventListener('sourceended', resolve);
    });
    return [left, video.buffered.end(0)];
}"""


def test_no_listener_is_left_on_the_buffer(browser: Browser, port: SimpleNamespace, job: Any) -> None:
    address = f"http://127.0.0.1:{port.number}"
    page = browser.new_page()
    page.goto(f"{address}/asymtalker/live")
    seconds = 8 / 25
    arguments = {"url": f"{address}/asymtalker/live/{job.id}", "count": CHUNKS, "seconds": seconds}
    left, end = page.evaluate(FEED, arguments)
    assert left == 0 and end >= CHUNKS * seconds - 0.05
    page.close()
