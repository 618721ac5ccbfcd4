/** A job's state in words. */

import { isRunning, speedOf, waitUntilThrough } from "./pace.mjs";
import { clock, text } from "./texts.mjs";

/** `view`: {isWaiting: for the next chunk, isSlow: in slow motion}. */
export function describe(record, view) {
  const { job } = record;
  const values = { done: job.done, chunks: job.chunks, next: Math.min(job.done + 1, job.chunks) };
  if (isRunning(record)) return describeRunning(record, view, values);
  if (job.state === "finished") return [text("chunk", values), ...speed(record), text("finished")].join(" · ");
  const goesOn = job.resumes ? [text("goes_on", values)] : [];
  const how = job.state === "failed" ? text("failed", { error: job.error ?? "" }) : text("stopped", values);
  return [how, ...goesOn].join(" · ");
}

function describeRunning(record, { isWaiting, isSlow }, values) {
  const { job } = record;
  if (!job.done) return text("making", values);
  const parts = [text(isWaiting ? "waiting" : "chunk", values), ...speed(record)];
  if (job.seconds_left !== null) parts.push(text("left", { time: clock(job.seconds_left) }));
  if (isSlow) parts.push(text("slow", { time: clock(waitUntilThrough(record, 0)) }));
  return parts.join(" · ");
}

function speed(record) {
  const factor = speedOf(record);
  return factor === null ? [] : [text("speed", { fps: record.job.made_fps.toFixed(1), factor: factor.toFixed(2) })];
}
