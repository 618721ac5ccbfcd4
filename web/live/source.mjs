/**
 * Feeds a MediaSource with a job's finished chunks: those around the playhead, and no others.
 *
 * Runs in a worker where the browser can hand a MediaSource over from there: the page's own work then causes no stalls.
 */

const AHEAD_S = 30;
const BEHIND_S = 60;

/** The job's chunks are no longer served. */
export class Gone extends Error {}

export class LiveSource {
  #url;
  #onFailure;
  #chunks = { starts: [], ends: [], over: false, duration: 0 };
  #loaded = new Set();
  #playhead = 0;
  #buffer = null;
  #pumping = false;
  #resting = false;
  #closed = false;

  /** `url`: absolute address of the job. `onFailure(error)`: nothing more will come. */
  constructor(url, onFailure) {
    this.#url = url;
    this.#onFailure = onFailure;
    this.mediaSource = new MediaSource();
    this.mediaSource.addEventListener("sourceopen", () => this.#pump());
  }

  /** `starts`, `ends`: seconds of the finished chunks; `over`: no more come; `duration`: of the whole video. */
  update(chunks) {
    this.#chunks = chunks;
    this.#pump();
  }

  /** The playhead is at `time` (seconds): fetch from there. */
  playhead(time) {
    this.#playhead = time;
    this.#pump();
  }

  /** Pause fetching while the player is not visible, or resume it. */
  rest(isResting) {
    this.#resting = isResting;
    this.#pump();
  }

  close() {
    this.#closed = true;
  }

  get #isStopped() {
    return this.#closed || this.#resting;
  }

  async #pump() {
    if (this.#pumping || this.#isStopped || this.mediaSource.readyState === "closed") return;
    this.#pumping = true;
    try {
      for (let index = this.#next(); index >= 0 && !this.#isStopped; index = this.#next()) {
        await this.#open();
        await this.#append(await this.#fetch(index));
        this.#loaded.add(index);
        await this.#evict();
      }
      this.#finish();
    } catch (error) {
      if (!this.#closed) {
        this.#closed = true;
        this.#onFailure(error);
      }
    } finally {
      this.#pumping = false;
    }
  }

  /** Index of the first chunk that is needed but not buffered, or -1. */
  #next() {
    const { starts, ends } = this.#chunks;
    const isNeeded = (end, i) =>
      !this.#loaded.has(i) && end > this.#playhead && starts[i] < this.#playhead + AHEAD_S;
    return ends.findIndex(isNeeded);
  }

  async #open() {
    if (this.#buffer) return;
    const init = await this.#get("init");
    this.#buffer = this.mediaSource.addSourceBuffer(init.headers.get("Content-Type"));
    this.mediaSource.duration = this.#chunks.duration;
    await this.#append(await init.arrayBuffer());
  }

  async #fetch(index) {
    return (await this.#get(index)).arrayBuffer();
  }

  async #get(part) {
    const response = await fetch(`${this.#url}/${part}`);
    if (response.status === 404 || response.status === 410) throw new Gone(await response.text());
    if (!response.ok) throw new Error(`${response.status} ${response.statusText}`);
    return response;
  }

  #append(data) {
    return this.#settled(() => this.#buffer.appendBuffer(data));
  }

  /** Remove data far behind the playhead, and far ahead of it after scrubbing back. */
  async #evict() {
    const { starts, ends } = this.#chunks;
    for (const index of [...this.#loaded]) {
      if (ends[index] < this.#playhead - BEHIND_S || starts[index] > this.#playhead + AHEAD_S + BEHIND_S) {
        this.#loaded.delete(index);
        await this.#settled(() => this.#buffer.remove(starts[index], ends[index]));
      }
    }
  }

  #settled(change) {
    // The first event removes both listeners: a remaining one would keep its chunk in memory as long as the buffer.
    const listening = new AbortController();
    const { signal } = listening;
    return new Promise((resolve, reject) => {
      this.#buffer.addEventListener("updateend", resolve, { signal });
      this.#buffer.addEventListener("error", () => reject(new Error("the browser cannot play a chunk")), { signal });
      change();
    }).finally(() => listening.abort());
  }

  #finish() {
    const { ends, over } = this.#chunks;
    const isLastThere = this.#loaded.has(ends.length - 1);
    if (over && isLastThere && this.mediaSource.readyState === "open") this.mediaSource.endOfStream();
  }
}

/**
 * Play the job at `url` in `video`, from chunk `first` on. Returns {isFile, update, playhead, rest, close}, and
 * `seek` where it is a file.
 *
 * If MediaSource is unavailable or not allowed (ComfyUI's --disable-api-nodes forbids blob: addresses), the job is
 * played as one endless file, and the browser controls the buffering.
 */
export function openSource(video, url, first, onFailure) {
  let source = null;
  let last = null;
  let isFile = !window.MediaSource;
  const open = () => {
    const openOne = isFile ? openFile : MediaSource.canConstructInDedicatedWorker ? openInWorker : openHere;
    source = openOne(video, url, first, onFailure);
    if (last) source.update(last);
  };
  const onError = () => {
    if (isFile || video.readyState > 0) return onFailure(new Error(video.error?.message));
    source.close();
    isFile = true;
    open();
  };
  video.addEventListener("error", onError);
  open();
  return {
    get isFile() {
      return isFile;
    },
    update: (chunks) => source.update((last = chunks)),
    seek: (time) => source.seek(time),
    playhead: (time) => source.playhead(time),
    rest: (isResting) => source.rest(isResting),
    close: () => {
      video.removeEventListener("error", onError);
      source.close();
    },
  };
}

function openHere(video, url, first, onFailure) {
  const source = new LiveSource(url, onFailure);
  const address = URL.createObjectURL(source.mediaSource);
  video.src = address;
  return {
    update: (chunks) => source.update(chunks),
    playhead: (time) => source.playhead(time),
    rest: (isResting) => source.rest(isResting),
    close: () => {
      source.close();
      URL.revokeObjectURL(address);
    },
  };
}

let spare = null;

/** Start a worker for the next job in advance. */
export function prepareSource() {
  if (window.MediaSource?.canConstructInDedicatedWorker) {
    spare ??= new Worker(new URL("./source_worker.mjs", import.meta.url), { type: "module" });
  }
}

function openInWorker(video, url, first, onFailure) {
  prepareSource();
  const worker = spare;
  spare = null;
  worker.addEventListener("message", ({ data }) => {
    if (data.handle) video.srcObject = data.handle;
    else onFailure(data.isGone ? new Gone(data.failure) : new Error(data.failure));
  });
  worker.addEventListener("error", (event) => onFailure(new Error(event.message)));
  worker.postMessage({ url });
  return {
    update: (chunks) => worker.postMessage({ chunks }),
    playhead: (time) => worker.postMessage({ time }),
    rest: (isResting) => worker.postMessage({ isResting }),
    close: () => {
      worker.terminate();
      video.srcObject = null;
    },
  };
}

/** Plays the job as one file that ends when the job does. Seeking reopens it. */
class FileSource {
  #video;
  #url;
  #starts = [];
  #time = 0;

  constructor(video, url, first) {
    [this.#video, this.#url] = [video, url];
    this.#open(first);
  }

  update({ starts }) {
    this.#starts = starts;
  }

  playhead() {}

  /** Go to the chunk at `time`: browsers do not seek in a file without an end. */
  seek(time) {
    this.#open(Math.max(this.#starts.findLastIndex((start) => start <= time), 0));
  }

  rest(isResting) {
    if (!isResting) return this.seek(this.#time);
    this.#time = this.#video.currentTime;
    this.#video.removeAttribute("src");
    this.#video.load();
  }

  close() {}

  #open(first) {
    this.#video.src = `${this.#url}/stream?first=${first}`;
  }
}

function openFile(video, url, first) {
  return new FileSource(video, url, first);
}
