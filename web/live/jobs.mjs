/** The browser's copy of the server's jobs, updated by the server's events. */

import { api } from "../../../scripts/api.js";

const ROUTE = "/asymtalker/live";

/** {job, chunks}: a job with its address and all of its finished chunks. */
export class Jobs {
  #records = new Map();
  #onChange;

  /** `onChange(record)` after every change of a job. */
  constructor(onChange) {
    this.#onChange = onChange;
  }

  /** An event of the server: {job, chunk}, chunk null at the beginning and the end. */
  async take({ job, chunk }) {
    const record = this.#records.get(job.id);
    if (record && chunk?.index === record.chunks.length) record.chunks.push(chunk);
    if (record && record.chunks.length === job.done) this.#put(job, record.chunks);
    else if (record || job.done) await this.#load(job.id);
    else this.#put(job, []);
  }

  /** All jobs, oldest first. */
  all() {
    return [...this.#records.values()];
  }

  /** Fetch the jobs from the server after a reload or a reconnect. */
  async refresh() {
    const response = await api.fetchApi(ROUTE);
    if (!response.ok) return;
    const jobs = await response.json();
    for (const job of jobs) await this.#load(job.id);
    for (const { job, chunks } of this.all()) {
      // The server was restarted, so their end will not be reported.
      if (job.state === "running" && !jobs.some((other) => other.id === job.id)) {
        this.#put({ ...job, state: "stopped", resumes: job.resumes && chunks.length > 0 }, chunks);
      }
    }
  }

  /** Files that a prompt has saved, by node id; null while it is not over. */
  async outputs(promptId) {
    const response = await api.fetchApi(`/history/${promptId}`);
    return response.ok ? ((await response.json())[promptId]?.outputs ?? null) : null;
  }

  async #load(id) {
    const response = await api.fetchApi(`${ROUTE}/${id}`);
    if (!response.ok) return null;
    const { job, chunks } = await response.json();
    return this.#put(job, chunks);
  }

  #put(job, chunks) {
    const known = this.#records.get(job.id);
    // A response can be older than an event that arrived in the meantime.
    if (known && known.chunks.length > chunks.length) return known;
    const url = new URL(api.apiURL(`${ROUTE}/${job.id}`), location.href).href;
    const record = { job: { ...job, url }, chunks };
    this.#records.set(job.id, record);
    this.#onChange(record);
    return record;
  }
}
