/** How a job ({job, chunks}) progresses, in seconds of its video. */

/** Safety factor on the time left that the server reports. */
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

/** Time at which the finished part ends. */
export function edgeOf(record) {
  return record.chunks.length ? startOf(record, record.chunks.length - 1) + chunkSeconds(record) : 0;
}

export function durationOf({ job }) {
  return job.frames / job.fps;
}

/** Speed relative to real time; null until it has been measured. */
export function speedOf({ job }) {
  return job.made_fps === null ? null : job.made_fps / job.fps;
}

/** Seconds to wait before it can be played from `time` without stalling; 0 if it can be played now. */
export function waitUntilThrough(record, time) {
  const speed = speedOf(record);
  if (!isRunning(record) || speed === null || speed >= 1) return 0;
  return Math.max(record.job.seconds_left - (durationOf(record) - time) / MARGIN, 0);
}
