/** The player of a job: its video during generation, its state, and the drift strip. */

import { describe } from "./describe.mjs";
import { chunkSeconds, durationOf, edgeOf, isRunning, speedOf, startOf, waitUntilThrough } from "./pace.mjs";
import { Panel } from "./panel.mjs";
import { watchSight } from "./sight.mjs";
import { Gone, openSource } from "./source.mjs";
import { text } from "./texts.mjs";

/** Chunks that must be buffered before playback starts or resumes: a chunk may then be late by its own length. */
const LEAD_CHUNKS = 2;
/** Sound begins up to one AAC frame after its chunk's picture, and playback needs both. */
const INTO_CHUNK_S = 0.1;
const EDGE_S = 0.25;
/** Slow motion is a little slower than the job, so that it does not catch up, but within the limits of browsers. */
const SLOW_SHARE = 0.9;
const SLOWEST = 0.1;
/** The server sends no previews of a watched job until a few seconds after the last notification. */
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
  /** Whether the user turned on the sound of a job that is slower than real time. */
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

  /** Show a job: {job, chunks} as the server sends them. Another job than the current one starts from the beginning. */
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

  /** Show the job's saved file from the current position. */
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

  /** Show a preview picture until the first chunk can be played. */
  showPreview(blob) {
    URL.revokeObjectURL(this.#poster);
    this.#poster = blob ? URL.createObjectURL(blob) : "";
    this.#video.poster = this.#poster;
  }

  /** Called by Sound. */
  setMuted(isMuted) {
    // Before the first click on a page, browsers pause videos that start with sound.
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

  /** Open the source once the player is visible and a chunk is finished. */
  #openIfSeen() {
    if (this.#source || this.#result || this.#fault || !this.#isSeen || !this.#record?.chunks.length) return;
    const { job, chunks } = this.#record;
    // A player that opens during a job starts at the newest chunks.
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

  /** Notify the server regularly while the job is being watched. */
  #watch() {
    clearInterval(this.#watching);
    const notify = () => {
      if (isRunning(this.#record)) fetch(`${this.#record.job.url}/watch`, { method: "POST" }).catch(() => {});
      else clearInterval(this.#watching);
    };
    notify();
    this.#watching = setInterval(notify, WATCH_EVERY_MS);
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

  /** Stop playing and fetching. */
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

  /** Seconds buffered ahead of the playhead. */
  get #ahead() {
    const { buffered, currentTime } = this.#video;
    for (let i = 0; i < buffered.length; i++) {
      if (buffered.start(i) <= currentTime + INTO_CHUNK_S && currentTime < buffered.end(i)) {
        return buffered.end(i) - currentTime;
      }
    }
    return 0;
  }

  /** Resume a held video if the user has not paused it, it is visible, and enough is buffered. */
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
    // Buffered data can be played only after a short delay.
    if (this.#video.readyState < HTMLMediaElement.HAVE_FUTURE_DATA) return false;
    if (this.#source.isFile) return true;
    const chunks = this.#isSlow ? 1 : LEAD_CHUNKS;
    return this.#ahead >= Math.min((chunks - 0.5) * chunkSeconds(this.#record), durationOf(this.#record));
  }

  #setRate(rate, isSlow) {
    [this.#video.playbackRate, this.#isSlow] = [rate, isSlow];
    if (isSlow) this.#sound.release(this);
  }

  /** Leave slow motion as soon as the whole video can be played with its sound. */
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
      // A newer load or pause is not an error; the source reports data that cannot be played.
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
    // A reopened source does not start playing on its own.
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
    // The user changed it.
    this.#isMuted = this.#video.muted;
    if (this.#isMuted) return this.#sound.mute(this);
    this.#isNeverSlow = true;
    if (this.#isSlow) this.#setRate(1, false);
    this.#sound.take(this);
  }

  #onPlay() {
    // The video was held again in the meantime.
    if (this.#video.paused) return;
    // If the data is not available yet, playback starts later.
    [this.#wantsToPlay, this.#isHeld] = [true, false];
    this.#parent = this.element.parentElement;
    this.#draw();
  }

  #onPause() {
    // The video was held and is already playing again.
    if (!this.#video.paused) return;
    // Redrawing or collapsing a node moves the player in the document or takes it out, and browsers then pause it.
    const isMoved = !this.element.isConnected || this.element.parentElement !== this.#parent;
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
