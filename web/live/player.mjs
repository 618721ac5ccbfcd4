/** The player on a node: a job's video while it is made, what is known of it, and the drift strip. */

import { DriftStrip } from "./drift.mjs";
import { Gone, openSource } from "./source.mjs";
import { clock, text } from "./texts.mjs";

/** Chunks that must lie ahead before playing starts or goes on: one may then come late by its own length. */
const LEAD_CHUNKS = 2;
/** Sound begins up to one AAC frame after its chunk's picture, and nothing can be played before both are there. */
const INTO_CHUNK_S = 0.1;
const EDGE_S = 0.25;

function make(tag, className, parent) {
  const element = document.createElement(tag);
  element.className = className;
  parent.append(element);
  return element;
}

export class LivePlayer {
  #video;
  #status;
  #live;
  #strip = new DriftStrip();
  #source = null;
  #record = null;
  #wantsToPlay = true;
  #isHeld = true;

  /** `isMuted`: it starts without sound, where another player of the same job has it. */
  constructor(isMuted) {
    this.element = document.createElement("div");
    this.element.className = "asymtalker-live";
    this.#video = make("video", "", this.element);
    Object.assign(this.#video, { controls: true, playsInline: true, muted: isMuted, preload: "auto" });
    const bar = make("div", "asymtalker-live-bar", this.element);
    this.#live = make("button", "", bar);
    Object.assign(this.#live, { type: "button", textContent: text("live"), title: text("live_hint") });
    this.#status = make("span", "", bar);
    this.element.append(this.#strip.element);
    this.#listen();
  }

  /** Show a job: {job, chunks} as the server tells them. Another job than before starts anew. */
  show(record) {
    const isNew = record.job.id !== this.#record?.job.id;
    this.#record = record;
    if (isNew) this.#open();
    this.#update();
  }

  /** The job's saved file takes over, where the playhead is. */
  showFile(address) {
    const time = this.#video.currentTime;
    const goesOn = this.#wantsToPlay && !this.#video.ended;
    this.#close();
    this.#isHeld = false;
    this.#live.hidden = true;
    this.element.dataset.state = "result";
    this.#video.src = address;
    this.#video.addEventListener("loadedmetadata", () => (this.#video.currentTime = time), { once: true });
    if (goesOn) this.#play();
  }

  close() {
    this.#close();
    this.element.remove();
  }

  #open() {
    this.#close();
    const { job, chunks } = this.#record;
    this.#video.removeAttribute("src");
    this.#video.style.aspectRatio = `${job.width} / ${job.height}`;
    Object.assign(this.element.dataset, { job: job.id, stalls: 0 });
    this.#live.hidden = false;
    [this.#wantsToPlay, this.#isHeld] = [true, true];
    // Whoever comes in the middle of a job sees what is being made.
    const first = Math.max(chunks.length - LEAD_CHUNKS, 0);
    this.#source = openSource(this.#video, job.url, first, (error) => this.#fail(error));
    if (first > 0) this.#seekWhenOpen(this.#start(first) + INTO_CHUNK_S);
  }

  #seekWhenOpen(time) {
    this.#source.playhead(time);
    this.#video.addEventListener("loadedmetadata", () => (this.#video.currentTime = time), { once: true });
  }

  #close() {
    this.#source?.close();
    this.#source = null;
  }

  #fail(error) {
    this.element.dataset.state = "failed";
    this.#status.textContent = error instanceof Gone ? text("gone") : error.message;
    this.#close();
  }

  #update() {
    const { job, chunks } = this.#record;
    const isOver = job.state !== "running";
    if (this.#source) {
      this.element.dataset.state = job.state;
      this.#source.update({
        starts: chunks.map((chunk) => chunk.first_frame / job.fps),
        ends: chunks.map((chunk) => (chunk.first_frame + chunk.frames) / job.fps),
        over: isOver,
        duration: job.frames / job.fps,
      });
      this.#status.textContent = describe(job);
    }
    this.#strip.draw(chunks, job.chunks);
    this.#goOn();
  }

  #start(index) {
    return this.#record.chunks[index].first_frame / this.#record.job.fps;
  }

  /** Seconds of the video that are finished. */
  get #edge() {
    const last = this.#record.chunks.at(-1);
    return last ? (last.first_frame + last.frames) / this.#record.job.fps : 0;
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

  /** Play if it is wanted, held, and enough is there. */
  #goOn() {
    if (!this.#source || !this.#isHeld || !this.#wantsToPlay) return;
    const { job, chunks } = this.#record;
    if (!chunks.length) return;
    const lead = Math.min((LEAD_CHUNKS - 0.5) * (chunks.at(-1).frames / job.fps), job.frames / job.fps);
    const isEnough = this.#source.buffersItself ? this.#video.readyState > 2 : this.#ahead >= lead;
    if (!isEnough && job.state === "running") return;
    this.#isHeld = false;
    this.#play();
  }

  async #play() {
    try {
      await this.#video.play();
    } catch (error) {
      // Before the first click on a page, browsers allow silent playing only. A newer load or pause is no fault.
      if (error.name !== "NotAllowedError" || this.#video.muted) return;
      this.#video.muted = true;
      this.#video.title = text("muted_hint");
      await this.#play();
    }
  }

  #hold() {
    this.#isHeld = true;
    this.#video.pause();
  }

  #listen() {
    const video = this.#video;
    const tell = () => this.#source?.playhead(video.currentTime);
    video.addEventListener("timeupdate", () => {
      tell();
      this.element.dataset.live = this.#source ? String(this.#edge - video.currentTime < this.#liveSpan) : "false";
    });
    video.addEventListener("progress", () => this.#goOn());
    video.addEventListener("canplay", () => this.#goOn());
    video.addEventListener("volumechange", () => !video.muted && (video.title = ""));
    video.addEventListener("play", () => ([this.#wantsToPlay, this.#isHeld] = [true, false]));
    video.addEventListener("pause", () => !this.#isHeld && !video.ended && (this.#wantsToPlay = false));
    video.addEventListener("seeking", () => {
      if (this.#source && video.currentTime > this.#edge - EDGE_S && this.#record.job.state === "running") {
        this.#goLive();
      }
      tell();
    });
    video.addEventListener("waiting", () => {
      if (!this.#source || video.seeking || video.paused) return;
      this.element.dataset.stalls = Number(this.element.dataset.stalls) + 1;
      if (!this.#source.buffersItself) this.#hold();
    });
    this.#live.addEventListener("click", () => {
      this.#wantsToPlay = true;
      this.#goLive();
      if (video.paused) this.#isHeld = true;
      this.#goOn();
    });
  }

  get #liveSpan() {
    const last = this.#record.chunks.at(-1);
    return last ? ((LEAD_CHUNKS + 1) * last.frames) / this.#record.job.fps : 0;
  }

  #goLive() {
    const first = Math.max(this.#record.chunks.length - LEAD_CHUNKS, 0);
    if (!this.#record.chunks.length) return;
    const time = this.#start(first) + INTO_CHUNK_S;
    this.#source?.playhead(time);
    this.#video.currentTime = time;
  }
}

function describe(job) {
  const values = { done: job.done, chunks: job.chunks };
  if (job.state === "stopped") return text("stopped", values);
  const parts = [text("chunk", values)];
  if (job.made_fps !== null) {
    parts.push(text("speed", { fps: job.made_fps.toFixed(1), factor: (job.made_fps / job.fps).toFixed(2) }));
  }
  if (job.state === "finished") parts.push(text("finished"));
  else parts.push(job.seconds_left === null ? text("starting") : text("left", { time: clock(job.seconds_left) }));
  return parts.join(" · ");
}
