/** How a job ({job, chunks}) progresses, in seconds of its video. */

/** What is left may take so much longer than the time left that the server tells. */
const MARGIN = 1.05;

export function isRunning({ job }) {
  return job.state === "running";
}

export function startOf({ job, chunks }, index) {
  return chunks[index].first_frame / job.fps;
}

/** Length of the newest chunk; 0 if there is none. */
export function chunkSeconds({ job, chunks }) {
  return chunks.length ? chunks.at(-1).frames / job.fps : 0;
}

/** Where the finished part ends. */
export function edgeOf(record) {
  return record.chunks.length ? startOf(record, record.chunks.length - 1) + chunkSeconds(record) : 0;
}

export function durationOf({ job }) {
  return job.frames / job.fps;
}

/** Speed relative to real time; null where it is not measured yet. */
export function speedOf({ job }) {
  return job.made_fps === null ? null : job.made_fps / job.fps;
}

/** Seconds of waiting until it can be played from `time` on without a stop; 0: at once. */
export function waitUntilThrough(record, time) {
  const speed = speedOf(record);
  if (!isRunning(record) || speed === null || speed >= 1) return 0;
  return Math.max(record.job.seconds_left - (durationOf(record) - time) / MARGIN, 0);
}
