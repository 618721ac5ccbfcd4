/** The elements of a player: video, status line and drift strip. */

import { DriftStrip } from "./drift.mjs";
import { edgeOf } from "./pace.mjs";
import { text } from "./texts.mjs";

function make(tag, className, parent) {
  const element = document.createElement(tag);
  element.className = className;
  parent.append(element);
  return element;
}

export class Panel {
  #status;
  #strip = new DriftStrip();

  constructor() {
    this.element = document.createElement("div");
    this.element.className = "asymtalker-live";
    this.video = make("video", "", this.element);
    Object.assign(this.video, { controls: true, playsInline: true, muted: true, preload: "auto" });
    const bar = make("div", "asymtalker-live-bar", this.element);
    this.live = make("button", "", bar);
    Object.assign(this.live, { type: "button", textContent: text("live"), title: text("live_hint"), hidden: true });
    /** Replaces the browser's own slider, which does not work with an endless file. */
    this.position = make("input", "", bar);
    Object.assign(this.position, { type: "range", min: 0, step: 0.1, hidden: true, title: text("position") });
    this.#status = make("span", "", bar);
    this.element.append(this.#strip.element);
  }

  /** `view`: {state, status: its text, isLive, canGoLive, isFile}. */
  draw(record, { state, status, isLive, canGoLive, isFile }) {
    Object.assign(this.element.dataset, { state, live: isLive, file: isFile });
    this.live.hidden = !canGoLive;
    this.position.hidden = !isFile;
    if (isFile) Object.assign(this.position, { max: edgeOf(record), value: this.video.currentTime });
    this.#status.textContent = this.#status.title = status;
    this.#strip.draw(record.chunks, record.job.chunks);
  }
}
