/** The player of a job: its video while it is made, what is known of it, and the drift strip. */

import { describe } from "./describe.mjs";
import { chunkSeconds, durationOf, edgeOf, isRunning, speedOf, startOf, waitUntilThrough } from "./pace.mjs";
import { Panel } from "./panel.mjs";
import { watchSight } from "./sight.mjs";
import { Gone, openSource } from "./source.mjs";
import { text } from "./texts.mjs";

/** Chunks that must lie ahead before playing starts or goes on: one may then come late by its own length. */
const LEAD_CHUNKS = 2;
/** Sound begins up to one AAC frame after its chunk's picture, and nothing can be played before both are there. */
const INTO_CHUNK_S = 0.1;
const EDGE_S = 0.25;
/** Slow motion is a little slower than the job, so that it does not catch up, and no slower than browsers can play. */
const SLOW_SHARE = 0.9;
const SLOWEST = 0.1;
/** The server sends no previews of a job that is watched, until a few seconds after the last time it was told. */
const WATCH_EVERY_MS = 2000;

export class LivePlayer {
  #sound;
  #onSight;
  #panel = new Panel();
  #video = this.#panel.video;
  #endSight;
  #parent = null;
  #poster = "";
  #watching = 0;

  #record = null;
  #source = null;
  #result = null;
  #fault = null;

  #isSeen = false;
  #wantsToPlay = true;
  #isHeld = true;
  #isSlow = false;
  /** Whether the user wants to hear a job that is slower than real time. */
  #isNeverSlow = false;
  #isMuted = true;

  /** `sound`: decides which player sounds. `onSight(isSeen)`: it has come into sight, or gone out of it. */
  constructor(sound, onSight) {
    this.#sound = sound;
    this.#onSight = onSight;
    this.element = this.#panel.element;
    this.#listen();
    this.#endSight = watchSight(this.#video, (isSeen) => this.#see(isSeen));
  }

  get record() {
    return this.#record;
  }

  get isSeen() {
    return this.#isSeen;
  }

  /** Whether it shows the saved file. */
  get hasResult() {
    return this.#result !== null;
  }

  /** Show a job: {job, chunks} as the server tells them. Another job than before starts anew. */
  show(record) {
    const isNew = record.job.id !== this.#record?.job.id;
    this.#record = record;
    if (isNew) this.#start();
    if (this.#source && this.#isSeen) this.#feed();
    this.#openIfSeen();
    this.#settlePace();
    this.#goOn();
    this.#draw();
  }

  /** The job's saved file takes over, where the playhead is. */
  showFile(address) {
    const time = this.#isSlow ? 0 : this.#video.currentTime;
    this.#wantsToPlay &&= !this.#video.ended;
    this.#closeSource();
    this.#result = { address, time };
    this.#setRate(1, false);
    this.#isHeld = true;
    this.#openResult();
    this.#goOn();
    this.#draw();
  }

  /** A preview picture of what is being made, until there is something to play. */
  showPreview(blob) {
    URL.revokeObjectURL(this.#poster);
    this.#poster = blob ? URL.createObjectURL(blob) : "";
    this.#video.poster = this.#poster;
  }

  /** For the one who decides which player sounds. */
  setMuted(isMuted) {
    // Before the first click on a page, browsers stop what begins to sound.
    const isAllowed = navigator.userActivation?.hasBeenActive ?? true;
    this.#isMuted = isMuted || !isAllowed;
    this.#video.muted = this.#isMuted;
    this.#video.title = isMuted || isAllowed ? "" : text("muted_hint");
    if (!isMuted && !isAllowed) {
      document.addEventListener("pointerup", () => this.#video.title && this.setMuted(false), { once: true });
    }
  }

  close() {
    this.#endSight();
    this.#rest();
    this.#closeSource();
    this.showPreview(null);
    this.element.remove();
  }

  #start() {
    this.#closeSource();
    [this.#result, this.#fault] = [null, null];
    [this.#wantsToPlay, this.#isHeld, this.#isNeverSlow] = [true, true, false];
    this.#setRate(1, false);
    this.#video.load();
    Object.assign(this.element.dataset, { job: this.#record.job.id, stalls: 0 });
  }

  /** Nothing is fetched before it can be seen, and is there. */
  #openIfSeen() {
    if (this.#source || this.#result || this.#fault || !this.#isSeen || !this.#record?.chunks.length) return;
    const { job, chunks } = this.#record;
    // Whoever comes in the middle of a job sees what is being made.
    const first = isRunning(this.#record) ? Math.max(chunks.length - LEAD_CHUNKS, 0) : 0;
    this.#source = openSource(this.#video, job.url, first, (error) => this.#fail(error));
    this.#feed();
    if (first > 0 && !this.#source.isFile) this.#seekWhenOpen(startOf(this.#record, first) + INTO_CHUNK_S);
    this.#watch();
  }

  #openResult() {
    if (!this.#isSeen || this.#video.src) return;
    this.#video.src = this.#result.address;
    this.#seekWhenOpen(this.#result.time);
  }

  #seekWhenOpen(time) {
    this.#source?.playhead(time);
    this.#video.addEventListener("loadedmetadata", () => (this.#video.currentTime = time), { once: true });
  }

  #closeSource() {
    clearInterval(this.#watching);
    this.#source?.close();
    this.#source = null;
    this.#video.removeAttribute("src");
  }

  #feed() {
    const { job, chunks } = this.#record;
    this.#source.update({
      starts: chunks.map((chunk) => chunk.first_frame / job.fps),
      ends: chunks.map((chunk) => (chunk.first_frame + chunk.frames) / job.fps),
      over: !isRunning(this.#record),
      duration: durationOf(this.#record),
    });
  }

  /** Tell the server that somebody watches, for as long as that is so. */
  #watch() {
    clearInterval(this.#watching);
    const tell = () => {
      if (isRunning(this.#record)) fetch(`${this.#record.job.url}/watch`, { method: "POST" }).catch(() => {});
      else clearInterval(this.#watching);
    };
    tell();
    this.#watching = setInterval(tell, WATCH_EVERY_MS);
  }

  #fail(error) {
    this.#closeSource();
    this.#fault = error instanceof Gone ? text("gone") : error.message;
    this.#draw();
  }

  #see(isSeen) {
    this.#isSeen = isSeen;
    if (isSeen) this.#wake();
    else this.#rest();
    this.#onSight(isSeen);
  }

  /** Neither play nor fetch. */
  #rest() {
    this.#hold();
    this.#sound.release(this);
    this.#source?.rest(true);
    clearInterval(this.#watching);
  }

  #wake() {
    if (!this.#record) return;
    if (this.#source) {
      this.#source.rest(false);
      this.#feed();
      this.#watch();
      if (this.element.dataset.live === "true" && isRunning(this.#record)) this.#goLive();
    } else if (this.#result) {
      this.#openResult();
    } else {
      this.#openIfSeen();
    }
    this.#goOn();
    this.#draw();
  }

  /** Seconds that can be played on from here. */
  get #ahead() {
    const { buffered, currentTime } = this.#video;
    for (let i = 0; i < buffered.length; i++) {
      if (buffered.start(i) <= currentTime + INTO_CHUNK_S && currentTime < buffered.end(i)) {
        return buffered.end(i) - currentTime;
      }
    }
    return 0;
  }

  /** Play if it is wanted, held, seen, and enough is there. */
  #goOn() {
    if (!this.#isSeen || !this.#isHeld || !this.#wantsToPlay || !(this.#source || this.#result)) return;
    if (this.#source && isRunning(this.#record)) {
      const wait = this.#isNeverSlow ? 0 : waitUntilThrough(this.#record, this.#video.currentTime);
      if (wait > 0) this.#setRate(Math.min(Math.max(SLOW_SHARE * speedOf(this.#record), SLOWEST), 1), true);
      if (!this.#isEnough()) return;
    }
    this.#isHeld = false;
    this.#play();
  }

  #isEnough() {
    // What is buffered can be played a moment later only.
    if (this.#video.readyState < HTMLMediaElement.HAVE_FUTURE_DATA) return false;
    if (this.#source.isFile) return true;
    const chunks = this.#isSlow ? 1 : LEAD_CHUNKS;
    return this.#ahead >= Math.min((chunks - 0.5) * chunkSeconds(this.#record), durationOf(this.#record));
  }

  #setRate(rate, isSlow) {
    [this.#video.playbackRate, this.#isSlow] = [rate, isSlow];
    if (isSlow) this.#sound.release(this);
  }

  /** Out of slow motion, as soon as all of it can be played with its sound. */
  #settlePace() {
    if (!this.#isSlow || this.#result || waitUntilThrough(this.#record, 0) > 0) return;
    this.#setRate(1, false);
    if (!this.#wantsToPlay) return;
    this.#hold();
    this.#seekTo(0);
  }

  async #play() {
    try {
      await this.#video.play();
    } catch (error) {
      // A newer load or pause is no fault; the source reports what cannot be played.
      if (error.name === "NotAllowedError") this.#wantsToPlay = false;
      return;
    }
    if (!this.#isSlow && this.#isSeen) this.#sound.request(this);
  }

  #hold() {
    this.#isHeld = true;
    this.#video.pause();
  }

  #draw() {
    if (!this.#record) return;
    const isReady = this.#video.seeking || this.#video.readyState >= HTMLMediaElement.HAVE_FUTURE_DATA;
    const state = this.#state(!this.#video.paused && !this.#isHeld && isReady);
    const span = (LEAD_CHUNKS + 1) * chunkSeconds(this.#record);
    const isNear = this.#video.currentTime > 0 && edgeOf(this.#record) - this.#video.currentTime < span;
    const canGoLive = Boolean(this.#source) && isRunning(this.#record);
    this.#panel.draw(this.#record, {
      state,
      canGoLive,
      isLive: canGoLive && isNear && !this.#isSlow,
      isFile: Boolean(this.#source?.isFile),
      status: this.#fault ?? describe(this.#record, { isWaiting: state === "waiting", isSlow: this.#isSlow }),
    });
  }

  #state(isPlaying) {
    const { job, chunks } = this.#record;
    if (this.#fault) return "failed";
    if (this.#result) return "result";
    if (!isRunning(this.#record)) return job.state;
    if (!chunks.length) return "making";
    if (isPlaying) return "playing";
    return this.#wantsToPlay ? "waiting" : "paused";
  }

  #listen() {
    const video = this.#video;
    const goOn = () => {
      this.#goOn();
      this.#draw();
    };
    for (const name of ["progress", "canplay", "playing"]) video.addEventListener(name, goOn);
    video.addEventListener("timeupdate", () => {
      this.#source?.playhead(video.currentTime);
      this.#draw();
    });
    video.addEventListener("volumechange", () => this.#onVolume());
    video.addEventListener("play", () => this.#onPlay());
    video.addEventListener("pause", () => this.#onPause());
    // What is opened anew does not play by itself.
    video.addEventListener("emptied", () => (this.#isHeld = true));
    video.addEventListener("ended", () => this.#sound.release(this));
    video.addEventListener("seeking", () => this.#onSeeking());
    video.addEventListener("waiting", () => this.#onWaiting());
    const { live, position } = this.#panel;
    position.addEventListener("change", () => this.#seekTo(position.valueAsNumber));
    live.addEventListener("click", () => {
      this.#wantsToPlay = true;
      this.#goLive();
      if (video.paused) this.#isHeld = true;
      goOn();
    });
  }

  #onVolume() {
    if (this.#video.muted === this.#isMuted) return;
    // It was the user.
    this.#isMuted = this.#video.muted;
    if (this.#isMuted) return this.#sound.mute(this);
    this.#isNeverSlow = true;
    if (this.#isSlow) this.#setRate(1, false);
    this.#sound.take(this);
  }

  #onPlay() {
    // With what is not there yet, the user's wish is kept.
    [this.#wantsToPlay, this.#isHeld] = [true, false];
    this.#parent = this.element.parentElement;
    this.#draw();
  }

  #onPause() {
    // It was held, and goes on already.
    if (!this.#video.paused) return;
    // A node that is drawn anew moves the player, and browsers then pause it.
    const isMoved = this.element.parentElement !== this.#parent;
    if (isMoved) this.#isHeld = true;
    else if (!this.#isHeld && !this.#video.ended && this.#isSeen) {
      this.#wantsToPlay = false;
      this.#sound.release(this);
    }
    this.#goOn();
    this.#draw();
  }

  #onSeeking() {
    const { currentTime } = this.#video;
    if (this.#source && isRunning(this.#record) && currentTime > edgeOf(this.#record) - EDGE_S) this.#goLive();
    this.#source?.playhead(this.#video.currentTime);
  }

  #onWaiting() {
    if (!this.#source || this.#video.seeking || this.#video.paused) return;
    this.element.dataset.stalls = Number(this.element.dataset.stalls) + 1;
    if (!this.#source.isFile) this.#hold();
    this.#draw();
  }

  #goLive() {
    const { chunks } = this.#record;
    if (!chunks.length) return;
    this.#seekTo(startOf(this.#record, Math.max(chunks.length - LEAD_CHUNKS, 0)) + INTO_CHUNK_S);
  }

  #seekTo(time) {
    this.#source?.playhead(time);
    if (this.#source?.isFile) this.#source.seek(time);
    else this.#video.currentTime = time;
  }
}
