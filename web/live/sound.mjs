/**
 * One player in one tab plays with sound: the first that requests it. The others stay muted until it is done.
 *
 * The mute setting is saved for all tabs.
 */

const KEY = "AsymTalker.muted";
/** A tab that has the sound answers within this time. */
const ANSWER_MS = 100;

export class Sound {
  #id = Math.random().toString(36).slice(2);
  #tabs = new BroadcastChannel("asymtalker.sound");
  #holder = null;
  #waiting = new Set();
  #isAsking = false;
  #isHeldElsewhere = false;
  #isFreed = false;

  constructor() {
    this.#tabs.addEventListener("message", ({ data }) => this.#receive(data));
    window.addEventListener("pagehide", () => this.#holder && this.#send("free"));
  }

  /** Whether the user turned the sound off. */
  get isMuted() {
    return localStorage.getItem(KEY) === "true";
  }

  /** Unmute `player` (with `setMuted(false)`) now, or when the current player is done. */
  async request(player) {
    if (this.isMuted || this.#holder === player) return;
    this.#waiting.add(player);
    if (this.#holder || this.#isAsking) return;
    this.#isAsking = true;
    do {
      [this.#isHeldElsewhere, this.#isFreed] = [false, false];
      this.#send("ask");
      await new Promise((resolve) => setTimeout(resolve, ANSWER_MS));
      // The tab that has it may answer and then be done before the answer is read.
    } while (this.#isHeldElsewhere && this.#isFreed);
    this.#isAsking = false;
    if (!this.#isHeldElsewhere && !this.#holder) this.#giveToFirst();
  }

  /** `player` has stopped or is no longer visible. */
  release(player) {
    this.#waiting.delete(player);
    if (this.#holder !== player) return;
    this.#holder = null;
    player.setMuted(true);
    this.#send("free");
    this.#next();
  }

  /** The user turned `player`'s sound on: mute all others. */
  take(player) {
    localStorage.setItem(KEY, "false");
    this.#send("take");
    if (this.#holder !== player) this.#yield();
    this.#give(player);
  }

  /** The user turned `player`'s sound off: save that. */
  mute(player) {
    localStorage.setItem(KEY, "true");
    this.release(player);
  }

  #giveToFirst() {
    const [player] = this.#waiting;
    if (player && !this.isMuted) this.#give(player);
  }

  #give(player) {
    this.#waiting.delete(player);
    this.#holder = player;
    player.setMuted(false);
  }

  /** Mute the current player and put it in the queue. */
  #yield() {
    const player = this.#holder;
    if (!player) return;
    this.#holder = null;
    this.#waiting.add(player);
    player.setMuted(true);
  }

  #next() {
    const [player] = this.#waiting;
    if (player) this.request(player);
  }

  #send(type) {
    this.#tabs.postMessage({ type, from: this.#id });
  }

  #receive({ type, from }) {
    // Of tabs that ask at the same time, one gets it.
    if (type === "ask" && (this.#holder || (this.#isAsking && this.#id < from))) this.#send("held");
    else if (type === "held") this.#isHeldElsewhere = true;
    else if (type === "take") this.#yield();
    else if (type === "free") {
      this.#isFreed = true;
      this.#next();
    }
  }
}
