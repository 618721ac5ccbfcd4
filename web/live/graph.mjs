/** Finds a job's nodes in the open workflow. The server's id of a node is its path: "7", or "12:7" in a subgraph. */

import { app } from "../../../scripts/app.js";

const SAMPLER = "AsymTalkerSampler";
const MUX = "AsymTalkerMux";

/** The nodes from the outermost graph down to the one with the path `id`; null where there is no such node. */
function nodesAlong(id) {
  const nodes = [];
  let graph = app.graph;
  for (const part of String(id).split(":")) {
    const node = graph?.nodes?.find((one) => String(one.id) === part);
    if (!node) return null;
    nodes.push(node);
    graph = node.subgraph;
  }
  return nodes;
}

/** The node of the graph on the canvas that the node with the path `id` is, or lies in; null where it lies elsewhere. */
function shownNode(id, type) {
  const nodes = nodesAlong(id);
  if (nodes?.at(-1).comfyClass !== type) return null;
  return nodes.find((node) => node.graph === (app.canvas?.graph ?? app.graph)) ?? null;
}

/** Whether a job belongs to the open workflow. */
export function isOfThisWorkflow(job) {
  if (job.workflow && job.workflow !== app.graph?.id) return false;
  return nodesAlong(job.node)?.at(-1).comfyClass === SAMPLER;
}

/** The nodes on the canvas that show a job, each {id, node, isMux}: the Sampler's first, and one player a node. */
export function nodesOf(job) {
  if (!isOfThisWorkflow(job)) return [];
  const found = new Map();
  const add = (id, type) => {
    const node = shownNode(id, type);
    if (node && !found.has(node)) found.set(node, { id, node, isMux: type === MUX });
  };
  add(job.node, SAMPLER);
  for (const id of job.savers) add(id, MUX);
  return [...found.values()];
}
