"""The player alone on a page, in a real Chromium, fed by the real routes; the test decides which chunks are there."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page

from asymtalker.tests.helpers import Import
from asymtalker.tests.live_jobs import MadeJob, Routes, live_routes, made_job

CHUNKS, FRAMES = 60, 10
CHUNK_S = FRAMES / 25
TIMEOUT_MS = 60_000
ADD_PLAYERS = """async (count) => {
    const [{ LivePlayer }, { Sound }, { addStyle }] = await Promise.all(
        ["player", "sound", "style"].map((name) => import(`/web/live/${name}.mjs`)));
    addStyle();
    const sound = new Sound();
    window.players = [...Array(count)].map(() => new LivePlayer(sound, () => {}));
    document.body.append(...players.map((player) => player.element));
    window.show = async (id) => {
        const record = await (await fetch(`/asymtalker/live/${id}`)).json();
        record.job.url = `${location.origin}/asymtalker/live/${id}`;
        for (const player of players) player.show(record);
    };
    window.look = (index = 0) => {
        const { element } = players[index];
        const video = element.querySelector('video');
        const button = element.querySelector('button');
        return { state: element.dataset.state, live: element.dataset.live, stalls: Number(element.dataset.stalls),
            isOpen: video.buffered.length > 0, time: video.currentTime, rate: video.playbackRate,
            paused: video.paused, muted: video.muted,
            error: video.error?.message ?? null, height: video.offsetHeight, liveButton: button.offsetHeight > 0,
            status: element.querySelector('.asymtalker-live-bar span').textContent, source: video.currentSrc };
    };
}"""
# Ways in which a player is not seen, and seen again.
UNSEEN = {
    "hidden": ("players[0].element.style.display = 'none'", "players[0].element.style.display = ''"),
    "away": ("players[0].element.style.marginTop = '5000px'", "players[0].element.style.marginTop = ''"),
    "detached": ("players[0].element.remove()", "document.body.append(players[0].element)"),
    "tab": (
        "Object.defineProperty(document, 'hidden', { value: true, configurable: true });"
        "document.dispatchEvent(new Event('visibilitychange'))",
        "delete document.hidden; document.dispatchEvent(new Event('visibilitychange'))",
    ),
}


# To the page, all that Playwright does comes from the user.
NOT_CLICKED = """() => {
    const state = { hasBeenActive: false };
    Object.defineProperty(navigator, 'userActivation', { value: state });
    document.addEventListener('pointerup', () => { state.hasBeenActive = true; }, { once: true });
}"""
NOTE_SEEKS = """() => {
    window.seeks = [];
    const video = document.querySelector('video');
    video.addEventListener('seeking', () => seeks.push(video.currentTime));
}"""
# Another tab that has the sound and is done right after it was asked.
ASK_AS_IT_ENDS = """async () => {
    const { Sound } = await import('/web/live/sound.mjs');
    const other = new BroadcastChannel('asymtalker.sound');
    other.addEventListener('message', ({ data }) => {
        if (data.type !== 'ask') return;
        other.postMessage({ type: 'held', from: 'another' });
        other.postMessage({ type: 'free', from: 'another' });
    }, { once: true });
    window.given = false;
    new Sound().request({ setMuted: (isMuted) => { window.given = !isMuted; } });
}"""
SHOW_FILE = """async (id) => {
    const file = await (await fetch(`/asymtalker/live/${id}/stream`)).blob();
    players[0].showFile(URL.createObjectURL(file));
}"""

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


class Viewer:
    """A page with players of one job."""

    def __init__(self, page: Page, made: MadeJob) -> None:
        self.page, self.made = page, made

    def show(self) -> None:
        """Tell the players what is there."""
        self.page.evaluate("id => show(id)", self.made.job.id)

    def add(self, count: int = 1, **options: Any) -> None:
        """More chunks are there, and the players are told."""
        self.made.add(count, **options)
        self.show()

    def begin(self, count: int, *others: Viewer) -> None:
        """That many chunks are there, and the players play them from the first one on.

        A player that opens later starts at the newest chunks. `others` open now, and are not told of the other chunks.
        """
        self.made.add()
        for viewer in (self, *others):
            viewer.show()
            viewer.page.wait_for_function("() => players.every((_, i) => look(i).isOpen)")
        self.add(count - 1)

    def wait(self, condition: str, index: int = 0) -> dict[str, Any]:
        """Wait until a player is as JavaScript says of `it`; what it shows then."""
        self.page.wait_for_function(f"(i) => {{ const it = look(i); return {condition}; }}", arg=index)
        return self.look(index)

    def look(self, index: int = 0) -> dict[str, Any]:
        return self.page.evaluate("index => look(index)", index)


Open = Callable[..., Viewer]


@pytest.fixture(scope="module")
def routes(pack: Import) -> Iterator[Routes]:
    with live_routes(pack) as routes:
        yield routes


@pytest.fixture
def made(pack: Import, tmp_path: Path, routes: Routes) -> Iterator[MadeJob]:
    """A job of which nothing is there yet."""
    with made_job(pack, tmp_path / "spool", CHUNKS, FRAMES) as made:
        yield made


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    context = browser.new_context(viewport={"width": 500, "height": 900})
    context.set_default_timeout(TIMEOUT_MS)
    yield context
    context.close()


@pytest.fixture
def open_viewer(context: BrowserContext, routes: Routes, made: MadeJob) -> Open:
    """Return a function that opens one more tab."""

    def open_one(path: str = "/", players: int = 1) -> Viewer:
        page = context.new_page()
        page.goto(routes.url + path)
        page.evaluate(ADD_PLAYERS, players)
        # Sound needs a user.
        page.mouse.click(450, 890)
        routes.asked.clear()
        return Viewer(page, made)

    return open_one


def test_it_makes_waits_plays_with_sound_and_waits_again(open_viewer: Open) -> None:
    viewer = open_viewer()
    viewer.show()
    assert viewer.wait("it.state === 'making'")["status"] == "generating chunk 1 of 60"
    viewer.add()
    assert viewer.wait("it.state === 'waiting'")["status"].startswith("waiting for chunk 2 of 60 · 50.0 fps, 2.00x")
    assert not viewer.look()["stalls"]
    viewer.add()
    playing = viewer.wait("!it.muted && it.time > 0")
    assert playing["height"] >= 240 and playing["rate"] == 1
    at_edge = viewer.wait("it.state === 'waiting'")
    assert at_edge["paused"] and at_edge["status"].startswith("waiting for chunk 3 of 60")
    viewer.add(2)
    playing = viewer.wait("it.time > 1 && it.live === 'true'")
    assert not playing["muted"] and playing["error"] is None


@pytest.mark.parametrize(
    ("state", "error", "status"),
    [
        ("stopped", None, "stopped after chunk 2 of 60 · Run resumes from chunk 3"),
        ("failed", "no face\nin the picture", "failed: no face\nin the picture · Run resumes from chunk 3"),
        ("finished", None, "chunk 2 of 60 · 50.0 fps, 2.00x real time · finished"),
    ],
)
def test_what_is_over_is_said_and_not_live(open_viewer: Open, state: str, error: str | None, status: str) -> None:
    viewer = open_viewer()
    viewer.add(2)
    viewer.wait("it.live === 'true'")
    viewer.made.spool.flush()
    viewer.made.job.end(state, error)
    viewer.show()
    over = viewer.wait("it.state !== 'playing' && it.state !== 'waiting'")
    assert (over["state"], over["status"]) == (state, status) and over["live"] == "false" and not over["liveButton"]
    viewer.wait("it.paused")


def test_slower_than_real_time_it_plays_slowly_and_silently_until_it_can_play_through(open_viewer: Open) -> None:
    viewer = open_viewer()
    viewer.add(speed=0.5)
    slow = viewer.wait("it.time > 0.1")
    assert slow["muted"] and slow["rate"] == pytest.approx(0.45)
    assert slow["status"].endswith("slower than real time: slow motion, with sound in 0:24")
    viewer.add(30, speed=0.5)
    assert viewer.wait("it.time > 0.5")["muted"]
    viewer.page.evaluate(NOTE_SEEKS)
    viewer.add(1, speed=0.5)
    through = viewer.wait("it.rate === 1 && it.state === 'playing' && !it.muted")
    assert viewer.page.evaluate("() => seeks") == [0] and "slower" not in through["status"]


def test_the_user_may_hear_what_is_slow(open_viewer: Open) -> None:
    viewer = open_viewer()
    viewer.add(3, speed=0.2)
    viewer.wait("it.rate < 1 && it.time > 0.4")
    viewer.page.evaluate("() => { document.querySelector('video').muted = false; }")
    heard = viewer.wait("it.rate === 1 && it.state === 'waiting'")
    assert not heard["muted"]
    viewer.add(2, speed=0.2)
    assert viewer.wait("it.time > 1.3")["rate"] == 1


@pytest.mark.parametrize("way", UNSEEN)
def test_unseen_it_neither_plays_nor_fetches(open_viewer: Open, routes: Routes, way: str) -> None:
    viewer = open_viewer()
    goes, comes = UNSEEN[way]
    viewer.add(3)
    viewer.wait("!it.muted && it.live === 'true'")
    viewer.page.evaluate(goes)
    viewer.wait("it.paused && it.muted")
    routes.asked.clear()
    viewer.add(4)
    # It would have been told of by now: the page answers, and so does the server.
    viewer.show()
    assert {path.rsplit("/", 1)[-1] for path in routes.asked} == {viewer.made.job.id}
    viewer.page.evaluate(comes)
    viewer.wait(f"!it.muted && it.time > {5 * CHUNK_S}")


def test_unseen_from_the_start_nobody_watches(open_viewer: Open, routes: Routes) -> None:
    viewer = open_viewer()
    viewer.page.evaluate(UNSEEN["away"][0])
    viewer.add(3)
    viewer.show()
    assert not viewer.made.job.is_watched and viewer.look()["paused"]
    viewer.page.evaluate(UNSEEN["away"][1])
    viewer.wait("it.time > 0.5")
    assert viewer.made.job.is_watched


def test_one_of_two_players_sounds_and_the_other_takes_over(open_viewer: Open) -> None:
    viewer = open_viewer(players=2)
    viewer.begin(CHUNKS)
    both_play = "() => [0, 1].every((i) => look(i).state === 'playing')"
    viewer.page.wait_for_function(f"() => ({both_play})() && [0, 1].some((i) => !look(i).muted)")
    # Whichever played first.
    first = int(viewer.look(0)["muted"])
    assert viewer.look(1 - first)["muted"]
    viewer.page.evaluate(UNSEEN["hidden"][0].replace("players[0]", f"players[{first}]"))
    viewer.wait("!it.muted", 1 - first)
    assert viewer.look(first)["muted"]


def test_one_of_two_tabs_sounds_until_the_user_chooses_the_other(open_viewer: Open) -> None:
    first, second = open_viewer(), open_viewer()
    first.begin(CHUNKS, second)
    first.wait("it.state === 'playing' && !it.muted")
    second.show()
    assert second.wait("it.state === 'playing' && it.time > 0.3")["muted"]
    second.page.evaluate("() => { document.querySelector('video').muted = false; }")
    first.wait("it.muted")
    assert not second.look()["muted"]
    second.page.close(run_before_unload=False)
    first.wait("!it.muted")


def test_a_tab_that_asks_while_another_ends_gets_the_sound(open_viewer: Open) -> None:
    viewer = open_viewer()
    viewer.page.evaluate(ASK_AS_IT_ENDS)
    viewer.wait("given")


def test_that_it_is_muted_is_remembered(open_viewer: Open) -> None:
    viewer = open_viewer()
    viewer.begin(50)
    viewer.wait("!it.muted")
    viewer.page.evaluate("() => { document.querySelector('video').muted = true; }")
    viewer.wait("localStorage.getItem('AsymTalker.muted') === 'true'")
    later = open_viewer()
    later.show()
    assert later.wait(f"it.time > {48 * CHUNK_S + 0.3}")["muted"]


def test_before_the_first_click_it_plays_without_sound(open_viewer: Open) -> None:
    viewer = open_viewer()
    viewer.page.evaluate(NOT_CLICKED)
    viewer.begin(CHUNKS)
    assert viewer.wait("document.querySelector('video').title !== ''")["muted"]
    assert viewer.wait("it.time > 0.2")["muted"]
    viewer.page.mouse.click(450, 890)
    assert not viewer.wait("!it.muted")["paused"]


def test_it_can_be_paused_and_scrubbed_back(open_viewer: Open) -> None:
    viewer = open_viewer()
    viewer.begin(50)
    viewer.wait("it.time > 0.3")
    viewer.page.evaluate(
        "() => { const video = document.querySelector('video'); video.pause(); video.currentTime = 0.3; }"
    )
    paused = viewer.wait("it.state === 'paused' && it.time === 0.3")
    viewer.add()
    assert viewer.look()["time"] == paused["time"], "a new chunk does not start it again"
    # Beyond what is finished there is nothing to see: the newest chunks are shown instead.
    viewer.page.evaluate("() => { document.querySelector('video').currentTime = 23.5; }")
    viewer.wait(f"it.time > {48 * CHUNK_S} && it.time < {51 * CHUNK_S}")
    viewer.page.evaluate("() => { document.querySelector('video').currentTime = 0.3; }")
    viewer.wait("it.time === 0.3")
    viewer.page.get_by_text("Live", exact=True).click()
    viewer.wait(f"it.live === 'true' && it.time > {49 * CHUNK_S + 0.2}")


def test_who_comes_later_sees_what_is_being_made(open_viewer: Open) -> None:
    viewer = open_viewer()
    viewer.add(8)
    viewer.wait(f"it.time > {6 * CHUNK_S + 0.2}")


def test_the_saved_file_takes_over_at_the_playhead(open_viewer: Open) -> None:
    viewer = open_viewer()
    viewer.begin(4)
    viewer.made.spool.flush()
    viewer.made.job.end("finished")
    viewer.show()
    viewer.wait("it.state === 'finished' && it.time > 0.6")
    viewer.page.evaluate(SHOW_FILE, viewer.made.job.id)
    taken_over = viewer.wait("it.state === 'result' && it.time > 0.6")
    assert taken_over["source"].startswith("blob:") and taken_over["error"] is None


def test_under_a_strict_policy_it_plays_one_file_and_can_be_scrubbed(open_viewer: Open) -> None:
    """Media from a MediaSource is forbidden then."""
    viewer = open_viewer("/strict")
    viewer.add(40)
    # A browser starts a file without an end only when there is more than enough of it.
    viewer.add(10)
    playing = viewer.wait(f"it.time > {38 * CHUNK_S}")
    assert "/stream" in playing["source"]
    viewer.page.get_by_title("Position").fill("1")
    scrubbed = viewer.wait(f"it.time > 1.2 && it.time < {20 * CHUNK_S}")
    assert scrubbed["source"].endswith("first=2") and scrubbed["error"] is None
    viewer.page.evaluate(UNSEEN["hidden"][0])
    viewer.wait("it.paused")
    viewer.page.evaluate(UNSEEN["hidden"][1])
    viewer.wait(f"it.time > 1.2 && it.time < {20 * CHUNK_S}")
    viewer.page.get_by_text("Live", exact=True).click()
    viewer.add(5)
    viewer.wait(f"it.time > {48 * CHUNK_S}")


def test_no_listener_is_left_on_the_buffer(open_viewer: Open) -> None:
    """One that is left holds on to its chunk."""
    viewer = open_viewer()
    viewer.made.add(3)
    viewer.made.spool.flush()
    arguments = {"url": f"{viewer.page.url}asymtalker/live/{viewer.made.job.id}", "count": 3, "seconds": CHUNK_S}
    left, end = viewer.page.evaluate(FEED, arguments)
    assert left == 0 and end >= 3 * CHUNK_S - 0.05
